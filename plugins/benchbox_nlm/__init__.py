"""Non-local means: `nl_means` in float over whole stacks, and OpenCV's in 8 bit."""

from __future__ import annotations

from benchbox import Denoiser, hookimpl
from benchbox_nlm.nl_means import NLMeans
from benchbox_nlm.opencv_nlm import OpenCVNLM


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Offer both."""
    return [NLMeans, OpenCVNLM]
