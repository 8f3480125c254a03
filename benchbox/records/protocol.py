"""The rules for every denoiser of a run, and the protocols of the field that have a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

SigmaPolicy = Literal["given", "estimated", "none"]
ProtocolName = Literal["literature", "rounded-output", "dncnn", "matlab-imnoise", "ntire", "fer2013-unet"]


@dataclass(frozen=True)
class Protocol:
    """The rules for every denoiser of a run.

    Attributes
    ----------
    seed : int
        Random seed for noise and sampling.
    clip : bool
        Whether noisy images are clipped to [0, 1]. The literature does not.
    quantize : bool
        Whether noisy images are rounded to 8-bit levels, after clipping.
    sigma : {'given', 'estimated', 'none'}
        Noise level that denoisers get: the true one, an estimate, or none.
    repeats : int
        Noise draws per image.
    name : str
        Name of the protocol that these rules began as.
    one_draw : bool
        Whether the generator is seeded the same for every image, so that images of one size get one field of noise.
    whole_noise : bool
        Whether the noise itself is cut towards zero to whole 8-bit levels, before clipping.
    round_output : bool
        Whether denoised images are rounded to 8-bit levels before they are scored.
    border : int
        Pixels at each edge that are not scored.
    modcrop : int
        Images are cropped at the right and at the bottom to sides that are a multiple of this.
    """

    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    clip: bool = False
    quantize: bool = False
    sigma: SigmaPolicy = "given"
    repeats: Annotated[int, msgspec.Meta(ge=1)] = 1
    name: ProtocolName = "literature"
    one_draw: bool = False
    whole_noise: bool = False
    round_output: bool = False
    border: Annotated[int, msgspec.Meta(ge=0)] = 0
    modcrop: Annotated[int, msgspec.Meta(ge=1)] = 1

    @property
    def label(self) -> str:
        """The protocol in words, for the title of a table."""
        noisy = "clipped to [0, 1]" if self.clip or self.quantize else "unclipped"
        words = f"noise {noisy}, {'rounded to 8 bit' if self.quantize else 'not rounded'}"
        words += ", cut to whole grey levels" if self.whole_noise else ""
        words += ", one draw for all images" if self.one_draw else ""
        words += f", sigma {self.sigma}"
        words += ", output rounded to 8 bit" if self.round_output else ""
        words += f", {self.border} pixels at each edge not scored" if self.border else ""
        words += f", sides cropped to multiples of {self.modcrop}" if self.modcrop > 1 else ""
        words += "" if self.repeats == 1 else f", {self.repeats} noises per image"
        return words if self.name == "literature" else f"{self.name}: {words}"

    @property
    def changes_noise(self) -> bool:
        """Whether noisy images are something else than what the noise model returns."""
        return self.clip or self.quantize or self.whole_noise

    @property
    def identity(self) -> list[Any]:
        """What a score depends on; rules that are off are left out, so that earlier runs keep their cells."""
        extra = {
            "one_draw": self.one_draw,
            "whole_noise": self.whole_noise,
            "round_output": self.round_output,
            "border": self.border,
            "modcrop": self.modcrop,
        }
        changed = {name: value for name, value in extra.items() if value != getattr(Protocol, name)}
        return [self.seed, self.clip, self.quantize, self.sigma, self.repeats, *([changed] if changed else [])]


NAMED: Mapping[ProtocolName, Protocol] = MappingProxyType(
    {
        "literature": Protocol(),
        # Published tables are made from 8-bit results, whose rounding costs 0.02 dB at a PSNR of 35 dB.
        "rounded-output": Protocol(name="rounded-output", round_output=True),
        # Zhang et al. 2017 call randn('seed', 0) before each image and write 8-bit results.
        "dncnn": Protocol(name="dncnn", one_draw=True, round_output=True),
        # imnoise() of a uint8 image returns a uint8 image.
        "matlab-imnoise": Protocol(name="matlab-imnoise", clip=True, quantize=True),
        # Inputs and submitted results are 8-bit files; the scoring script leaves out an edge.
        "ntire": Protocol(name="ntire", clip=True, quantize=True, round_output=True, border=4, modcrop=4),
        # normal(0, 10).astype(int): noise cut towards zero, a deviation of 9.60 instead of 10 of 255.
        "fer2013-unet": Protocol(name="fer2013-unet", whole_noise=True),
    }
)
"""Protocols by name; `RunOptions` changes seed, noise level and repeats, and may clip or round as well."""
