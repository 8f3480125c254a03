"""Trains the descriptor network of the duplicate search (PyTorch on a GPU, five minutes); run by hand, not a test.

    python train_descriptor.py training.npy OUT.onnx --seconds 300

`training.npy` holds the Training faces of FER2013, uint8, shape (N, 48, 48). Two views of each picture are made,
cropped, mirrored, turned, with other contrast, noise, stamps and JPEG compression; the loss (InfoNCE: van den Oord et
al. 2018, arXiv:1807.03748) pulls the descriptors of two views of one picture together and pushes those of others away.
Half of it compares a descriptor with the signs of the other, which become the ten-byte hashes. One picture in six is
made (coloured noise, discs), so that pictures other than faces are not all alike.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE, SIZE = 48, 80
BATCH = 3072
TEMPERATURE = 0.06
RATE = 3e-3
LUMINANCE = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
DEVICE = torch.device("cuda")


class Descriptor(nn.Module):  # type: ignore[misc]
    """Seven convolutions, two of them bypassed, and one full layer; 536,808 parameters."""

    def __init__(self) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

        self.head = nn.Sequential(layer(1, 24, 2), layer(24, 48, 2))
        self.middle = nn.Sequential(layer(48, 48, 1), layer(48, 48, 1))
        self.down = layer(48, 96, 2)
        self.tail = nn.Sequential(layer(96, 96, 1), layer(96, 96, 1))
        self.full = nn.Linear(96 * 36, SIZE, bias=False)
        self.balance = nn.BatchNorm1d(SIZE, affine=False)

    def forward(self, pictures: Tensor) -> Tensor:
        features = self.head(pictures)
        features = features + self.middle(features)
        features = self.down(features)
        features = features + self.tail(features)
        descriptors: Tensor = self.balance(self.full(features.flatten(1)))
        return descriptors


def uniform(count: int, low: float, high: float) -> Tensor:
    return torch.rand(count, device=DEVICE) * (high - low) + low


def compress(pictures: Tensor, quality: Tensor) -> Tensor:
    """JPEG's loss: cosine transforms of 8 x 8 pixels, rounded to multiples that follow from the quality."""
    k = torch.arange(8.0, device=DEVICE)
    cosines = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * 0.5
    cosines[0] /= math.sqrt(2)
    base = torch.tensor([float(word) for word in LUMINANCE.split()], device=DEVICE).view(8, 8)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).view(-1, 1, 1, 1, 1)
    steps = torch.clamp(torch.floor((base * scale + 50) / 100), 1, 255)
    blocks = (pictures - 128).view(-1, 6, 8, 6, 8).permute(0, 1, 3, 2, 4)
    coefficients = torch.round(cosines @ blocks @ cosines.T / steps) * steps
    return (cosines.T @ coefficients @ cosines).permute(0, 1, 3, 2, 4).reshape(-1, SIDE, SIDE) + 128


