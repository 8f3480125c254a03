"""Runs the command with a clock around the parts of the harness: ``breakdown.py RESULT.json run ...``.

The first four lines are CPU seconds of processes of their own, all others wall-clock seconds inside the main process;
what happens in several threads is summed.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

SPENT: defaultdict[str, float] = defaultdict(float)
CALLS: Counter[str] = Counter()
_lock = threading.Lock()
_IMPORTS = "import benchbox.cli.run, benchbox.cli.progress, benchbox.engine.run"
_SERVER = "from benchbox.engine.forkserver import _preload"


def count(line: str, seconds: float) -> None:
    """Add to a line of the breakdown."""
    with _lock:
        SPENT[line] += seconds
        CALLS[line] += 1


def clock(owner: Any, name: str, line: str) -> None:
    """Count the time in a function from now on."""
    real: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(real)
    def timed(*arguments: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        try:
            return real(*arguments, **named)
        finally:
            count(line, time.perf_counter() - begun)

    setattr(owner, name, timed)


def cpu_seconds(code: str) -> float:
    """CPU seconds of the interpreter with some code, the least of three."""

    def once() -> float:
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    return min(once() for _ in range(3))


def clock_tails() -> None:
    """Count how long other slots of a work loop wait for its last one."""
    from benchbox.engine.work_loop import WorkLoop

    real_run, real_slot = WorkLoop.run, WorkLoop._slot
    ends: list[float] = []

    def slot(self: WorkLoop[Any, Any], *arguments: Any) -> None:
        try:
            real_slot(self, *arguments)
        finally:
            ends.append(time.perf_counter())

    def run(self: WorkLoop[Any, Any], *arguments: Any) -> None:
        ends.clear()
        real_run(self, *arguments)
        count("tail", sum(max(ends) - end for end in ends) / len(ends) if ends else 0.0)

    patched: Any = WorkLoop
    patched._slot, patched.run = slot, run


def main(result: str, arguments: list[str]) -> None:
    """Run the command and write the breakdown."""
    bare, imports, server = cpu_seconds("pass"), cpu_seconds(_IMPORTS), cpu_seconds(_SERVER)
    SPENT["interpreter"] = bare
    SPENT["imports"] = imports - bare
    SPENT["fork server: imports"] = server - bare
    SPENT["fork server: numba and kernels"] = cpu_seconds(f"{_SERVER}; _preload()") - server

    import benchbox.cli.progress
    import benchbox.cli.reports
    import benchbox.engine.engines
    import benchbox.engine.run
    import benchbox.report
    import benchbox.report.build
    import benchbox.report.ranked
    from benchbox.cli.main import cli
    from benchbox.engine.scoring import QualityPass
    from benchbox.engine.work_loop import WorkLoop
    from benchbox.engine.workers import Worker
    from benchbox.store import RunStore

    for owner, name, line in (
        (benchbox.engine.run, "load_registry", "planning"),
        (benchbox.engine.run, "open_data", "planning"),
        (benchbox.engine.run, "make_plan", "planning"),
        (RunStore, "create", "planning"),
        (Worker, "_started", "dispatch: starting workers"),
        (Worker, "call", "workers at work"),
        (WorkLoop, "_serve", "dispatch: slots"),
        (RunStore, "write_shard", "writing shards"),
        (os, "fsync", "fsync"),
        (benchbox.engine.engines, "_draw_ahead", "drawing noise ahead, within scoring"),
        (QualityPass, "run", "scoring"),
        (benchbox.engine.run, "make_ceilings", "oracle Wiener filter"),
        (RunStore, "outcomes", "reading outcomes"),
        (RunStore, "scores", "reading scores"),
        (benchbox.report.ranked, "rank_tables", "statistics"),
        (benchbox.report.build, "build_leaderboard", "table"),
        (benchbox.cli.reports, "print_board", "table"),
        (benchbox.report, "write_leaderboard", "table"),
    ):
        clock(owner, name, line)
    clock_tails()
    begun = time.perf_counter()
    try:
        cli.main(arguments, prog_name="benchbox")
    except SystemExit as ended:
        if ended.code:
            raise
    SPENT["whole run, without interpreter and imports"] = time.perf_counter() - begun
    Path(result).write_text(json.dumps({line: [seconds, CALLS[line]] for line, seconds in SPENT.items()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
