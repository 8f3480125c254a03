"""Imports third-party plugins in a separate process first, so one that hangs or dies there does no harm."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchbox.records.run import Provider
from benchbox.registry.loading import call_hooks, is_loaded, load_module
from benchbox.system.program import Child, ChildDied, ChildHangs, parent_connection, timeout_reason


@dataclass(frozen=True)
class ImportTest:
    """How a trial import ended: why the plugin must not be imported here (or an empty string), and how long it took."""

    reason: str
    seconds: float


_failed: dict[tuple[Provider, float], ImportTest] = {}


def try_imports(
    providers: Sequence[Provider], timeout_s: float, on_begin: Callable[[Provider], None]
) -> Mapping[Provider, ImportTest]:
    """Import plugins that this process has not imported yet, and call their hooks, in a new process.

    An ordinary exception counts as success, because importing the plugin here raises it again, where it is reported.
    `timeout_s` limits each plugin; `on_begin` is called before each.
    """
    wanted = [provider for provider in dict.fromkeys(providers) if not is_loaded(provider)]
    # A search makes many runs, and a plugin that hangs should cost its time only once. A provider has its version.
    done = {provider: _failed[provider, timeout_s] for provider in wanted if (provider, timeout_s) in _failed}
    while remaining := [provider for provider in wanted if provider not in done]:
        done |= _try_some(remaining, timeout_s, on_begin)
    _failed.update({(provider, timeout_s): test for provider, test in done.items() if test.reason})
    return done


def _try_some(
    providers: Sequence[Provider], timeout_s: float, on_begin: Callable[[Provider], None]
) -> dict[Provider, ImportTest]:
    """Import plugins up to and including the first one that hangs or dies."""
    done: dict[Provider, ImportTest] = {}
    with Child("benchbox.registry.quarantine") as child:
        child.send((sys.path, providers))
        for provider in providers:
            on_begin(provider)
            begun = time.monotonic()
            try:
                child.receive(timeout_s)  # the first one includes the start of the interpreter
                reason = ""
            except ChildHangs:
                reason = timeout_reason("importing it", timeout_s)
            except ChildDied as error:
                reason = f"during import, {error}"
            done[provider] = ImportTest(reason, time.monotonic() - begun)
            if reason:
                break
    return done


def main() -> None:
    """Import the plugins that the parent names, and send a message after each."""
    connection = parent_connection()
    path, providers = connection.recv()
    sys.path[:] = path
    for provider in providers:
        with contextlib.suppress(Exception, SystemExit):
            call_hooks(load_module(provider))
        connection.send(None)
    # Exit without waiting for threads that a plugin started.
    os._exit(0)
