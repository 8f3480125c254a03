"""Specifications: parses `name[:value][,key=value...]`, builds the configured object, and says which plugin has it."""

from __future__ import annotations

import contextlib
import inspect
import keyword
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import msgspec

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.api.version import DISTRIBUTION

NAME = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
Named = Annotated[str, msgspec.Meta(min_length=1)]
_KEY = re.compile(r"[a-z][a-z0-9_]*")
_UNQUOTED = re.compile(r"[^\s,+\"=]+")
_GRAMMAR_HINT = "write name, name:value or name:key=value,key=value; put values with , + = or spaces into double quotes"


@dataclass(frozen=True)
class Spec:
    """A name with the options that a user gave it, still as text."""

    name: str
    value: str | None = None  # what precedes the first comma without a key; it sets the first option
    options: tuple[tuple[str, str], ...] = ()  # keys and values in the order given


def parse_spec(text: str) -> Spec:
    """Read one specification, such as ``'gaussian:25/255'``; raises `BenchboxError` if it is not of the grammar."""
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


def split_name(text: str) -> tuple[str, str]:
    """Split the name of a row from its specification: ``'DnCNN (ours)=onnx:path=dncnn.onnx'``.

    The name is what precedes the first ``=`` if no colon comes before that; it is empty if there is none.
    """
    name, equals, rest = text.partition("=")
    if not equals or ":" in name:
        return "", text
    if not name.strip():
        raise BenchboxError(f"'{text}': the name before = is empty", hint='write "my name=median:size=5"')
    return name.strip(), rest


def parse_composition(text: str) -> tuple[Spec, ...]:
    """Read specifications joined by ``+``, applied from left to right.

    A ``+`` joins only before a letter, so that ``1e+2`` stays a number.
    """
    return tuple(parse_spec(part) for part in _split(text, "+"))


def quote(value: str) -> str:
    """Write a value so that `parse_spec` reads it back."""
    if _UNQUOTED.fullmatch(value):
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


@dataclass(frozen=True)
class Provider:
    """Source of a plugin, sufficient to load it again in another process."""

    kind: Literal["built in", "entry point", "file"]
    target: str  # module to import, or absolute path of the file
    # the installed package; for a file, a digest of its content
    distribution: str = ""
    version: str = ""

    @property
    def third_party(self) -> bool:
        """Whether the plugin is not bundled with benchbox."""
        return self.kind == "file" or self.distribution != DISTRIBUTION

    @property
    def label(self) -> str:
        """Readable form of the source."""
        if self.kind == "file":
            return self.target
        return f"{self.distribution} {self.version} ({self.target})"


@dataclass(frozen=True)
class PluginSpec:
    """What to load from which plugin, with its options, sufficient to make it again in another process."""

    provider: Provider
    spec: Named  # canonical specification
    # digest of the files that it depends on besides its code; empty if there are none
    content: str = field(default="", kw_only=True)

    @property
    def name(self) -> str:
        """The word that users type for it."""
        return self.spec.partition(":")[0]


T = TypeVar("T")
_SCALARS: tuple[type, ...] = (bool, int, float, str, Path)
_WORDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}


@dataclass(frozen=True)
class Option:
    """One option of a class."""

    name: str
    type: type  # bool, int, float, str, a subclass of str that checks its text, or pathlib.Path
    default: Any
    choices: tuple[str, ...] = ()  # the words it takes, where they are fixed
    optional: bool = False  # whether ``none`` is a value

    @property
    def kind(self) -> str:
        """What the option takes, in words."""
        words = "|".join(self.choices) if self.choices else self.type.__name__.lower()
        return f"{words}|none" if self.optional and "none" not in self.choices else words

    @property
    def default_text(self) -> str:
        """The default as text; ``unset`` where `none` is a word with another meaning."""
        return "unset" if self.default is None and "none" in self.choices else write_value(self.default)


def options_of(cls: type) -> tuple[Option, ...]:
    """Options of a class: the typed arguments of its constructor.

    Raises
    ------
    BenchboxError
        An argument has no default, no type, or a type that text cannot be turned into.
    """
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        return ()
    try:
        hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except NameError as error:
        raise BenchboxError(
            f"{cls.__name__}: {error}", hint="import the type that the option is annotated with"
        ) from error
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
    return tuple(_option(cls, parameter, hints.get(parameter.name)) for parameter in parameters)


