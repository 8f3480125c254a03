"""Starts programs under the guardian, captures their output, and talks to Python processes that may hang or die."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from benchbox.api.errors import describe_exit
from benchbox.system import guardian
from benchbox.system.files import temporary_folder

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_File = int | IO[bytes]
_END_S = 10.0
_CHILDREN_S = 2.0
_AGAIN_S = 0.01


def timeout_reason(what: str, seconds: float) -> str:
    """Reason text for a step that exceeded its time limit."""
    return f"{what} took longer than {seconds:g} s"


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, in MiB; 0 if it has exited."""
    import psutil

    total = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += member.memory_info().rss / 2**20
    return total


@contextlib.contextmanager
def killing_new_children(*, of_this_thread: bool = False) -> Iterator[None]:
    """On leaving, kill every process started inside the block that still runs, daemons included; Linux only.

    `of_this_thread` spares processes that other threads have started, which may not be ours to kill.
    """
    if sys.platform != "linux":
        yield
        return
    adopted = guardian.adopt_orphans()
    before = _children(of_this_thread)
    try:
        yield
    finally:
        # Killing a process hands its own children to this one, so that one pass does not find all of them.
        end = time.monotonic() + _CHILDREN_S
        while (left := _children(of_this_thread) - before) and time.monotonic() < end:
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                # Wait for exactly these PIDs: waitpid(-1) could steal the exit status of somebody else's child.
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(_AGAIN_S)
        guardian.adopt_orphans(adopted)


def _children(of_this_thread: bool) -> set[int]:
    own = str(threading.get_native_id())
    pids: set[int] = set()
    # The kernel keeps children apart by the thread that forked them.
    for thread in Path("/proc/self/task").iterdir():
        if thread.name == own or not of_this_thread:
            with contextlib.suppress(FileNotFoundError):  # the thread has just exited
                pids.update(map(int, (thread / "children").read_text(encoding="ascii").split()))
    return pids


class TimeLimitPassed(Exception):
    """The program ran for too long."""


class MemoryLimitPassed(Exception):
    """The program and its descendants held too much memory."""


class GuardedProgram(subprocess.Popen[bytes]):
    """A program run under `guardian`, which exits as the program does, but only after all its descendants are gone.

    The guardian also kills the program if this process dies, whatever the cause. The program leads its own session,
    so Ctrl-C in the terminal does not reach it. Leaving the ``with`` block ends it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: _File = subprocess.DEVNULL,
        stdout: _File,
        stderr: _File,
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        theirs, self._lifeline = os.pipe()
        try:
            super().__init__(
                # Isolated and without site-packages it starts in milliseconds and imports nothing of the user's.
                [sys.executable, "-I", "-S", str(Path(guardian.__file__)), str(theirs), *command],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=environment,
                pass_fds=[theirs, *pass_fds],
                start_new_session=True,
            )
        except OSError:
            os.close(self._lifeline)
            raise
        finally:
            os.close(theirs)

    def __enter__(self) -> Self:
        """Return the running program."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the program."""
        self.end()

    def end(self) -> None:
        """Kill the program and its descendants; does nothing if they have already exited."""
        if self._lifeline >= 0:
            with contextlib.suppress(BrokenPipeError):
                # A byte as well as closing it: a process that was forked here may hold this end open, too.
                os.write(self._lifeline, b".")
            os.close(self._lifeline)
            self._lifeline = -1
        try:
            self.wait(_END_S)
        except subprocess.TimeoutExpired:
            # The guardian itself does not answer, for example because somebody stopped it.
            self.kill()
            self.wait()


_OUTPUT_BYTES = 2**20
"""Bytes kept; more than a pipe holds, so that one read empties it."""


