"""Denoising networks with the parameter names of public implementations, to save state dicts as they do.

Names and shapes are facts about those files; the modules are written for the tests, with forward passes of their own,
so that what `benchbox_adapters.recogniser` builds can be compared with them.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn import functional

torch.set_num_threads(1)  # the networks are small, and the test processes would fight for the processor


def randomised(module: Any, seed: int = 0) -> Any:
    """The module with weights and running statistics that are none of the defaults, ready to denoise."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        scale = 0.5 / max(1, tensor[0].numel()) ** 0.5 if tensor.dim() == 4 else 0.1
        tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))
        if name.endswith("running_var"):
            tensor.copy_(1e-3 + torch.rand(tensor.shape, generator=generator) * 1e-2)  # small, so that epsilons show
    return module.eval()


def conv(inputs: int, outputs: int, bias: bool = True) -> Any:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


class Kair(nn.Module):  # type: ignore[misc]
    """DnCNN and FDnCNN of KAIR: ``model.0.weight``."""

    def __init__(self, inputs: int = 1, outputs: int = 1, width: int = 8, depth: int = 5, norm: bool = False) -> None:
        super().__init__()
        layers: list[Any] = [conv(inputs, width), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [conv(width, width), *([nn.BatchNorm2d(width, 1e-4)] if norm else []), nn.ReLU()]
        self.model = nn.Sequential(*layers, conv(width, outputs))

    def forward(self, x: Any) -> Any:
        return self.model(x)


class Ircnn(Kair):
    """IRCNN of KAIR: as DnCNN, with dilations."""

    def __init__(self) -> None:
        super().__init__(width=64, depth=7)
        for layer, dilation in zip(self.model[::2], (1, 2, 3, 4, 3, 2, 1), strict=True):
            layer.dilation = layer.padding = (dilation, dilation)


class SaoYan(nn.Module):  # type: ignore[misc]
    """DnCNN of SaoYan: ``dncnn.0.weight``, no biases, the first epsilon of PyTorch; cszn's has one bias and 1e-4."""

    def __init__(self, channels: int = 1, first_bias: bool = False) -> None:
        super().__init__()
        layers: list[Any] = [conv(channels, 8, first_bias), nn.ReLU()]
        for _ in range(11):
            layers += [conv(8, 8, False), nn.BatchNorm2d(8, 1e-4 if first_bias else 1e-5), nn.ReLU()]
        self.dncnn = nn.Sequential(*layers, conv(8, channels, False))

    def forward(self, x: Any) -> Any:
        return self.dncnn(x)


class Deepinv(nn.Module):  # type: ignore[misc]
    """DnCNN of deepinv: ``in_conv.weight``; adds its input."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.in_conv = conv(channels, 8)
        self.conv_list = nn.ModuleList(conv(8, 8) for _ in range(12))
        self.out_conv = conv(8, channels)

    def forward(self, x: Any) -> Any:
        y = self.in_conv(x).relu()
        for layer in self.conv_list:
            y = layer(y).relu()
        return self.out_conv(y) + x


class KairFfdnet(Kair):
    """FFDNet of KAIR: the noise map comes last; returns the image."""

    def __init__(self, channels: int = 1, width: int = 8) -> None:
        super().__init__(4 * channels + 1, 4 * channels, width)

    def forward(self, x: Any, sigma: Any = None) -> Any:
        n, _, h, w = x.shape
        x = functional.pad(x, (0, w % 2, 0, h % 2), mode="replicate")
        phases = torch.cat([x[:, c : c + 1, i::2, j::2] for c in range(x.shape[1]) for i in (0, 1) for j in (0, 1)], 1)
        level = sigma.view(n, 1, 1, 1).repeat(1, 1, *phases.shape[2:])
        return functional.pixel_shuffle(self.model(torch.cat((phases, level), 1)), 2)[..., :h, :w]


class IpolFfdnet(nn.Module):  # type: ignore[misc]
    """FFDNet of the IPOL article: ``intermediate_dncnn.itermediate_dncnn.0.weight``; returns the noise."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels
        layers: list[Any] = [conv(5 * channels, 8, False), nn.ReLU()]
        for _ in range(3):
            layers += [conv(8, 8, False), nn.BatchNorm2d(8), nn.ReLU()]
        self.intermediate_dncnn = nn.Module()
        self.intermediate_dncnn.itermediate_dncnn = nn.Sequential(*layers, conv(8, 4 * channels, False))

    def forward(self, x: Any, sigma: Any) -> Any:
        n, c, h, w = x.shape
        phases = torch.cat([x[:, k : k + 1, i::2, j::2] for k in range(c) for i in (0, 1) for j in (0, 1)], 1)
        level = sigma.view(n, 1, 1, 1).repeat(1, c, h // 2, w // 2)
        return functional.pixel_shuffle(self.intermediate_dncnn.itermediate_dncnn(torch.cat((level, phases), 1)), 2)


class ResBlock(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.res = nn.Sequential(conv(width, width, False), nn.ReLU(), conv(width, width, False))

    def forward(self, x: Any) -> Any:
        return x + self.res(x)


class Drunet(nn.Module):  # type: ignore[misc]
    """DRUNet of KAIR, DPIR and deepinv: ``m_down1.0.res.0.weight``."""

    def __init__(self, channels: int = 1, widths: tuple[int, ...] = (4, 8, 12, 16), blocks: int = 2) -> None:
        super().__init__()
        a, b, c, d = widths

        def blocks_of(width: int) -> list[Any]:
            return [ResBlock(width) for _ in range(blocks)]

        def down(wide: int, deep: int) -> Any:
            return nn.Sequential(*blocks_of(wide), nn.Conv2d(wide, deep, 2, 2, bias=False))

        def up(deep: int, wide: int) -> Any:
            return nn.Sequential(nn.ConvTranspose2d(deep, wide, 2, 2, bias=False), *blocks_of(wide))

        self.m_head = conv(channels + 1, a, False)
        self.m_down1, self.m_down2, self.m_down3 = down(a, b), down(b, c), down(c, d)
        self.m_body = nn.Sequential(*blocks_of(d))
        self.m_up3, self.m_up2, self.m_up1 = up(d, c), up(c, b), up(b, a)
        self.m_tail = conv(a, channels, False)

    def forward(self, x: Any) -> Any:
        x1 = self.m_head(x)
        x2 = self.m_down1(x1)
        x3 = self.m_down2(x2)
        x4 = self.m_down3(x3)
        y = self.m_up3(self.m_body(x4) + x4)
        return self.m_tail(self.m_up1(self.m_up2(y + x3) + x2) + x1)


def double(inputs: int, outputs: int, middle: int = 0) -> Any:
    middle = middle or outputs
    return nn.Sequential(
        *(nn.Conv2d(inputs, middle, 3, padding=1, bias=False), nn.BatchNorm2d(middle), nn.ReLU()),
        *(nn.Conv2d(middle, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()),
    )


class _Room(nn.Module):  # type: ignore[misc]
    def __init__(self, **inside: Any) -> None:
        super().__init__()
        for name, module in inside.items():
            setattr(self, name, module)


class Milesial(nn.Module):  # type: ignore[misc]
    """U-Net of milesial: ``down1.maxpool_conv.1.double_conv.0.weight``, bilinear or transposed."""

    def __init__(self, inputs: int = 1, outputs: int = 1, bilinear: bool = False, width: int = 4) -> None:
        super().__init__()
        self.bilinear = bilinear
        f = 2 if bilinear else 1
        w = [width * 2**level for level in range(5)]
        self.inc = _Room(double_conv=double(inputs, w[0]))
        for level in range(1, 5):
            outs = w[level] // (f if level == 4 else 1)
            inside = _Room(double_conv=double(w[level - 1], outs))
            setattr(self, f"down{level}", _Room(maxpool_conv=nn.Sequential(nn.MaxPool2d(2), inside)))
        for number, level in enumerate((4, 3, 2, 1), 1):
            outs = w[level - 1] // (f if level > 1 else 1)
            convs = _Room(double_conv=double(w[level], outs, w[level] // 2 if bilinear else 0))
            up = {} if bilinear else {"up": nn.ConvTranspose2d(w[level], w[level - 1], 2, 2)}
            setattr(self, f"up{number}", _Room(**up, conv=convs))
        self.outc = _Room(conv=nn.Conv2d(w[0], outputs, 1))

    def forward(self, x: Any) -> Any:
        skips = [self.inc.double_conv(x)]
        for level in range(1, 5):
            pool, inside = getattr(self, f"down{level}").maxpool_conv
            skips.append(inside.double_conv(pool(skips[-1])))
        y = skips.pop()
        for number in range(1, 5):
            up = getattr(self, f"up{number}")
            larger = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True) if self.bilinear else up.up
            y = larger(y)
            y = up.conv.double_conv(torch.cat([skips.pop(), y], 1))
        return self.outc.conv(y)


class Segmentation(nn.Module):  # type: ignore[misc]
    """U-Net of mateuszbuda: ``encoder1.enc1conv1.weight``; what was upsampled comes first."""

    def __init__(self, channels: int = 3, width: int = 4) -> None:
        super().__init__()

        def named(inputs: int, outputs: int, name: str) -> Any:
            inside = double(inputs, outputs)
            names = ["conv1", "norm1", "relu1", "conv2", "norm2", "relu2"]
            return nn.Sequential(dict_of(zip([name + part for part in names], inside, strict=True)))

        w = [width * 2**level for level in range(5)]
        for level in range(4):
            setattr(
                self, f"encoder{level + 1}", named(w[level - 1] if level else channels, w[level], f"enc{level + 1}")
            )
        self.bottleneck = named(w[3], w[4], "bottleneck")
        for level in (4, 3, 2, 1):
            setattr(self, f"upconv{level}", nn.ConvTranspose2d(w[level], w[level - 1], 2, 2))
            setattr(self, f"decoder{level}", named(w[level], w[level - 1], f"dec{level}"))
        self.conv = nn.Conv2d(w[0], channels, 1)

    def forward(self, x: Any) -> Any:
        skips = [self.encoder1(x)]
        for level in (2, 3, 4):
            skips.append(getattr(self, f"encoder{level}")(functional.max_pool2d(skips[-1], 2)))
        y = self.bottleneck(functional.max_pool2d(skips[-1], 2))
        for level in (4, 3, 2, 1):
            y = getattr(self, f"upconv{level}")(y)
            y = getattr(self, f"decoder{level}")(torch.cat((y, skips.pop()), 1))
        return self.conv(y)


def dict_of(pairs: Any) -> Any:
    from collections import OrderedDict

    return OrderedDict(pairs)


class DeepinvUnet(nn.Module):  # type: ignore[misc]
    """U-Net of deepinv: ``Conv1.0.weight``; nearest neighbours and a convolution up, adds its input."""

    def __init__(self, channels: int = 1, width: int = 4, scales: int = 3, flat: bool = False) -> None:
        super().__init__()
        self.scales, self.flat = scales, flat
        w = [width * 2**level for level in range(scales)]

        def room(inside: Any, name: str) -> Any:  # with flat, names are those of LeeJunHyun's U-Net
            return _Room(**{name: inside}) if flat else inside

        for level in range(scales):
            setattr(self, f"Conv{level + 1}", room(double(w[level - 1] if level else channels, w[level]), "conv"))
        for level in range(scales, 1, -1):
            a, b = w[level - 1], w[level - 2]
            up = nn.Sequential(nn.Upsample(scale_factor=2), conv(a, b), nn.BatchNorm2d(b), nn.ReLU())
            setattr(self, f"Up{level}", room(up, "up"))
            setattr(self, f"Up_conv{level}", room(double(a, b), "conv"))
        self.Conv_1x1 = nn.Conv2d(w[0], channels, 1)

    def _run(self, name: str, inside: str, x: Any) -> Any:
        module = getattr(self, name)
        return getattr(module, inside)(x) if self.flat else module(x)

    def forward(self, x: Any) -> Any:
        skips = []
        y = x
        for level in range(1, self.scales + 1):
            y = self._run(f"Conv{level}", "conv", functional.max_pool2d(y, 2) if level > 1 else y)
            skips.append(y)
        skips.pop()
        for level in range(self.scales, 1, -1):
            y = torch.cat((skips.pop(), self._run(f"Up{level}", "up", y)), 1)
            y = self._run(f"Up_conv{level}", "conv", y)
        y = self.Conv_1x1(y)
        return y if self.flat else y + x


class Residual(nn.Module):  # type: ignore[misc]
    """A chain by its shapes, but with residual blocks, as EDSR has them; not one of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.head = conv(1, 8, False)
        self.body = nn.Sequential(*(ResBlock(8) for _ in range(3)))
        self.tail = conv(8, 1, False)
