"""`bm3d_lite`, the classical baseline, and `dct`, sliding-window DCT thresholding."""

from __future__ import annotations

from benchbox import Denoiser, hookimpl


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Return both denoisers."""
    from benchbox_bm3d.bm3d_lite import BM3DLite
    from benchbox_bm3d.dct import DCT

    return [DCT, BM3DLite]
