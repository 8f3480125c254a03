"""`Color`, apart from the array types, because the command line shows its options without importing NumPy."""

from __future__ import annotations

from typing import Literal, TypeAlias

Color: TypeAlias = Literal["auto", "grey", "rgb"]
"""Keep colour if all images have it; turn it into luminance; keep it and refuse grey images."""
