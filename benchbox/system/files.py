"""Bounded reads, atomic writes, temporary folders, the cache folder, and readable messages for system errors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import xxhash

from benchbox.api.errors import BenchboxError


class UnboundedFile(OSError):
    """A file that is too large, grows, or is not a regular file; `strerror` says which."""

    def __init__(self, why: str) -> None:
        super().__init__(None, why)


def read_bounded(path: Path, most: int) -> bytes:
    """Read a whole file of at most `most` bytes, following links.

    Raises `UnboundedFile` unless it is a regular file of bounded, constant size, and `OSError` if it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise UnboundedFile(f"the file has {size:,} bytes; the limit is {most:,}")
        # `size + 1` instead of `most`, because read() allocates a buffer of the full requested size.
        content = file.read(size + 1)
        if len(content) > size:
            raise UnboundedFile("the file grows while it is read")
        return content


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; raises `UnboundedFile` at once for pipes and devices, which may never end."""
    # Without O_NONBLOCK, opening a pipe blocks until somebody opens it for writing.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UnboundedFile("not a regular file")
    return file


TEMPORARY_HINT = "make the folder for temporary files (TMPDIR) writable and free some space in it"
_open: set[Path] = set()
_own = os.urandom(4).hex()
_TRIES = 20
_AGAIN_S = 0.05


def _be_another() -> None:
    global _own
    _own = os.urandom(4).hex()


os.register_at_fork(after_in_child=_be_another)


def folder_prefix() -> str:
    """What the names of this process's temporary folders begin with, and of no other's: not of its forks, either."""
    return f"benchbox-{_boot()}-{_own}-"


@functools.cache
def _boot() -> str:
    """Names the running system, whose locks others that share a folder with it may not see; empty if unknown."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    return ""


def remove_abandoned() -> None:
    """Delete temporary folders, a day old, of processes that were killed together with what cleans up after them.

    A process locks its folders, and the lock ends with it. The day is for folders that are not yet locked.
    """
    import shutil

    for folder in _temporary_folders(f"benchbox-{_boot()}-*") if _boot() else ():
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _ABANDONED_S:
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(handle)


