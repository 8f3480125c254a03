"""Runs inside a worker process: answers each call with its value or a `Failure`."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from benchbox.api.errors import BenchboxError, ContractError
from benchbox.engine.shard import ImagesLost
from benchbox.engine.workers import WorkerSettings
from benchbox.records.run import Failure, Status
from benchbox.system.guardian import adopt_orphans, end_with_parent

_REASON = 500
_DETAIL = 2**20
"""Characters kept of an exception, because a plugin may put a whole image stack into its message."""


def main(connection: int, output: int | None = None) -> None:
    """Read the settings, then one function with its arguments at a time, until the connection is closed.

    `connection` and `output` are file descriptors. The worker leads its own process group and adopts orphans, so that
    everything a plugin starts can be killed with it.
    """
    end_with_parent()
    adopt_orphans()
    os.setpgrp()
    if output is not None:
        for stream in (1, 2):
            os.dup2(output, stream)
        os.close(output)
    pipe: Connection[Any, Any] = Connection(connection)
    with pipe:
        try:
            settings: WorkerSettings = pipe.recv()
            settings.enter()
            while True:
                function, arguments = pipe.recv()
                pipe.send_bytes(_answer(function, arguments))
        except EOFError:
            return


def _answer(function: Callable[..., object], arguments: tuple[Any, ...]) -> bytes:
    """Pickled value of a call: a `Failure` if it raises, an exception if the run must stop."""
    value: object
    try:
        value = function(*arguments)
    except ImagesLost as error:
        value = error
    except BaseException as error:  # BaseException: a plugin may call sys.exit()
        value = failure_of(error)
    try:
        return pickle.dumps(value)
    except Exception as error:  # a plugin may break the classes of a value, and pickling with them
        return pickle.dumps(error)


def failure_of(error: BaseException) -> Failure:
    """Status, first useful line and traceback of an exception."""
    status: Status = "contract" if isinstance(error, ContractError) else "failed"
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # __str__ of a foreign exception may raise
        lines = []
    if isinstance(error, BenchboxError):
        reason = error.message + (f" ({error.hint})" if error.hint else "")
    else:
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    detail = "".join(traceback.format_exception(error))
    return Failure(status, _cut(reason, _REASON), _cut(detail, _DETAIL))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]} [{len(text) - length:,} more characters]"
