"""Classical filters: smoothing, wavelet and Wiener shrinkage, total variation, and the identity."""

from __future__ import annotations

from benchbox import Denoiser, hookimpl


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Return the filters, simplest first."""
    from benchbox_filters.shrinkage import Wavelet, Wiener
    from benchbox_filters.smoothing import Bilateral, GaussianBlur, Identity, Median
    from benchbox_filters.variation import TVChambolle

    return [Identity, GaussianBlur, Median, Bilateral, Wiener, Wavelet, TVChambolle]