class OutputKeeper:
    """A named pipe for the output of processes, and a thread that appends its first `_OUTPUT_BYTES` bytes to a log.

    A plugin may print without end; neither the disk nor the pipe must fill up because of that.
    """

    def __init__(self, log: Path, folder: Path) -> None:
        self._log = log
        self.pipe = folder / f"{log.stem}.pipe"
        """Path that processes write to."""
        self._lock = threading.Lock()
        self._kept = self._dropped = 0
        self._thread = threading.Thread(target=self._copy, name=f"output of {log.stem}", daemon=True)

    def __enter__(self) -> OutputKeeper:
        """Start reading; if the log cannot be opened, warn and discard all output."""
        os.mkfifo(self.pipe, 0o600)
        # Opened for reading and writing, so that open() does not block and the pipe outlives any single writer.
        self._handle = os.open(self.pipe, os.O_RDWR | os.O_NONBLOCK)
        self._stopped, self._stop = os.pipe()
        try:
            self._file = self._log.open("ab", buffering=0)
        except OSError as error:
            warnings.warn(f"output is not logged: {error}", RuntimeWarning, stacklevel=2)
            self._file = Path(os.devnull).open("ab", buffering=0)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Read the rest of the output, and note in the log how much was discarded."""
        os.write(self._stop, b".")  # closing it does not suffice: a daemon that a plugin forked here holds it open, too
        os.close(self._stop)
        self._thread.join()
        self.flush()
        with self._file as log, contextlib.suppress(OSError):
            if self._dropped:
                log.write(f"\n[{self._dropped:,} more bytes were printed and not kept]\n".encode())
        os.close(self._handle)
        os.close(self._stopped)

    def flush(self) -> None:
        """Copy everything written so far from the pipe to the log."""
        with self._lock, contextlib.suppress(BlockingIOError):
            block = os.read(self._handle, _OUTPUT_BYTES)
            part = block[: max(0, _OUTPUT_BYTES - self._kept)]
            try:
                self._file.write(part)
                self._kept += len(part)
                self._dropped += len(block) - len(part)
            except OSError:  # keep reading on a full disk, or the writer would block
                self._dropped += len(block)

    def _copy(self) -> None:
        while True:
            ready, _, _ = select.select([self._handle, self._stopped], [], [])
            if self._stopped in ready:
                return
            self.flush()


class ChildDied(Exception):
    """The process exited without an answer."""


class ChildHangs(Exception):
    """The process did not answer in time."""


class Child:
    """A fresh guarded interpreter that calls ``main()`` of one module, which talks back over `parent_connection`.

    `environment` is set before anything is imported. Output is bounded by `OutputKeeper`. Leaving the ``with`` block
    ends the process.
    """

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        import multiprocessing

        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(temporary_folder())
            self._out, self._err = folder / "stdout", folder / "stderr"
            out, err = (stack.enter_context(OutputKeeper(file, folder)) for file in (self._out, self._err))
            ours, theirs = multiprocessing.Pipe()
            self._pipe: Connection[Any, Any] = ours
            with theirs, out.pipe.open("wb", buffering=0) as stdout, err.pipe.open("wb", buffering=0) as stderr:
                # -P: a file in the working directory must not pass for a library.
                self._process = GuardedProgram(
                    [sys.executable, "-P", "-c", f"from {module} import main; main()", str(theirs.fileno())],
                    stdout=stdout,
                    stderr=stderr,
                    environment=os.environ | dict(environment or {}),
                    pass_fds=[theirs.fileno()],
                )
            self._keepers = out, err
            self._stack = stack.pop_all()

    def __enter__(self) -> Child:
        """Return the running process."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.end()

    def end(self) -> None:
        """Kill the process and its descendants."""
        self._pipe.close()
        self._process.end()
        self._stack.close()

    @property
    def pid(self) -> int:
        """PID of the guardian of the process, whose descendants it and all that it starts are."""
        return self._process.pid

    def send(self, value: object) -> None:
        """Send a picklable value."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `receive` will report how the process ended
            self._pipe.send(value)

    def receive(self, timeout_s: float) -> Any:
        """Wait for a value; raises `ChildDied` if the process exits first, `ChildHangs` after `timeout_s` seconds."""
        if not self._pipe.poll(timeout_s):
            raise ChildHangs(f"no answer within {timeout_s:g} s")
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            # A closed pipe does not mean that the process has exited, so give it a moment and then kill it.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            self._process.end()
            last = self._last_line()
            words = f"its process {describe_exit(self._process.returncode)}" + (f": {last}" if last else "")
            raise ChildDied(words) from error

    def output(self) -> str:
        """Standard output of the process so far, up to the limit of `OutputKeeper`."""
        self._keepers[0].flush()
        return self._out.read_text(encoding="utf-8", errors="replace")

    def _last_line(self) -> str:
        self._keepers[1].flush()
        lines = self._err.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def parent_connection() -> Connection[Any, Any]:
    """Pipe to the process that started this one as a `Child`."""
    from multiprocessing.connection import Connection

    number = int(sys.argv[1])
    # A process that a plugin starts must not inherit the pipe: it would stay open after this process has died.
    os.set_inheritable(number, False)
    return Connection(number)
