"""Finds runs by id, by a start of it, by path, or the newest."""

from __future__ import annotations

from pathlib import Path

from benchbox.api.errors import BenchboxError
from benchbox.store.names import RUN_ID


def list_runs(results: Path) -> list[Path]:
    """Folders of all runs, oldest first."""
    if not results.is_dir():
        return []
    return sorted(one for one in results.iterdir() if RUN_ID.fullmatch(one.name) and (one / "run.json").is_file())


def find_run(results: Path, name: str = "") -> Path:
    """Find a run.

    Parameters
    ----------
    results : Path
        Folder of all runs.
    name : str
        A run's id, a unique start of it, or the path of its folder; empty for the newest.

    Raises
    ------
    BenchboxError
        There is none, or several fit.
    """
    if name and (Path(name) / "run.json").is_file():
        return Path(name)
    runs = list_runs(results)
    if not runs:
        raise BenchboxError(f"there is no run in {results}", hint="make one: benchbox run --noise gaussian:0.1")
    fitting = [run for run in runs if run.name.startswith(name)]
    if not name or len(fitting) == 1:
        return fitting[-1]
    if fitting:
        raise BenchboxError(f"'{name}' fits {len(fitting)} runs", hint="give more of its id: benchbox list runs")
    raise BenchboxError(f"there is no run '{name}' in {results}", hint=f"the newest is {runs[-1].name}")
