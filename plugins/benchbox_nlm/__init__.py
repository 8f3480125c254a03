"""Non-local means: `nl_means` in float32 for whole stacks, and OpenCV's in 8 bits."""

from __future__ import annotations

from benchbox import Denoiser, hookimpl


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Return both denoisers."""
    from benchbox_nlm.nl_means import NLMeans
    from benchbox_nlm.opencv_nlm import OpenCVNLM

    return [NLMeans, OpenCVNLM]
