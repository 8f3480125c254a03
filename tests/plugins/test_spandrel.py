"""Architectures that spandrel knows: its module and its size rules, loaded with the weights of the file."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
try:
    from spandrel.architectures import DRUNet, NAFNet, SCUNet, SwinIR
except (ImportError, RuntimeError) as reason:  # RuntimeError: torchvision is of another build than torch
    pytest.skip(f"spandrel cannot be imported: {reason}", allow_module_level=True)

import torch
from benchbox_adapters.recogniser import recognise

from benchbox import BenchboxError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")]


def swinir(upscale: int) -> Any:
    upsampler = "pixelshuffle" if upscale > 1 else ""
    sizes: dict[str, Any] = {"img_size": 64, "window_size": 8, "depths": [2, 2], "embed_dim": 60, "num_heads": [6, 6]}
    return SwinIR.SwinIR(upscale=upscale, in_chans=3, mlp_ratio=2, upsampler=upsampler, **sizes)


@pytest.mark.parametrize(
    ("name", "make", "channels", "sigma"),
    [
        ("SCUNet", lambda: SCUNet.SCUNet(in_nc=3), 3, "none"),
        ("SwinIR", lambda: swinir(1), 3, "none"),
        ("NAFNet", lambda: NAFNet.NAFNet(img_channel=1, width=16, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]), 1, "none"),
        ("DRUNet", lambda: DRUNet.DRUNet(in_nc=2, out_nc=1, downsample_mode="avgpool"), 1, "channel"),
    ],
)
def test_its_architectures_load_and_run(name: str, make: Any, channels: int, sigma: str) -> None:
    """The call of spandrel would give DRUNet a noise level of 15/255; its module is called instead."""
    torch.manual_seed(0)
    theirs = make().eval()
    state = theirs.state_dict()
    found = recognise({key: torch.empty(value.shape, device="meta") for key, value in state.items()})[0]
    assert (found.architecture, found.channels, found.sigma) == (name, channels, sigma)
    images = torch.rand(1, channels + (sigma == "channel"), 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(found.load(state)(images), theirs(images))


def test_super_resolution_is_no_denoiser() -> None:
    with pytest.raises(BenchboxError, match="spandrel knows it as SwinIR for SR, which is no denoiser"):
        recognise(swinir(2).state_dict())
