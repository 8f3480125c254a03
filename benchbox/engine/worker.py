"""Runs inside a worker process: answers one call after another by a value or by what went wrong."""

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
"""Characters of an exception that are kept, because a plugin may put a whole stack into its message."""


def main(connection: int, output: int | None = None) -> None:
    """Be a worker: read where to work, then a function and its arguments at a time, until nobody wants more.

    It leads a process group of its own, so that what a plugin starts can be ended with it.
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
    """The value of a call as bytes; a `Failure` in its place if it raises, and an exception if the run must stop."""
    value: object
    try:
        value = function(*arguments)
    except ImagesLost as error:
        value = error
    except BaseException as error:  # a plugin that calls sys.exit() must not end this process, or the run
        value = failure_of(error)
    try:
        return pickle.dumps(value)
    except Exception as error:  # a plugin may meddle with what a value is made of, and even a `Failure` then fails
        return pickle.dumps(error)


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
