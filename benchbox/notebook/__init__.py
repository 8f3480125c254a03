"""The Python interface: `run()`, `load_run()` and the `Run` that they return, for scripts and notebooks."""

from benchbox.notebook.finished import Run, load_run
from benchbox.notebook.given import torch
from benchbox.notebook.interface import run

__all__ = ["Run", "load_run", "run", "torch"]