def crop(pictures: Tensor, strength: float) -> Tensor:
    """Zoom by up to 1.32, shift by up to 7 pixels, turn by up to 7 degrees, mirror every other one."""
    count = len(pictures)
    zoom = torch.exp(uniform(count, -1, 1) * math.log(1.32) * strength)
    angle = uniform(count, -7, 7) * strength * math.pi / 180
    shift = torch.stack([uniform(count, -7, 7), uniform(count, -7, 7)], -1) * strength
    mirror = torch.where(torch.rand(count, device=DEVICE) < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    matrix = torch.stack([torch.stack([cosine * mirror, -sine], -1), torch.stack([sine * mirror, cosine], -1)], -2)
    offset = -(matrix @ shift[..., None]) / (SIDE / 2)
    grid = functional.affine_grid(torch.cat([matrix, offset], -1), [count, 1, SIDE, SIDE], align_corners=False)
    return functional.grid_sample(pictures[:, None], grid, "bicubic", "reflection", align_corners=False)[:, 0]


def view(pictures: Tensor, strength: float) -> Tensor:
    """Change pictures (grey levels from 0 to 255) as copies on the web are changed."""
    count = len(pictures)

    def each(values: Tensor) -> Tensor:
        return values.view(-1, 1, 1)

    out = crop(pictures, strength)
    out = (out - 128) * each(uniform(count, 0.6, 1.3)) + 128 + each(uniform(count, -30, 30))
    out = 255 * torch.clamp(out / 255, 1e-3, 1) ** each(torch.exp(uniform(count, -0.35, 0.35)))
    out = out + torch.randn_like(out) * each(uniform(count, -6, 8).clamp(min=0))
    places = torch.arange(float(SIDE), device=DEVICE)
    down, across = (uniform(count, 0, SIDE) for _ in range(2))
    height, width = (uniform(count, 2, 8) for _ in range(2))
    stamp = ((places[None, :, None] - each(down)).abs() < each(height)) & (
        (places[None, None] - each(across)).abs() < each(width)
    )
    stamp &= each(torch.rand(count, device=DEVICE)) < 0.25
    out = torch.where(stamp, each(uniform(count, 0, 255)).expand_as(out), out)
    return torch.round(compress(torch.round(out.clamp(0, 255)), uniform(count, 12, 110).clamp(max=95)).clamp(0, 255))


def made(count: int) -> Tensor:
    """Pictures of no face: noise whose spectrum falls off by a power, half of them with discs on it."""
    frequencies = torch.fft.fftfreq(SIDE, device=DEVICE)
    radius = torch.sqrt(frequencies[:, None] ** 2 + frequencies[None] ** 2).clamp(min=1 / SIDE)
    spectrum = torch.fft.fft2(torch.randn(count, SIDE, SIDE, device=DEVICE))
    out = torch.fft.ifft2(spectrum * radius ** -uniform(count, 0, 2.5).view(-1, 1, 1)).real
    out = out / out.std((1, 2), keepdim=True) * uniform(count, 10, 70).view(-1, 1, 1) + 128
    places = torch.arange(float(SIDE), device=DEVICE)
    for _ in range(12):
        down, across, size, level = (
            uniform(count, low, high).view(-1, 1, 1) for low, high in ((0, SIDE), (0, SIDE), (2, 16), (0, 255))
        )
        disc = (places[None, :, None] - down) ** 2 + (places[None, None] - across) ** 2 < size**2
        disc[::2] = False
        out = torch.where(disc, level, out)
    return out.clamp(0, 255)


def draw(faces: Tensor) -> Tensor:
    """Draw different pictures: faces, a few of them upside down, transposed or negative, and made ones."""
    pictures = faces[torch.randperm(len(faces), device=DEVICE)[:BATCH]].float()
    kind = torch.rand(BATCH, device=DEVICE).view(-1, 1, 1)
    pictures = torch.where(kind < 0.04, pictures.flip(1), pictures)
    pictures = torch.where((kind >= 0.04) & (kind < 0.08), pictures.transpose(1, 2), pictures)
    pictures = torch.where((kind >= 0.08) & (kind < 0.1), 255 - pictures, pictures)
    pictures[: BATCH // 6] = made(BATCH // 6)
    return pictures


def normalised(pictures: Tensor) -> Tensor:
    mean, deviation = pictures.mean((1, 2), keepdim=True), pictures.std((1, 2), keepdim=True)
    return ((pictures - mean) / (deviation + 4))[:, None].contiguous(memory_format=torch.channels_last)


def contrast(one: Tensor, other: Tensor) -> Tensor:
    """InfoNCE both ways; pictures as alike as real duplicates are do not push each other away."""
    labels = torch.arange(BATCH, device=DEVICE)
    products = one @ other.T
    same = torch.eye(BATCH, device=DEVICE, dtype=torch.bool)
    products = products.masked_fill((products > 0.9) & ~same, -1) / TEMPERATURE
    return (functional.cross_entropy(products, labels) + functional.cross_entropy(products.T, labels)) / 2


def train(faces: Tensor, seconds: float) -> Descriptor:
    torch.manual_seed(0)
    network = Descriptor().to(DEVICE).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=2e-3)
    start, step = time.monotonic(), 0
    while (done := (time.monotonic() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * done))
        pictures = draw(faces)
        strength = (0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0)[step % 10]
        views = torch.cat([view(pictures, strength), view(pictures, 1.0)])
        with torch.autocast("cuda", torch.bfloat16):
            answers = network(normalised(views))
        unit = functional.normalize(answers.float(), dim=1)
        # The gradient of the signs is taken to be that of the descriptor.
        signs = unit + (torch.sign(answers.float()) / math.sqrt(SIZE) - unit).detach()
        (one, other), (one_signs, other_signs) = unit.split(BATCH), signs.split(BATCH)
        loss = contrast(one, other) + 0.5 * contrast(one, other_signs) + 0.5 * contrast(other, one_signs)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 1000 == 0:
            print(f"{step} steps, {time.monotonic() - start:.0f} s, loss {loss.item():.3f}", flush=True)
    network.eval().cpu().to(memory_format=torch.contiguous_format)
    return network  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the descriptor of the duplicate search.")
    parser.add_argument("faces")
    parser.add_argument("output")
    parser.add_argument("--seconds", type=float, default=300)
    arguments = parser.parse_args()
    network = train(torch.from_numpy(np.load(arguments.faces)).to(DEVICE), arguments.seconds)
    torch.onnx.export(
        network,
        torch.zeros(1, 1, SIDE, SIDE),
        arguments.output,
        input_names=["pictures"],
        output_names=["descriptors"],
        dynamic_axes={"pictures": {0: "count"}, "descriptors": {0: "count"}},
        dynamo=False,
    )


if __name__ == "__main__":
    main()
