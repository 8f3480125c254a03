"""Runs third-party code in a separate process first, so that a plugin that hangs or dies there does no harm."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from benchbox.records.run import Provider
from benchbox.registry.loading import call_hooks, is_loaded, load_module
from benchbox.system.program import Child, ChildDied, ChildHangs, parent_connection, timeout_reason

T = TypeVar("T", bound=Hashable)

TRIAL_S = 120.0
"""Time limit of one trial where the user can set none."""


@dataclass(frozen=True)
class Trial:
    """How a trial ended."""

    reason: str  # why the plugin must not be used here; empty if it may be
    seconds: float
    answer: Any = None


_failed: dict[tuple[str, Hashable, float], Trial] = {}


def try_imports(
    providers: Sequence[Provider], timeout_s: float, on_begin: Callable[[Provider], None]
) -> dict[Provider, Trial]:
    """Import plugins that this process has not imported yet, call their hooks and construct their data sets.

    An ordinary exception counts as success, because importing the plugin here raises it again, where it is reported.
    `timeout_s` limits each plugin; `on_begin` is called before each.
    """
    wanted = [provider for provider in dict.fromkeys(providers) if not is_loaded(provider)]
    return try_each("benchbox.registry.quarantine", wanted, timeout_s, "importing", on_begin)


def try_each(
    module: str,
    items: Sequence[T],
    timeout_s: float,
    step: str,
    on_begin: Callable[[T], None] = lambda item: None,
) -> dict[T, Trial]:
    """Let ``main()`` of a module, which calls `answer_each`, answer for each item in a new process.

    `step` is what it does to an item, such as ``importing``; `timeout_s` limits it. After a hang or a death, a new
    process goes on with the next item.
    """
    # A search makes many runs, and a plugin that hangs should cost its time only once. A provider has its version.
    done = {item: _failed[step, item, timeout_s] for item in items if (step, item, timeout_s) in _failed}
    while remaining := [item for item in items if item not in done]:
        done |= _try_some(module, remaining, timeout_s, step, on_begin)
    _failed.update({(step, item, timeout_s): trial for item, trial in done.items() if trial.reason})
    return done


def _try_some(
    module: str, items: Sequence[T], timeout_s: float, step: str, on_begin: Callable[[T], None]
) -> dict[T, Trial]:
    """Try items up to and including the first one that hangs or dies."""
    done: dict[T, Trial] = {}
    with Child(module) as child:
        child.send((sys.path, items))
        for item in items:
            on_begin(item)
            begun = time.monotonic()
            answer, reason = None, ""
            try:
                answer = child.receive(timeout_s)  # the first one includes the start of the interpreter
            except ChildHangs:
                reason = timeout_reason(f"{step} it", timeout_s)
            except ChildDied as error:
                reason = f"while {step} it, {error}"
            done[item] = Trial(reason, time.monotonic() - begun, answer)
            if reason:
                break
    return done


def answer_each(answer: Callable[[Any], Any]) -> None:
    """In the new process: answer for each item that the parent sends."""
    connection = parent_connection()
    path, items = connection.recv()
    sys.path[:] = path
    for item in items:
        connection.send(answer(item))
    # Exit without waiting for threads that a plugin started.
    os._exit(0)


def main() -> None:
    """Import the plugins that the parent names."""
    answer_each(_import)


def _import(provider: Provider) -> None:
    with contextlib.suppress(Exception, SystemExit):
        for cls in call_hooks(load_module(provider)).get("benchbox_datasets", ()):
            cls()  # as every command that opens data does
