"""Records into what JSON holds, and back with every type checked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(record: Any) -> dict[str, Any]:
    """Turn a record into what `json` writes."""
    return dataclasses.asdict(record)


def from_json(cls: type[T], values: Any) -> T:
    """Make a record from what `json` read.

    Raises
    ------
    ValueError
        A field is missing or of another shape.
    """
    return _convert(cls, values)  # type: ignore[no-any-return]


def digest(value: Any) -> str:
    """Stable hex digest of a JSON value, 16 characters."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


def _convert(kind: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise ValueError(f"{kind.__name__} is not an object")
        hints = typing.get_type_hints(kind)
        known = {one.name for one in dataclasses.fields(kind)}
        try:
            return kind(**{key: _convert(hints[key], item) for key, item in value.items() if key in known})
        except TypeError as error:
            raise ValueError(f"{kind.__name__}: {error}") from error
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_convert(arguments[0], item) for item in value)
        return tuple(_convert(one, item) for one, item in zip(arguments, value, strict=True))
    if origin is list:
        return [_convert(arguments[0], item) for item in value]
    if origin is dict:
        return {arguments[0](key): _convert(arguments[1], item) for key, item in value.items()}
    if origin is types.UnionType:
        return None if value is None else _convert(arguments[0], value)
    if kind is float and isinstance(value, int):
        return float(value)
    if kind is not Any and isinstance(kind, type) and not isinstance(value, kind):
        raise ValueError(f"{value!r} is not {kind.__name__}")
    return value