def remove_folders(prefix: str) -> None:
    """Delete the temporary folders of a process that was killed."""
    import shutil

    for folder in _temporary_folders(f"{prefix}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_folders(pattern: str) -> list[Path]:
    """What lies beside a new temporary folder and has such a name; nothing where no folder can be made."""
    import tempfile

    with contextlib.suppress(OSError), tempfile.TemporaryDirectory() as beside:
        return list(Path(beside).parent.glob(pattern))
    return []


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a private folder, and delete it with everything in it on leaving."""
    import tempfile

    try:
        folder = tempfile.TemporaryDirectory(prefix=folder_prefix(), ignore_cleanup_errors=True)
        handle = os.open(folder.name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BenchboxError(f"cannot create a temporary folder: {error}", hint=TEMPORARY_HINT) from error
    with contextlib.suppress(OSError):  # where no folder can be locked, none is taken for abandoned
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    path = Path(folder.name)
    _open.add(path)
    try:
        yield path
    finally:
        folder.cleanup()
        os.close(handle)
        _open.discard(path)


def is_in_memory(folder: Path) -> bool:
    """Whether files in a folder take memory, not space on a disk; true if the system does not say."""
    import psutil

    kinds: dict[Path, str] = {}
    with contextlib.suppress(OSError):
        kinds = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    whole = folder.resolve()
    return next((kinds[path] for path in (whole, *whole.parents) if path in kinds), "tmpfs") in ("tmpfs", "ramfs")


def remove_all() -> None:
    """Delete every open temporary folder now, because this process is about to exit without unwinding."""
    import shutil

    for folder in list(_open):
        for _ in range(_TRIES):  # a process that writes there may take a moment to die
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(_AGAIN_S)


_MOST_JSON = 256 << 20


def write_whole(path: Path, content: bytes, *, flushed: bool = True) -> None:
    """Write a file atomically: to a temporary name beside it, flushed to disk, then renamed.

    A file that is not `flushed` survives the end of this process, but after a power cut it may be empty or missing
    until `flush_folder` has returned.
    """
    import tempfile

    with explain_errors(path):
        path.parent.mkdir(exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                if flushed:
                    os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def flush_folder(folder: Path) -> None:
    """Flush the files of a folder, if it exists, and their names to disk; after the first, most cost nothing."""
    if not folder.is_dir():
        return
    with explain_errors(folder):
        with os.scandir(folder) as entries:
            files = [Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]
        for path in (*files, folder):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


@contextlib.contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` about a file into a `BenchboxError` with a remedy."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "the disk is full: free some space; finished work is kept",
            errno.EDQUOT: "the quota is used up: free some space; finished work is kept",
            errno.EFBIG: "the file size limit is reached: raise it (ulimit -f); finished work is kept",
            errno.EROFS: "the disk is read-only: choose another folder with --results, or a file with --output",
            errno.EISDIR: "a folder has the name of a file: move it away",
            errno.EACCES: "choose a writable folder with --results, or a file with --output",
            errno.EEXIST: "another run has just created it: run again",
        }
        hint = hints.get(error.errno or 0, "choose another folder with --results")
        raise BenchboxError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error


def damaged_file(path: Path, what: str) -> BenchboxError:
    """Error for a file whose content no run could have written."""
    return BenchboxError(f"{path}: {what}", hint="the file is damaged; delete it and run again")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises `BenchboxError` if the file is missing, too large or something else."""
    try:
        values = json.loads(read_bounded(path, _MOST_JSON).decode("utf-8"), parse_constant=_refuse_constant)
    except UnboundedFile as error:
        raise BenchboxError(f"{path}: {error.strerror}", hint="remove it: benchbox did not write it") from error
    except OSError as error:
        raise BenchboxError(f"cannot read {path}: {error.strerror}", hint="give the folder of a run") from error
    except (ValueError, RecursionError) as error:
        raise BenchboxError(f"{path} is not JSON: {error}", hint="the file is damaged; run again") from error
    if not isinstance(values, dict):
        raise BenchboxError(f"{path} is not a JSON object", hint="the file is damaged; run again")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


CACHE_VARIABLE = "BENCHBOX_CACHE_DIR"
_NUMBA_VARIABLE = "NUMBA_CACHE_DIR"
_MATPLOTLIB_VARIABLE = "MPLCONFIGDIR"
_ABANDONED_S = 24 * 3600


def _base() -> Path:
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    import platformdirs

    try:
        return platformdirs.user_cache_path("benchbox")
    except RuntimeError:  # a user id without an entry and without HOME, as in a container
        return Path("~") / ".cache" / "benchbox"


@contextlib.contextmanager
def usable_cache() -> Iterator[str]:
    """Give this process and its children a temporary cache folder if the user's cannot be written.

    Yields a one-line description of the problem and its remedy; an empty string if the cache is usable.
    """
    base = _base()
    problem = _problem(base)
    with contextlib.ExitStack() as stack:
        values, warning, folder = {}, "", base
        if problem:
            folder = stack.enter_context(temporary_folder())
            values[CACHE_VARIABLE] = str(folder)
            # numba caches machine code beside the kernels, and in the user's cache folder only if that is read-only.
            if _NUMBA_VARIABLE not in os.environ and not os.access(Path(__file__).parent, os.W_OK):
                values[_NUMBA_VARIABLE] = str(folder / "numba")
            warning = (
                f"the cache folder {base} cannot be used ({problem}); a temporary folder is used, so every command "
                f"parses the data again: set {CACHE_VARIABLE} to a writable folder"
            )
        # Without a usable home folder, matplotlib would print two warnings in every process.
        if not os.environ.get(_MATPLOTLIB_VARIABLE) and _home_problem():
            values[_MATPLOTLIB_VARIABLE] = str(folder / "matplotlib")
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield warning
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _problem(base: Path) -> str:
    """Why a folder cannot be created or written; empty if it can."""
    if not base.is_absolute() and not os.environ.get(CACHE_VARIABLE):
        return "there is no home folder"
    nearest = next(folder for folder in (base.absolute(), *base.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    return "" if os.access(nearest, os.W_OK | os.X_OK) else f"{nearest} is not writable"


def _home_problem() -> str:
    try:
        return _problem(Path.home() / ".config" / "matplotlib")
    except RuntimeError:
        return "there is no home folder"


class CacheFolder:
    """A folder of cached data below ``BENCHBOX_CACHE_DIR`` or the user's cache folder; created by the first write."""

    def __init__(self, name: str) -> None:
        self.path = _base() / name

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an `OSError` while writing to the folder into a `BenchboxError` with a remedy."""
        try:
            yield
        except OSError as error:
            raise BenchboxError(
                f"cache folder {self.path}: {error.strerror or error}",
                hint=f"free some space, or set {CACHE_VARIABLE} to a writable folder",
            ) from error

    @contextlib.contextmanager
    def temporary(self) -> Iterator[tuple[IO[bytes], Path]]:
        """Open a new file in the folder, which is deleted on leaving unless `publish` has renamed it."""
        import tempfile

        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            self._sweep()
            handle, name = tempfile.mkstemp(prefix="writing-", dir=self.path)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file, path
        finally:
            path.unlink(missing_ok=True)

    def publish(self, file: IO[bytes], temporary: Path, name: str) -> None:
        """Flush a file to disk, then give it its final name."""
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(self.path / name)

    def write(self, name: str, content: bytes) -> None:
        """Write bytes together with their digest."""
        with self.temporary() as (file, temporary), self.writing():
            file.write(xxhash.xxh3_128_hexdigest(content).encode() + b"\n" + content)
            self.publish(file, temporary, name)

    def read(self, name: str) -> bytes | None:
        """Read bytes; None if the entry is missing or damaged."""
        with contextlib.suppress(OSError):
            digest, _, content = (self.path / name).read_bytes().partition(b"\n")
            return content if digest == xxhash.xxh3_128_hexdigest(content).encode() else None
        return None

    def write_json(self, name: str, value: object) -> None:
        """Write a value together with its digest."""
        self.write(name, json.dumps(value).encode())

    def read_json(self, name: str) -> Any:
        """Read a value; None if the entry is missing or damaged."""
        text = self.read(name)
        with contextlib.suppress(ValueError):
            return None if text is None else json.loads(text)
        return None

    def _sweep(self) -> None:
        """Delete temporary files that killed processes left behind."""
        for path in self.path.glob("writing-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()