@dataclass(frozen=True)
class Configured(Generic[T]):
    """A class with values for its options: a specification, parsed and checked once, ready to make the thing."""

    cls: type[T]
    name: str  # the word that users type for the class
    label: str = ""  # the specification as it was typed, which is shown
    values: Mapping[str, Any] = field(default_factory=dict)  # options that were set, typed; others keep their defaults

    def configured(self, spec: Spec, label: str = "") -> Self:
        """Set the options of a specification; the label is its canonical form unless one is given.

        Raises
        ------
        BenchboxError
            An option is unknown or set twice, or its value has another type.
        """
        return self.at(_values_of(self.cls, spec), label)

    def at(self, values: Mapping[str, Any], label: str = "") -> Self:
        """Set some options to values that have their types already."""
        configured = replace(self, values={**self.values, **values})
        return replace(configured, label=label or configured.spec)

    @property
    def spec(self) -> str:
        """The canonical specification, which identifies the thing in results.

        Options appear in the order in which the class declares them, without those that have their default; numbers in
        their shortest form; the first option without its key where it is the level of a noise.
        """
        parts = []
        for position, option in enumerate(options_of(self.cls)):
            # The level of a noise model is always there: 'gaussian' is 'gaussian:0.1'.
            level = position == 0 and option.type in (int, float) and not option.optional and _shows_level(self.cls)
            value = self.values.get(option.name, option.default)
            if level:
                parts.append(write_value(value))
            elif value != option.default or type(value) is not type(option.default):
                parts.append(f"{option.name}={quote(write_value(value))}")
        return self.name + (":" + ",".join(parts) if parts else "")

    @property
    def options(self) -> dict[str, str]:
        """Every option with its value in use, as text."""
        return {
            option.name: write_value(self.values.get(option.name, option.default)) for option in options_of(self.cls)
        }

    def make(self) -> T:
        """Make an object of the class.

        Raises
        ------
        BenchboxError
            The class refuses a value.
        """
        try:
            return self.cls(
                **{f"{name}_" if keyword.iskeyword(name) else name: value for name, value in self.values.items()}
            )
        except (ValueError, TypeError) as error:
            raise BenchboxError(f"{self.name}: {error}", hint=describe(self.cls, self.name)) from error


def configure(cls: type[T], text: str) -> Configured[T]:
    """Parse and check a specification of a class that is at hand; raises `BenchboxError` if it is wrong."""
    spec = parse_spec(text)
    return Configured(cls, spec.name).configured(spec, text.strip())


def _values_of(cls: type, spec: Spec) -> dict[str, Any]:
    """Values of the options that a specification sets, by name, typed."""
    options = {option.name: option for option in options_of(cls)}
    given = list(spec.options)
    if spec.value is not None:
        if not options:
            raise BenchboxError(f"{spec.name} takes no options, got '{spec.value}'", hint=f"write just {spec.name}")
        given.insert(0, (next(iter(options)), spec.value))
    values: dict[str, Any] = {}
    for key, text in given:
        if key not in options:
            known = did_you_mean(key, options) if options else f"{spec.name} takes no options"
            raise BenchboxError(f"{spec.name} has no option '{key}'", hint=known)
        if key in values:
            raise BenchboxError(f"{spec.name}: option '{key}' is set twice", hint="keep one of them")
        values[key] = _value(options[key], text, spec.name)
    return values


def describe(cls: type, name: str) -> str:
    """List the options of a class in one line, for hints and listings."""
    options = options_of(cls)
    if not options:
        return f"{name} takes no options"
    return f"{name} takes " + ", ".join(
        f"{option.name}={option.kind} (default {option.default_text})" for option in options
    )


def write_value(value: Any) -> str:
    """Write an option's value as text that reads back as the same value."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def _shows_level(cls: type) -> bool:
    return bool(getattr(cls, "level_title", ""))


def _option(cls: type, parameter: inspect.Parameter, hint: Any) -> Option:
    where = f"{cls.__name__}.__init__({parameter.name})"
    word = parameter.name.removesuffix("_")
    name = word if keyword.iskeyword(word) else parameter.name  # class_ is the option class
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise BenchboxError(f"{where}: options must be named", hint="replace it by typed keyword-only arguments")
    if parameter.default is parameter.empty:
        raise BenchboxError(f"{where} has no default", hint="every option needs one, so that the bare name works")
    if hint is None:
        hint = type(parameter.default)
    if hint is type(None):
        raise BenchboxError(f"{where} has no type", hint="annotate it with bool, int, float, str, Path or Literal")
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    optional = type(None) in members
    members = tuple(member for member in members if member is not type(None))
    if len(members) == 1 and typing.get_origin(members[0]) is typing.Literal:
        choices = typing.get_args(members[0])
        if all(isinstance(choice, str) for choice in choices):
            return Option(name, str, parameter.default, choices, optional)
    of_text = len(members) == 1 and isinstance(members[0], type) and issubclass(members[0], str)
    if of_text or (len(members) == 1 and members[0] in _SCALARS):
        return Option(name, members[0], parameter.default, (), optional)
    raise BenchboxError(
        f"{where} has type {hint}, which text cannot be turned into",
        hint="use bool, int, float, str, Path, a Literal of words, or one of these with None",
    )


def _value(option: Option, text: str, name: str) -> Any:
    if option.optional and text == "none":
        return None
    try:
        if option.choices:
            if text not in option.choices:
                raise ValueError(did_you_mean(text, option.choices))
            return text
        if option.type is bool:
            return {"true": True, "false": False}[text.lower()]
        if option.type is int:
            return int(text)
        if option.type is float:
            return _number(text)
        if option.type is not Path:
            return option.type(text)
        path = Path(text)
        with contextlib.suppress(RuntimeError):  # there is no such user, or no home folder
            path = path.expanduser()
        return path.absolute()  # so that a run can be repeated from any folder
    except (ValueError, KeyError, ZeroDivisionError) as error:
        reason = f"; {error}" if option.choices else ""
        words = _WORDS.get(option.type, option.kind) + (" or none" if option.optional else "")
        raise BenchboxError(
            f"{name}: {option.name}={text} is not {option.kind if option.choices else words}{reason}",
            hint=f"for example {name}:{option.name}="
            f"{write_value(option.choices[0] if option.choices else option.default)}",
        ) from error


def _number(text: str) -> float:
    """Read a number or a fraction such as 25/255."""
    top, slash, bottom = text.partition("/")
    number = float(top) / float(bottom) if slash else float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number
