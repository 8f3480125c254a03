"""The commands; the only place that prints."""

from __future__ import annotations

from benchbox.cli.main import main

__all__ = ["main"]
