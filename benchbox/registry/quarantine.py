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
    """How importing a plugin in another process ended.

    Attributes
    ----------
    reason : str
        Why it must not be imported here; empty if it may.
    seconds : float
        What it took.
    """

    reason: str
    seconds: float


_failed: dict[tuple[Provider, float], ImportTest] = {}


def try_imports(
    providers: Sequence[Provider], timeout_s: float, on_begin: Callable[[Provider], None]
) -> Mapping[Provider, ImportTest]:
    """Import plugins and call their hooks in a fresh process, one after the other.

    An ordinary exception counts as success: importing the plugin here raises it again, where it is caught and shown.

    Parameters
    ----------
    providers : sequence of Provider
        Those that this process has already imported are skipped.
    timeout_s : float
        Seconds that one of them may take.
    on_begin : callable
        Called with each plugin before it is imported.

    Returns
    -------
    mapping of Provider to ImportTest
    """
    wanted = [provider for provider in dict.fromkeys(providers) if not is_loaded(provider)]
    # A search makes many runs, and one that hangs is to cost its time once. A provider knows its version.
    done = {provider: _failed[provider, timeout_s] for provider in wanted if (provider, timeout_s) in _failed}
    while left := [provider for provider in wanted if provider not in done]:
        done |= _try_some(left, timeout_s, on_begin)
    _failed.update({(provider, timeout_s): test for provider, test in done.items() if test.reason})
    return done


def _try_some(
    providers: Sequence[Provider], timeout_s: float, on_begin: Callable[[Provider], None]
) -> dict[Provider, ImportTest]:
    """Import plugins up to the first one that hangs or dies; at least one is done."""
    done: dict[Provider, ImportTest] = {}
    with Child("benchbox.registry.quarantine") as child:
        child.send((sys.path, providers))
        for provider in providers:
            on_begin(provider)
            begun = time.monotonic()
            try:
                child.receive(timeout_s)  # for the first one, also for the interpreter to start
                reason = ""
            except ChildHangs:
                reason = timeout_reason("importing it", timeout_s)
            except ChildDied as error:
                reason = f"while it was imported, {error}"
            done[provider] = ImportTest(reason, time.monotonic() - begun)
            if reason:
                break
    return done


def main() -> None:
    """Import the plugins that the other side names, and answer once for each that is done."""
    connection = parent_connection()
    path, providers = connection.recv()
    sys.path[:] = path
    for provider in providers:
        with contextlib.suppress(Exception, SystemExit):
            call_hooks(load_module(provider))
        connection.send(None)
    # Threads that a plugin has started are not waited for.
    os._exit(0)
