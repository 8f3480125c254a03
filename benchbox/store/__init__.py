"""results/<run-id>/: the only room that knows file names, and the one that writes them so that nothing is lost."""

from __future__ import annotations

from benchbox.store.find import find_run, list_runs
from benchbox.store.names import FORMAT, IMAGE, PICTURES, new_run_id, noise_key, timing_key
from benchbox.store.run import RunStore
from benchbox.store.strangers import set_aside_strangers

__all__ = [
    "FORMAT",
    "IMAGE",
    "PICTURES",
    "RunStore",
    "find_run",
    "list_runs",
    "new_run_id",
    "noise_key",
    "set_aside_strangers",
    "timing_key",
]
