"""Runs inside a worker process: its start, its captured output, its failures."""

from __future__ import annotations

import multiprocessing.forkserver
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from benchbox.api.errors import BenchboxError, ContractError
from benchbox.api.threads import thread_environment
from benchbox.engine.shard import ImagesLost, ShardScores, ShardTask, compute_shard, make_metric
from benchbox.records.run import Failure, Status
from benchbox.system.guardian import adopt_orphans, end_with_parent

_REASON = 500
_DETAIL = 2**20
"""Characters of an exception that are kept, for a plugin may put a whole stack into its words."""


def begin(output: Path, groups: Path, scratch: Path) -> None:
    """Prepare a worker: its output goes to a pipe, and libraries imported from now on use one thread.

    It leads a process group of its own, so that whatever the plugin starts can be ended with it.

    Parameters
    ----------
    output : Path
        Named pipe that takes what the plugin prints.
    groups : Path
        File that takes the number of the group.
    scratch : Path
        Folder for the temporary files of the plugin.
    """
    end_with_parent()
    adopt_orphans()
    _let_the_server_end()
    os.setpgrp()
    with groups.open("a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    os.environ.update(thread_environment(1) | {"TMPDIR": str(scratch)})
    tempfile.tempdir = None  # what it was found to be before
    handle = os.open(output, os.O_WRONLY)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _let_the_server_end() -> None:
    """Close what this process holds of the pipe whose end tells the server of the workers that the run is gone.

    Every worker is given it, to start workers of its own; a plugin that hangs would keep the server, and the server
    the plugin, after a run that was killed.
    """
    server: Any = multiprocessing.forkserver._forkserver
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None


def attempt(task: ShardTask) -> ShardScores | Failure:
    """Do one stack of work; an exception comes back as a plain value, for not every exception survives the way.

    Parameters
    ----------
    task : ShardTask

    Returns
    -------
    ShardScores or Failure

    Raises
    ------
    ImagesLost
        The images cannot be read.
    """
    try:
        for _, reference in task.metrics:
            make_metric(reference)
        return compute_shard(task)
    except ImagesLost:
        raise
    except BaseException as error:  # a plugin that calls sys.exit() must not have this process, or the run, do it
        return failure_of(error)


def failure_of(error: BaseException) -> Failure:
    """Status, first useful line and traceback of an exception."""
    status: Status = "contract" if isinstance(error, ContractError) else "failed"
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # not every exception can be printed
        lines = []
    if isinstance(error, BenchboxError):
        reason = error.message + (f" ({error.hint})" if error.hint else "")
    else:
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    detail = "".join(traceback.format_exception(error))
    return Failure(status, _cut(reason, _REASON), _cut(detail, _DETAIL))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]} [{len(text) - length:,} more characters]"
