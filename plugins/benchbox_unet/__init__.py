"""Networks trained on FER2013: a blind U-Net, and FFDNet, which takes the noise level as input."""

from __future__ import annotations

from benchbox import Denoiser, NoiseModel, hookimpl


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Return the networks."""
    from benchbox_unet.ffdnet import FFDNet
    from benchbox_unet.unet import UNet

    return [UNet, FFDNet]


@hookimpl
def benchbox_noise_models() -> list[type[NoiseModel]]:
    """Return the noise model of the published recipe."""
    from benchbox_unet.noise import TruncatedGaussian

    return [TruncatedGaussian]
