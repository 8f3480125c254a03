"""The run folder, results/<run-id>/: writes it, and reads it once.

Writes records, scores and samples so that an interrupted run loses nothing, and reads them back. This room must not
know how scores are computed, and computes nothing from them.
"""

from __future__ import annotations

from benchbox.store.foreign_files import set_aside_foreign_files
from benchbox.store.layout import (
    FORMAT,
    IMAGE,
    NO_CLASS,
    PICTURES,
    class_columns,
    find_run,
    list_runs,
    new_run_id,
    noise_key,
    timing_key,
)
from benchbox.store.run import RunStore

__all__ = [
    "FORMAT",
    "IMAGE",
    "NO_CLASS",
    "PICTURES",
    "RunStore",
    "class_columns",
    "find_run",
    "list_runs",
    "new_run_id",
    "noise_key",
    "set_aside_foreign_files",
    "timing_key",
]
