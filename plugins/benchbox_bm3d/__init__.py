"""BM3D-lite: the yardstick of classical denoising, compiled and written from the papers."""

from __future__ import annotations

from benchbox import Denoiser, hookimpl
from benchbox_bm3d.bm3d_lite import BM3DLite


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Offer the denoisers of this package."""
    return [BM3DLite]
