"""Imports third-party plugins in a separate process first, so one that hangs or dies there does no harm."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import FileIO

from benchbox.records.run import Provider, decode
from benchbox.registry.loading import call_hooks, is_loaded, load_module
from benchbox.system.program import GuardedProgram, signal_name

_POLL_S = 0.2
_PROGRAM = "from benchbox.registry.quarantine import main; main()"


@dataclass(frozen=True)
class Trial:
    """How the import of a plugin ended, away from here.

    Attributes
    ----------
    reason : str
        Why it must not be imported here; empty where it may.
    seconds : float
        What it took.
    """

    reason: str
    seconds: float


def try_imports(
    providers: Sequence[Provider], timeout_s: float, on_begin: Callable[[Provider], None]
) -> Mapping[Provider, Trial]:
    """Import plugins and call their hooks in a fresh process, one after the other.

    An ordinary exception is no reason: it is caught when the plugin is imported here, and says the same.

    Parameters
    ----------
    providers : sequence of Provider
        Those that this process has imported already are passed over.
    timeout_s : float
        Seconds that one of them may take.
    on_begin : callable
        Told of each plugin before it is imported.

    Returns
    -------
    mapping of Provider to Trial
    """
    left = [provider for provider in dict.fromkeys(providers) if not is_loaded(provider)]
    done: dict[Provider, Trial] = {}
    while left:
        done |= _try_some(left, timeout_s, on_begin)
        left = [provider for provider in left if provider not in done]
    return done


def _try_some(
    providers: Sequence[Provider], timeout_s: float, on_begin: Callable[[Provider], None]
) -> dict[Provider, Trial]:
    """Import plugins up to the first one that hangs or dies; at least one is done."""
    done: dict[Provider, Trial] = {}
    reports, theirs = os.pipe()
    with FileIO(reports) as pipe:
        # -P: nothing is imported from the working directory.
        process = GuardedProgram(
            [sys.executable, "-P", "-c", _PROGRAM, str(theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs],
        )
        os.close(theirs)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as task:
                task.write(json.dumps({"path": sys.path, "plugins": [asdict(one) for one in providers]}).encode())
            for provider in providers:
                on_begin(provider)
                begun = time.monotonic()
                reason = _wait(process, pipe, timeout_s)  # for the first one, also for the interpreter to start
                done[provider] = Trial(reason, time.monotonic() - begun)
                if reason:
                    break
        finally:
            process.end()
    return done


def _wait(process: subprocess.Popen[bytes], pipe: FileIO, timeout_s: float) -> str:
    """Wait for the report on one plugin; gives the reason where none comes."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        ended = process.poll() is not None  # asked first: what it wrote before it ended counts
        ready, _, _ = select.select([pipe], [], [], 0 if ended else _POLL_S)
        if ready and pipe.read(1):
            return ""
        if ended:
            code = process.returncode
            how = f"by {signal_name(-code)}" if code < 0 else f"with exit code {code}"
            return f"importing it ended the process {how}"
    return f"importing it took longer than {timeout_s:g} s"


def main() -> None:
    """Import the plugins that standard input names, and write one byte for each that is done."""
    pipe = int(sys.argv[1])
    os.set_inheritable(pipe, False)
    task = json.loads(sys.stdin.buffer.read())
    sys.path[:] = task["path"]
    for values in task["plugins"]:
        with contextlib.suppress(Exception, SystemExit):
            call_hooks(load_module(decode(Provider, values)))
        os.write(pipe, b".")
    # Threads that a plugin has started are not waited for.
    os._exit(0)
