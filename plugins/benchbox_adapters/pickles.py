"""Reads pickle streams without running them: every global that they name, and the tensors that they describe.

A pickle is a program for a small stack machine, and loading it runs whatever it names. This module follows the program
on paper: it builds plain containers and tensor headers, and notes a call instead of making it.
"""

from __future__ import annotations

import _compat_pickle
import pickletools
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

Container = Literal["zip", "legacy", "tar", "pickle"]

# A state dict takes some 100 bytes a tensor; a pickle in a zip that unpacks to more than this is a bomb.
_LARGEST = 64 * 2**20
_MAGIC = 0x1950A86A20F9469CFC6C
_MARK = object()
_COMPUTED = "(computed)"

_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
    "QInt8": "qint8",
    "QUInt8": "quint8",
    "QInt32": "qint32",
    "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4",
}
_DTYPES = {
    *(name for name in _STORAGES.values()),
    *(f"uint{bits}" for bits in (1, 2, 3, 4, 5, 6, 7, 16, 32, 64)),
    *(f"int{bits}" for bits in range(1, 8)),
    *("complex32", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2"),
}
_REBUILDERS = {
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._tensor._rebuild_from_type_v2",
}

# What `torch.load(weights_only=True)` takes: torch/_weights_only_unpickler.py. A test compares this with the installed
# torch, which may take more.
SAFE_GLOBALS = frozenset(
    _REBUILDERS
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
    | {f"torch.{dtype}" for dtype in _DTYPES}
    | {f"torch.{kind}Storage" for kind in _STORAGES}
    | {f"torch.cuda.{kind}Storage" for kind in _STORAGES if not kind.startswith("Q")}
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
class Global:
    """A class or function that a pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class TensorHeader:
    """Data type and shape of a tensor, without its values."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(eq=False)
class Call:
    """A call that a pickle asks for, or an object that it builds; nothing of it was run."""

    function: object
    arguments: object
    state: object = None


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
    machine = _Machine()
    try:
        for opcode, argument, _position in pickletools.genops(file):
            if opcode.name not in _SAFE_OPCODES:
                machine.opcodes.setdefault(opcode.name)
            machine.step(opcode.name, argument)
        value = machine.stack[-1]
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
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
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
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
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None and member.name in ("storages", "tensors", "pickle"):
                # The first pickle of `storages` and `tensors` counts what follows between raw numbers.
                streams[member.name] = read_stream(file)
    return Pickles("tar", streams, streams["pickle"].value if "pickle" in streams else None)


class _Machine:
    """The stack machine of pickle, which notes calls instead of making them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[str, None] = {}
        self.opcodes: dict[str, None] = {}

    def step(self, name: str, argument: Any) -> None:
        handler = _HANDLERS.get(name)
        if handler is not None:
            handler(self, argument)
        elif name.startswith(("EXT", "NEXT_BUFFER")):  # a global by its number, or data from outside the stream
            self.push_global(
                "copyreg" if name.startswith("EXT") else "pickle", f"{name.lower()} {argument or ''}".strip()
            )
        elif name not in _IGNORED:
            self.stack.append(argument)

    def push_global(self, module: object, name: object) -> None:
        if isinstance(module, str) and isinstance(name, str):
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            found = Global(_compat_pickle.IMPORT_MAPPING.get(module, module), name)
        else:
            found = Global(_COMPUTED, name if isinstance(name, str) else _COMPUTED)
        self.globals.setdefault(str(found))
        self.stack.append(found)

    def to_mark(self) -> list[Any]:
        """What was pushed since the last mark, which is removed."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def take(self, count: int) -> list[Any]:
        """The topmost values, which are removed."""
        if len(self.stack) < count:
            raise IndexError
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def call(self, function: object, arguments: object) -> None:
        self.stack.append(_header(function, arguments) or _container(function, arguments) or Call(function, arguments))

    def reduce(self, _argument: Any) -> None:
        self.call(*self.take(2))

    def new_with_keywords(self, _argument: Any) -> None:
        kind, positional, keywords = self.take(3)
        self.call(kind, (positional, keywords))

    def instance(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        arguments = tuple(self.to_mark())
        self.push_global(module, name)
        self.call(self.stack.pop(), arguments)

    def build_object(self, _argument: Any) -> None:
        kind, *arguments = self.to_mark()
        self.call(kind, tuple(arguments))

    def build(self, _argument: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Call):
            self.stack[-1].state = state

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            for at in range(0, len(items) - 1, 2):
                key = items[at]
                target[key if isinstance(key, (str, int, float, bytes, type(None))) else _Key(key)] = items[at + 1]

    def append(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def dictionary(self, _argument: Any) -> None:
        items = self.to_mark()
        self.stack.append({})
        self.set_items(items)

    def push(self, make: Callable[[], object]) -> None:
        self.stack.append(make())


@dataclass(eq=False, frozen=True)
class _Key:
    """A key of a dictionary that is no plain value, and may have no hash."""

    value: object


_IGNORED = frozenset({"STOP", "PROTO", "FRAME", "READONLY_BUFFER"})
_HANDLERS: dict[str, Callable[[_Machine, Any], object]] = {
    "MARK": lambda m, _: m.stack.append(_MARK),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.to_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "PERSID": lambda m, argument: m.stack.append(Call("persistent", argument)),
    "BINPERSID": lambda m, _: m.stack.append(Call("persistent", m.stack.pop())),
    "GLOBAL": lambda m, argument: m.push_global(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.push_global(*m.take(2)),
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.new_with_keywords,
    "INST": _Machine.instance,
    "OBJ": _Machine.build_object,
    "BUILD": _Machine.build,
    "EMPTY_DICT": lambda m, _: m.push(dict),
    "EMPTY_LIST": lambda m, _: m.push(list),
    "EMPTY_TUPLE": lambda m, _: m.push(tuple),
    "EMPTY_SET": lambda m, _: m.push(list),
    "DICT": _Machine.dictionary,
    "LIST": lambda m, _: m.stack.append(m.to_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.to_mark())),
    "FROZENSET": lambda m, _: m.stack.append(m.to_mark()),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.take(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.take(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.take(3))),
    "APPEND": lambda m, _: m.append(m.take(1)),
    "APPENDS": lambda m, _: m.append(m.to_mark()),
    "ADDITEMS": lambda m, _: m.append(m.to_mark()),
    "SETITEM": lambda m, _: m.set_items(m.take(2)),
    "SETITEMS": lambda m, _: m.set_items(m.to_mark()),
    **{name: lambda m, argument: m.stack.append(m.memo[int(argument)]) for name in ("GET", "BINGET", "LONG_BINGET")},
    **{
        name: lambda m, argument: m.memo.__setitem__(int(argument), m.stack[-1])
        for name in ("PUT", "BINPUT", "LONG_BINPUT")
    },
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.stack[-1]),
}


def _container(function: object, arguments: object) -> dict[Any, Any] | None:
    """An ordered dictionary, whose items follow or are its argument."""
    if str(function) != "collections.OrderedDict" or not isinstance(arguments, tuple):
        return None
    return _Items(dict(_pairs(arguments[0])) if arguments else {})


class _Items(dict[Any, Any]):
    """A dictionary that is true even if empty, because its items follow."""

    def __bool__(self) -> bool:
        return True


def _pairs(items: object) -> Iterator[tuple[Any, Any]]:
    for pair in items if isinstance(items, list) else ():
        if isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], (str, int)):
            yield pair[0], pair[1]


def _header(function: object, arguments: object) -> TensorHeader | None:
    """The tensor that a call of torch's rebuilding functions would return."""
    if str(function) not in _REBUILDERS or not isinstance(arguments, tuple) or not arguments:
        return None
    first = arguments[0]
    if isinstance(first, TensorHeader):  # a parameter around its data
        return first
    if isinstance(first, Global) and len(arguments) > 2:  # a tensor with attributes, by its own function
        return _header(first, arguments[2])
    if not isinstance(first, Call) or first.function != "persistent" or len(arguments) < 3:
        return None
    shape = arguments[2].arguments if isinstance(arguments[2], Call) else arguments[2]
    while isinstance(shape, tuple) and len(shape) == 1 and isinstance(shape[0], tuple):
        shape = shape[0]  # torch.Size((3, 3)), as the first versions wrote it
    if not isinstance(shape, tuple) or not all(isinstance(side, int) for side in shape):
        return None
    dtype = next((part.name for part in arguments[6:] if isinstance(part, Global) and part.name in _DTYPES), "")
    return TensorHeader(dtype or _storage_dtype(first.arguments), shape)


def _storage_dtype(identity: object) -> str:
    kind = identity[1] if isinstance(identity, tuple) and len(identity) > 1 else None
    name = kind.name if isinstance(kind, Global) else ""
    return _STORAGES.get(name.removesuffix("Storage"), "unknown")
