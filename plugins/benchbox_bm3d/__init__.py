"""BM3D-lite, the classical baseline, and sliding-window DCT thresholding."""

from __future__ import annotations

from benchbox import Denoiser, hookimpl
from benchbox_bm3d.bm3d_lite import BM3DLite
from benchbox_bm3d.dct import DCT


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Offer the denoisers of this package."""
    return [DCT, BM3DLite]
