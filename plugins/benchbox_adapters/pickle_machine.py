"""The stack machine of pickle, on paper: it builds plain containers and tensor headers, and notes calls instead of
making them.
"""

from __future__ import annotations

import _compat_pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_MARK = object()
_COMPUTED = "(computed)"

STORAGES = {
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
DTYPES = {
    *(name for name in STORAGES.values()),
    *("uint16", "uint32", "uint64", "complex32", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
}
REBUILDERS = {
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._tensor._rebuild_from_type_v2",
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


class Machine:
    """The stack machine of pickle, which notes calls instead of making them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[str, None] = {}
        self.opcodes: dict[str, None] = {}

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction; raises `IndexError`, `ValueError` or `KeyError` if the stack or memo lack a value."""
        handler = _HANDLERS.get(name)
        if handler is not None:
            handler(self, argument)
        elif name.startswith(("EXT", "NEXT_BUFFER")):  # a global by its number, or data from outside the stream
            self._push_global(
                "copyreg" if name.startswith("EXT") else "pickle", f"{name.lower()} {argument or ''}".strip()
            )
        elif name not in _IGNORED:
            self.stack.append(argument)

    def _push_global(self, module: object, name: object) -> None:
        if isinstance(module, str) and isinstance(name, str):
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            found = Global(_compat_pickle.IMPORT_MAPPING.get(module, module), name)
        else:
            found = Global(_COMPUTED, name if isinstance(name, str) else _COMPUTED)
        self.globals.setdefault(str(found))
        self.stack.append(found)

    def _to_mark(self) -> list[Any]:
        """What was pushed since the last mark, which is removed."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def _take(self, count: int) -> list[Any]:
        """The topmost values, which are removed."""
        if len(self.stack) < count:
            raise IndexError
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def _call(self, function: object, arguments: object) -> None:
        self.stack.append(_header(function, arguments) or _container(function, arguments) or Call(function, arguments))

    def _reduce(self, _argument: Any) -> None:
        self._call(*self._take(2))

    def _new_with_keywords(self, _argument: Any) -> None:
        kind, positional, keywords = self._take(3)
        self._call(kind, (positional, keywords))

    def _instance(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        arguments = tuple(self._to_mark())
        self._push_global(module, name)
        self._call(self.stack.pop(), arguments)

    def _build_object(self, _argument: Any) -> None:
        kind, *arguments = self._to_mark()
        self._call(kind, tuple(arguments))

    def _build(self, _argument: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Call):
            self.stack[-1].state = state

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            for at in range(0, len(items) - 1, 2):
                key = items[at]
                target[key if isinstance(key, (str, int, float, bytes, type(None))) else _Key(key)] = items[at + 1]

    def _append(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _dictionary(self, _argument: Any) -> None:
        items = self._to_mark()
        self.stack.append({})
        self._set_items(items)

    def _push(self, make: Callable[[], object]) -> None:
        self.stack.append(make())


@dataclass(eq=False, frozen=True)
class _Key:
    """A key of a dictionary that is no plain value, and may have no hash."""

    value: object


_IGNORED = frozenset({"STOP", "PROTO", "FRAME", "READONLY_BUFFER"})
_HANDLERS: dict[str, Callable[[Machine, Any], object]] = {
    "MARK": lambda m, _: m.stack.append(_MARK),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m._to_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "PERSID": lambda m, argument: m.stack.append(Call("persistent", argument)),
    "BINPERSID": lambda m, _: m.stack.append(Call("persistent", m.stack.pop())),
    "GLOBAL": lambda m, argument: m._push_global(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m._push_global(*m._take(2)),
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._reduce,
    "NEWOBJ_EX": Machine._new_with_keywords,
    "INST": Machine._instance,
    "OBJ": Machine._build_object,
    "BUILD": Machine._build,
    "EMPTY_DICT": lambda m, _: m._push(dict),
    "EMPTY_LIST": lambda m, _: m._push(list),
    "EMPTY_TUPLE": lambda m, _: m._push(tuple),
    "EMPTY_SET": lambda m, _: m._push(list),
    "DICT": Machine._dictionary,
    "LIST": lambda m, _: m.stack.append(m._to_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m._to_mark())),
    "FROZENSET": lambda m, _: m.stack.append(m._to_mark()),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m._take(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m._take(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m._take(3))),
    "APPEND": lambda m, _: m._append(m._take(1)),
    "APPENDS": lambda m, _: m._append(m._to_mark()),
    "ADDITEMS": lambda m, _: m._append(m._to_mark()),
    "SETITEM": lambda m, _: m._set_items(m._take(2)),
    "SETITEMS": lambda m, _: m._set_items(m._to_mark()),
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
    if str(function) not in REBUILDERS or not isinstance(arguments, tuple) or not arguments:
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
    dtype = next((part.name for part in arguments[6:] if isinstance(part, Global) and part.name in DTYPES), "")
    return TensorHeader(dtype or _storage_dtype(first.arguments), shape)


def _storage_dtype(identity: object) -> str:
    kind = identity[1] if isinstance(identity, tuple) and len(identity) > 1 else None
    name = kind.name if isinstance(kind, Global) else ""
    return STORAGES.get(name.removesuffix("Storage"), "unknown")
