"""Denoisers are timed on the worker that is named, and nowhere else."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from made_clusters import Cluster

from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.slow
SAYS = """
if 'BENCHBOX_TIMING_TASK' in os.environ:
    open({folder!r} + '/timed at ' + os.environ.get('SITE', 'home'), 'w').close()
return noisy
"""
FAILS = "if 'BENCHBOX_TIMING_TASK' in os.environ: os._exit(9)\nreturn noisy"


def test_denoisers_are_timed_on_the_named_worker(
    process: Command, plugin: Callable[[str, str], Path], cluster: Cluster, tmp_path: Path
) -> None:
    files = [
        part
        for name, body in (("says", SAYS.format(folder=str(tmp_path))), ("fails", FAILS))
        for part in ("--plugin", plugin(name, body))
    ]
    for name in ("first", "second"):
        cluster.add(name, SITE=name)
    asked = ("run", "identity", "says", "fails", *files, "--limit", "20", "--previews", "0", "--fresh")
    said = process(*asked, "--scheduler-file", cluster.file, "--timing-on", "third", code=2).stderr
    assert "--timing-on third: the cluster has no worker of that name" in said
    assert "second" in said
    process(*asked, "--scheduler-file", cluster.file, "--timing-on", "second", code=1)
    store = RunStore.open(find_run(tmp_path / "results"))
    assert store.record.options.timing_on == "second"
    timings = store.timings()
    assert [timing.status for timing in timings.values()] == ["ok", "ok", "died"]
    assert {timing.machine.partition(" (")[0] for timing in timings.values()} == {socket.gethostname()}
    calibration = timings["identity"].calibration
    assert calibration is not None and calibration.time_ms > 0
    assert [file.name for file in tmp_path.glob("timed at *")] == ["timed at second"]
    shown = " ".join(process("leaderboard", "--verbose").stdout.split())
    assert f"on {socket.gethostname()} (" in shown
    # A run goes on here, unless the cluster is named again.
    (store.folder / "timing" / f"{store.log_file('identity', 'timing').name.removesuffix('.timing.log')}.json").unlink()
    process("run", "--resume", store.record.run_id, code=1)
    timings = RunStore.open(store.folder).timings()
    assert timings["identity"].machine == ""
    assert timings["says"].machine
