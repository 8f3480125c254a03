"""The one grammar for what a user names: ``name[:value][,key=value...]``, and ``+`` to compose noises."""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchbox.api.errors import BenchboxError

NAME = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
_KEY = re.compile(r"[a-z][a-z0-9_]*")
_PLAIN = re.compile(r"[^\s,+\"=]+")
_GRAMMAR_HINT = "write name, name:value or name:key=value,key=value; put values with , + = or spaces into double quotes"


@dataclass(frozen=True)
class Spec:
    """A name with the options that a user gave it, still as text.

    Attributes
    ----------
    name : str
    value : str or None
        What stands before the first comma without a key; it sets the first option.
    options : tuple of (str, str)
        Keys and values in the order given.
    """

    name: str
    value: str | None = None
    options: tuple[tuple[str, str], ...] = ()


def parse_spec(text: str) -> Spec:
    """Read one specification.

    Parameters
    ----------
    text : str
        ``'median'``, ``'gaussian:25/255'``, ``'unet:weights=gaussian'``.

    Returns
    -------
    Spec

    Raises
    ------
    BenchboxError
        The text does not follow the grammar.
    """
    head, colon, rest = text.strip().partition(":")
    if not NAME.fullmatch(head):
        raise BenchboxError(f"'{text}': '{head}' is not a name", hint=_GRAMMAR_HINT)
    if not colon:
        return Spec(head)
    value: str | None = None
    options: list[tuple[str, str]] = []
    for position, part in enumerate(_split(rest, ",")):
        key, equals, given = _partition(part)
        if equals:
            if not _KEY.fullmatch(key):
                raise BenchboxError(f"'{text}': '{key}' is not an option's name", hint=_GRAMMAR_HINT)
            if key in dict(options):
                raise BenchboxError(f"'{text}': option '{key}' is given twice", hint="keep one of them")
            options.append((key, _unquote(given, text)))
        elif position == 0:
            value = _unquote(part, text)
        else:
            raise BenchboxError(f"'{text}': '{part}' has no key", hint=_GRAMMAR_HINT)
    return Spec(head, value, tuple(options))


def parse_composition(text: str) -> tuple[Spec, ...]:
    """Read specifications joined by ``+``, applied from left to right.

    A ``+`` joins only before a letter, so that ``1e+2`` stays a number.

    Raises
    ------
    BenchboxError
        The text does not follow the grammar.
    """
    return tuple(parse_spec(part) for part in _split(text, "+"))


def quote(value: str) -> str:
    """Write a value so that `parse_spec` reads it back."""
    if _PLAIN.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside quotes."""
    parts, start, quoted, position = [], 0, False, 0
    while position < len(text):
        character = text[position]
        if quoted and character == "\\":
            position += 1
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            joins = separator == "," or text[position + 1 : position + 2].strip().isalpha()
            if joins:
                parts.append(text[start:position])
                start = position + 1
        position += 1
    return [*parts, text[start:]]


def _partition(part: str) -> tuple[str, str, str]:
    """Cut a part at its first ``=`` unless a quote comes earlier."""
    if part.lstrip().startswith('"'):
        return part, "", ""
    return part.partition("=")


def _unquote(value: str, text: str) -> str:
    value = value.strip()
    if not value.startswith('"'):
        if not value:
            raise BenchboxError(f"'{text}': a value is empty", hint=_GRAMMAR_HINT)
        if '"' in value:
            raise BenchboxError(f"'{text}': a quote inside {value}", hint=_GRAMMAR_HINT)
        return value
    match = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', value)
    if match is None:
        raise BenchboxError(f"'{text}': a quote is not closed", hint=_GRAMMAR_HINT)
    return re.sub(r"\\(.)", r"\1", match.group(1))
