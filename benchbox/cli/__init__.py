"""The commands; the only room that prints.

Each command turns its options into a call of another room and shows the result. This room must not compute results, and
no other room may depend on it.
"""

from __future__ import annotations

from benchbox.cli.main import main

__all__ = ["main"]
