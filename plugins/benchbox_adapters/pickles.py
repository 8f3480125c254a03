"""Reads pickle streams without running them: every global that they name, and the tensors that they describe.

A pickle is a program for a small stack machine, and loading it runs whatever it names. Here, `pickle_machine` follows
the program on paper.
"""

from __future__ import annotations

import lzma
import pickletools
import struct
import tarfile
import warnings
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from benchbox_adapters.pickle_machine import DTYPES, REBUILDERS, STORAGES, Machine

Container = Literal["zip", "legacy", "tar", "pickle"]

# A state dict takes some 100 bytes a tensor; a pickle in a zip that unpacks to more than this is a bomb.
_LARGEST = 64 * 2**20
# What the standard library raises on a damaged, encrypted or exotic zip.
ZIP_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError),
    *(NotImplementedError, RuntimeError, ValueError, LookupError),
)
_MAGIC = 0x1950A86A20F9469CFC6C
# What `torch.load(weights_only=True)` takes: torch/_weights_only_unpickler.py. A test compares this with the installed
# torch, which may take more.
SAFE_GLOBALS = frozenset(
    REBUILDERS
    | {
        *("collections.OrderedDict", "collections.Counter", "_codecs.encode"),
        *("builtins.bytearray", "builtins.set", "builtins.complex"),
        *("torch.nn.parameter.Parameter", "torch.Tensor", "torch.Size", "torch.device"),
        *("torch.serialization._get_layout", "torch.storage.TypedStorage", "torch.storage.UntypedStorage"),
        *(f"torch._utils._rebuild_{what}" for what in ("qtensor", "sparse_tensor", "nested_tensor")),
        *(f"torch._utils._rebuild_{what}" for what in ("meta_tensor_no_storage", "wrapper_subclass")),
        *(f"torch._utils._rebuild_device_tensor_from_{what}" for what in ("numpy", "cpu_tensor")),
        *(f"torch.per_{what}" for what in ("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric")),
        "torch.per_channel_affine_float_qparams",
    }
    | {f"torch.{dtype}" for dtype in DTYPES}
    | {f"torch.{kind}Storage" for kind in STORAGES}
    | {f"torch.cuda.{kind}Storage" for kind in STORAGES if not kind.startswith("Q")}
    | {
        f"torch.{room}{kind}Tensor"
        for room in ("", "cuda.", "sparse.", "cuda.sparse.")
        for kind in ("Double", "Float", "Long", "Int", "Short", "Char", "Byte", "Half", "BFloat16")
        if (room, kind) not in {("sparse.", "Half")}
    }
    | {"torch.BoolTensor", "torch.cuda.BoolTensor"}
)
_SAFE_OPCODES = {
    *("NEWOBJ", "REDUCE", "BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "MARK", "TUPLE", "TUPLE1", "TUPLE2"),
    *("TUPLE3", "NONE", "NEWFALSE", "NEWTRUE", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "BINPERSID"),
    *("BININT", "BININT1", "BININT2", "BINFLOAT", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "GLOBAL"),
    *("BINUNICODE", "SHORT_BINSTRING", "LONG1", "PROTO", "STOP"),
}


@dataclass(frozen=True)
class Stream:
    """One pickle, read without running it."""

    value: object = None
    """What it would return: plain containers, `TensorHeader`, `Global` and `Call`."""
    globals: tuple[str, ...] = ()
    """Every class and function that it names, in the order of the file."""
    opcodes: tuple[str, ...] = ()
    """Opcodes that torch's safe loader does not read."""
    damage: str = ""
    """Why it could not be read to the end; what comes before the damage would still run."""


@dataclass(frozen=True)
class Pickles:
    """All pickles of a file."""

    container: Container
    streams: dict[str, Stream]
    value: object = field(repr=False)
    """What loading the file would return, as in `Stream`."""

    @property
    def globals(self) -> tuple[str, ...]:
        """Every global that one of the pickles names."""
        return tuple(dict.fromkeys(name for stream in self.streams.values() for name in stream.globals))

    @property
    def refused(self) -> tuple[str, ...]:
        """Globals that torch's safe loader refuses."""
        return tuple(name for name in self.globals if name not in SAFE_GLOBALS)

    @property
    def opcodes(self) -> tuple[str, ...]:
        """Opcodes that torch's safe loader does not read."""
        return tuple(dict.fromkeys(code for stream in self.streams.values() for code in stream.opcodes))

    @property
    def damage(self) -> str:
        """The first damage, with the name of its pickle."""
        return next((f"{name}: {stream.damage}" for name, stream in self.streams.items() if stream.damage), "")


def read_stream(file: IO[bytes]) -> Stream:
    """Read one pickle from the position of a file, which is then just behind it."""
    machine = Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a string with an escape that Python does not know
            for opcode, argument, _position in pickletools.genops(file):
                if opcode.name not in _SAFE_OPCODES:
                    machine.opcodes.setdefault(opcode.name)
                machine.step(opcode.name, argument)
        value = machine.stack[-1]
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        reason = str(error) or "it takes more than there is"
        return Stream(None, tuple(machine.globals), tuple(machine.opcodes), f"damaged pickle ({reason})")
    return Stream(value, tuple(machine.globals), tuple(machine.opcodes))


def read_pickles(path: Path) -> Pickles:
    """Read all pickles of a file: a zip (torch 1.6 or later), several in a row (before), a tar (before 0.1.10), or one.

    Damage is noted in the streams; raises `OSError` if the file cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(4)
        if head == b"PK\x03\x04":
            return _read_zip(path)
        file.seek(0)
        if head[:1] != b"\x80" and tarfile.is_tarfile(file):
            return _read_tar(path)
        file.seek(0)
        first = read_stream(file)
        if first.value != _MAGIC:
            return Pickles("pickle", {"pickle": first}, first.value)
        streams = {"magic number": first}
        for name in ("protocol", "system", "object", "storage keys"):
            streams[name] = read_stream(file)
            if streams[name].damage:
                break
        return Pickles("legacy", streams, streams["object"].value if "object" in streams else None)


def _read_zip(path: Path) -> Pickles:
    streams: dict[str, Stream] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".pkl"):
                    name = info.filename
                    while name in streams:  # two entries of one name: which one is loaded depends on the reader
                        name += " (again)"
                    streams[name] = read_member(archive, info)
    except ZIP_DAMAGE as error:
        streams["zip"] = Stream(damage=f"damaged zip ({error})")
    data = min((name for name in streams if name.endswith("data.pkl")), key=len, default="")
    return Pickles("zip", streams, streams[data].value if data else None)


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Stream:
    """Read one pickle of a zip."""
    if info.file_size > _LARGEST:
        return Stream(damage=f"{info.file_size / 2**20:,.0f} MiB of pickle, expected less than {_LARGEST / 2**20:.0f}")
    with archive.open(info) as member:
        return read_stream(member)


def _read_tar(path: Path) -> Pickles:
    streams: dict[str, Stream] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None and member.name in ("storages", "tensors", "pickle"):
                    # The first pickle of `storages` and `tensors` counts what follows between raw numbers.
                    streams[member.name] = read_stream(file)
    except (tarfile.TarError, OSError, LookupError, ValueError) as error:
        streams["tar"] = Stream(damage=f"damaged tar ({error})")
    return Pickles("tar", streams, streams["pickle"].value if "pickle" in streams else None)
