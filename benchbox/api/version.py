"""What pip calls benchbox, and which version of it this is."""

from __future__ import annotations

DISTRIBUTION = "benchbox-denoise"
"""The name `benchbox` belongs to an unrelated project on PyPI."""

__version__ = "0.1.0"
