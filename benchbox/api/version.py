"""The version of benchbox and the name of its distribution."""

from __future__ import annotations

DISTRIBUTION = "benchbox-denoise"
"""The name `benchbox` is taken by an unrelated project on PyPI."""

__version__ = "0.1.0"
