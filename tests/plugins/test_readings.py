"""What a state dict does not show of a network is settled by what denoises best: what the network itself does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_models import noisy

torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")

from benchbox_adapters.torch_model import Torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

SMOOTH = np.full((3, 3), 0.08, np.float32)
SMOOTH[1, 1] = 0.36


def chain(*sizes: tuple[int, int], slope: float = 0.0) -> nn.Sequential:
    """Convolutions without weights, and rectifiers between them, with the names of KAIR."""
    layers: list[nn.Module] = []
    for inputs, outputs in sizes:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(slope) if slope else nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    for parameter in network.parameters():
        nn.init.zeros_(parameter).requires_grad_(False)
    return network


def row_of(network: nn.Module, file: Path, prefix: str = "") -> tuple[str, Any]:
    """The architecture that is found, and the images that the row returns."""
    torch.save({prefix + name: tensor for name, tensor in network.state_dict().items()}, file)
    denoiser = Torch(path=file)
    denoiser.setup((1, 48, 48))
    return denoiser.details().found["architecture"], denoiser.denoise(noisy(), None)


def images_of(network: nn.Module) -> Any:
    with torch.inference_mode():
        return network(torch.from_numpy(noisy())[:, None])[:, 0].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("slope", [0.0, 0.1, 0.2])
def test_the_slope_of_rectifiers_is_found_out(slope: float, tmp_path: Path) -> None:
    """With another slope, the network smooths too much, but still denoises."""
    network = chain((1, 3), (3, 2), (2, 1), slope=slope)
    removed = torch.from_numpy(-SMOOTH)
    removed[1, 1] += 1
    # The difference of both signs grows with the slope; what is lifted above zero does not. A greater lift would leave
    # fewer digits of float32 to the images.
    network[0].weight[:, 0] = torch.stack([removed, -removed, removed])
    network[0].bias[2] = 2
    network[2].weight[:, :, 1, 1] = torch.tensor([[1.0, -1, 0], [0, 0, 1]])
    network[2].bias[0] = 2
    times = 0.6 / (slope or 1)
    network[4].weight[0, :, 1, 1] = torch.tensor([-times, 1 + times + times * slope])
    network[4].bias[0] = -2 * (1 + times * slope)
    architecture, denoised = row_of(network, tmp_path / "chain.pth", "model.")
    assert ("below zero" in architecture, f"slope {slope:g}" in architecture) == (slope > 0, slope > 0)
    np.testing.assert_allclose(denoised, noisy() - images_of(network), atol=1e-5)


def test_names_of_a_network_that_returns_the_noise_are_no_proof(tmp_path: Path) -> None:
    network = chain((1, 2), (2, 2), (2, 1))
    network[0].weight[0, 0], network[0].bias[0] = torch.from_numpy(SMOOTH), 2
    network[2].weight[0, 0, 1, 1] = network[4].weight[0, 0, 1, 1] = 1
    network[4].bias[0] = -2
    _, denoised = row_of(network, tmp_path / "direct.pth", "model.")
    np.testing.assert_allclose(denoised, images_of(network), atol=1e-5)


class Small(nn.Module):  # type: ignore[misc]
    """A U-Net of two levels that mixes an image with its small version."""

    def __init__(self) -> None:
        super().__init__()
        self.enc1, self.enc2, self.dec1 = chain((1, 1), (1, 1)), chain((1, 2), (2, 2)), chain((3, 1), (1, 1))
        self.out = chain((1, 1))
        for convolution in (one for one in self.modules() if isinstance(one, nn.Conv2d)):
            convolution.weight[0, 0, 1, 1] = 1
        self.enc1[0].bias[0], self.out[0].bias[0] = 2, -2  # no rectifier changes anything
        self.dec1[0].weight[0, :, 1, 1] = torch.tensor([0.5, 0.5, 0])

    def forward(self, x: Any) -> Any:
        whole = functional.relu(self.enc1(x))
        half = functional.relu(self.enc2(functional.avg_pool2d(whole, 2)))
        twice = functional.interpolate(half, scale_factor=2, mode="bilinear")
        return self.out(functional.relu(self.dec1(torch.cat((whole, twice), 1))))


def test_how_a_unet_doubles_and_halves_the_size_is_found_out(tmp_path: Path) -> None:
    network = Small()
    architecture, denoised = row_of(network, tmp_path / "unet.pth")
    assert architecture.endswith("bilinear upsampling, average pooling")
    np.testing.assert_allclose(denoised, images_of(network), atol=1e-5)
