"""Options of several commands, and those that a configuration file gives `benchbox run`, in the same words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.records.options import CLUSTER, DATA, LIMITS, NOISE, OUTPUT, PLUGINS, TIMING, RunOptions, option_of

if TYPE_CHECKING:
    from click import types


class Misuse(click.BadParameter):
    """A wrong value of an option, with a hint."""

    def __init__(self, message: str, hint: str, ctx: click.Context | None, param: click.Parameter | None) -> None:
        super().__init__(message, ctx, param)
        self.hint = hint


class Whole(click.IntRange):
    """A whole number in a range that has a lower end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Say in words what click says in the notation of ranges."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            most = "" if self.max is None else f" and at most {self.max}"
            words = f"'{value}' is not a whole number of at least {self.min}{most}"
            raise click.BadParameter(words, ctx, param) from error


class Above(click.FloatRange):
    """A number above another one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Say in words what click says in the notation of ranges."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            raise click.BadParameter(f"'{value}' is not a number above {self.min:g}", ctx, param) from error


class Duration(click.ParamType[float]):
    """A time such as ``5ms``, ``0.2s``, ``90s``, ``5m`` or ``2h``; if `bare`, a number without unit means seconds."""

    name = "duration"
    _units: ClassVar[dict[str, float]] = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}

    def __init__(self, *, bare: bool = True) -> None:
        self._bare = bare

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse a duration; numbers are seconds already."""
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"([0-9]*\.?[0-9]+) *(us|ms|s|m|h)?", value.strip())
        if match is None or float(match[1]) == 0 or not (match[2] or self._bare):
            hint = "write a number with its unit, such as 5ms, 0.2s, 90s, 5m or 2h"
            raise Misuse(f"'{value}' is not a duration", hint, ctx, param)
        return float(match[1]) * self._units[match[2] or "s"]

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Show ``DURATION`` in the help."""
        return "DURATION"


F = TypeVar("F", bound=Callable[..., Any])

GATE_FAILED = 3
"""Exit code if a gate fails."""

_TITLES = ("", DATA, NOISE, TIMING, LIMITS, CLUSTER, OUTPUT, PLUGINS)
_TYPES = get_type_hints(RunOptions)


class GroupedOption(click.Option):
    """An option that appears in one of the titled groups of the help."""

    def __init__(self, *arguments: Any, group: str = "", **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> types.OptionHelpExtra:
        """Omit the range, which the error message gives."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


_OUTPUT: dict[str, Any] = {"cls": GroupedOption, "group": OUTPUT}


class Command(click.Command):
    """A command whose help shows its options in titled groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per group, the command's own options first and ``--help`` last."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in sorted(self.get_params(ctx), key=lambda param: _TITLES.index(getattr(param, "group", ""))):
            row = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if row is not None and param is not self.get_help_option(ctx):
                groups.setdefault(getattr(param, "group", ""), []).append(row)
        helping = self.get_help_option(ctx)
        row = helping.get_help_record(ctx) if helping else None
        if row is not None:
            groups.setdefault("Other" if groups.keys() - {""} else "", []).append(row)
        for title, rows in groups.items():
            with formatter.section(title or "Options"):
                formatter.write_dl(rows)


class _Factors(click.ParamType[tuple[float, ...]]):
    """Comma-separated numbers: ``0.5,1,2``."""

    name = "factors"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            factors = tuple(float(part) for part in value.split(",") if part.strip())
        except ValueError:
            factors = (math.nan,)
        if not all(0 < factor < 100 for factor in factors):
            raise Misuse(f"'{value}' is not a list of factors", "write factors above 0, such as 0.5,1,2", ctx, param)
        return factors


def run_options(*names: str, **changes: dict[str, Any]) -> Callable[[F], F]:
    """Make a decorator that adds the named options of `RunOptions`, or all of them.

    `changes` overrides the click attributes of an option: ``limit={"default": 500}``.
    """
    decorators = [_run_option(name, **changes.get(name, {})) for name in names or _TYPES]

    def add(function: F) -> F:
        for decorate in reversed(decorators):
            function = decorate(function)
        return function

    return add


def _run_option(name: str, **changes: Any) -> Callable[[F], F]:
    """The click form of a field of `RunOptions`: its type follows from the annotation."""
    option, default = option_of(name), RunOptions.__dataclass_fields__[name].default
    if not option.group:
        return click.argument(name, nargs=-1, metavar=f"[{option.flag}]...")
    kinds = [kind for kind in (get_args(_TYPES[name]) or (_TYPES[name],)) if kind not in (type(None), ...)]
    kind: Any = kinds[0]
    metavar = option.metavar or ("N" if kind is int else None)
    attributes: dict[str, Any] = {"default": default, "metavar": metavar, "envvar": option.variable}
    if kind is bool:
        attributes["is_flag"] = True
    elif option.path:
        attributes["type"] = click.Path(path_type=Path)
        attributes["default"] = default or None
    elif name.endswith("_s"):
        attributes |= {"type": Duration(), "default": duration_text(getattr(RunOptions(), name)), "metavar": None}
    elif get_origin(_TYPES[name]) is Literal:
        attributes["type"] = click.Choice(kinds)
    elif kind is int:
        most = None if math.isinf(option.most) else int(option.most)
        attributes["type"] = Whole(int(option.least), most)
    elif get_origin(_TYPES[name]) is tuple and kind is float:
        attributes["type"] = _Factors()
    elif kind is float:
        attributes["type"] = Above(option.least, min_open=True)
    attributes["multiple"] = get_origin(_TYPES[name]) is tuple and kind is str
    attributes |= changes
    words = changes.get("help", option.help)
    if option.otherwise and not {"help", "default"} & changes.keys():
        words += f"  [default: {option.otherwise}]"
        attributes["show_default"] = False
    else:
        attributes["show_default"] = kind is not bool and attributes["default"] not in (None, "", ())
    attributes["help"] = words
    return click.option(option.flag, name, cls=GroupedOption, group=option.group, **attributes)


def chosen(values: Mapping[str, Any]) -> RunOptions:
    """Convert the values that click parsed to `RunOptions`."""
    return RunOptions(**{name: _as_option(name, value) for name, value in values.items() if name in _TYPES})


def _as_option(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_as_option(name, item) for item in value)
    if value is None:
        return RunOptions.__dataclass_fields__[name].default
    return str(value) if isinstance(value, Path) else value


def as_typed(options: RunOptions, names: Iterable[str]) -> list[str]:
    """The words of a command line for these options, without those that have their defaults."""
    words: list[str] = []
    for name in names:
        flag, value = option_of(name).flag, getattr(options, name)
        if value == RunOptions.__dataclass_fields__[name].default:
            continue
        if isinstance(value, bool):
            words.append(flag.split("/")[0 if value else -1])
        else:
            for item in value if isinstance(value, tuple) else (value,):
                words += [flag, duration_text(item) if name.endswith("_s") else str(item)]
    return words


def duration_text(seconds: float) -> str:
    """Format a duration with the largest whole unit: ``10m``."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1e3:g}ms"


def format_option(*forms: str) -> Callable[[F], F]:
    """Make a decorator that adds ``--format``; the first format is the default."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help="Output format.",
        **_OUTPUT,
    )


def output_option(help_text: str = "Write the output to this file.", **attributes: Any) -> Callable[[F], F]:
    """Make a decorator that adds ``-o``, ``--output``: a file, unless its type is a folder."""
    kind = attributes.setdefault("type", click.Path(path_type=Path, dir_okay=False))
    metavar = "FILE" if kind.file_okay else "FOLDER"
    return click.option("-o", "--output", metavar=metavar, help=help_text, **_OUTPUT | attributes)


verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Show all facts, notes and checks below the table.", **_OUTPUT
)
sort_option = click.option(
    "--sort",
    default="",
    metavar="METRIC",
    help="Metric to rank by.  [default: psnr, or the run's first metric]",
    **_OUTPUT,
)
results_option = run_options("results")
plugin_options = run_options("plugins", "plugin_folders")

_NOT_SAVED = {"config", "save_config", "resume", "print_run_id", "quiet", "verbose", "output", "form"}


def read_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Take the values of a file for the defaults of the command; the callback of ``--config``."""
    import tomllib

    if value is None:
        return None
    try:
        content = tomllib.loads(value.read_text("utf-8"))
    except OSError as error:
        raise BenchboxError(
            f"{value}: {error.strerror}", hint="give a TOML file, as --save-config writes one"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BenchboxError(f"{value}: {error}", hint='write for example: noise = ["gaussian:0.1"]') from error
    known = _words(ctx.command)
    ctx.default_map = {}
    for word, given in content.items():
        if word not in known:
            raise BenchboxError(f"{value}: there is no option '{word}'", hint=did_you_mean(word, known))
        option, on = known[word]
        ctx.default_map[str(option.name)] = _checked(ctx, option, _flat(option, given, on), f"{value}: {word}")
    return value


def write_config(ctx: click.Context, file: Path) -> None:
    """Write the options that were given, on the command line or by a configuration file; `--config` reads them."""
    lines = [f"# benchbox run --config {file.name}"]
    for param in ctx.command.params:
        name = str(param.name)
        if name in _NOT_SAVED or ctx.get_parameter_source(name) in (ParameterSource.DEFAULT, None):
            continue
        value = ctx.params[name]
        items = [str(item) if isinstance(item, Path) else item for item in value] if isinstance(value, tuple) else None
        text = json.dumps(str(value) if isinstance(value, Path) else value if items is None else items)
        lines.append(f"{_word(param)} = {text}")
    try:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise BenchboxError(f"cannot write {file}: {error.strerror}", hint="choose another file") from error


def _words(command: click.Command) -> dict[str, tuple[click.Parameter, bool]]:
    """Options by their long name without dashes; False for one that switches off."""
    words: dict[str, tuple[click.Parameter, bool]] = {}
    for param in command.params:
        if param.name not in _NOT_SAVED or param.name in ("quiet", "verbose", "output", "form"):
            words[_word(param)] = param, True
            words |= {flag.removeprefix("--"): (param, False) for flag in param.secondary_opts}
    return words


def _word(param: click.Parameter) -> str:
    if isinstance(param, click.Argument):
        return str(param.name)
    return max(param.opts, key=len).removeprefix("--")


def _flat(param: click.Parameter, given: Any, on: bool) -> Any:
    """A value in the form that click converts."""
    if not on:
        return not given if isinstance(given, bool) else given
    many = param.multiple or param.nargs == -1
    if isinstance(given, list):
        return given if many else ",".join(map(str, given))
    return [given] if many else given


def _checked(ctx: click.Context, param: click.Parameter, value: Any, where: str) -> Any:
    """A value that click accepts; raises `BenchboxError` that says where it is otherwise."""
    problem = next(_problems(param, value), "")
    try:
        if not problem:
            param.type_cast_value(ctx, value)
    except click.BadParameter as error:
        problem = error.message
    except (TypeError, ValueError) as error:
        problem = str(error)
    if problem:
        raise BenchboxError(f"{where}: {problem}", hint="see benchbox run --help")
    return value


def _problems(param: click.Parameter, value: Any) -> Iterator[str]:
    """What click would convert in silence: a number where text is meant, text where a switch is meant."""
    flag = isinstance(param, click.Option) and param.is_flag
    items = value if isinstance(value, list) else [value]
    if flag and not isinstance(value, bool):
        yield f"{value!r} is neither true nor false"
    text = isinstance(param.type, click.types.StringParamType | click.Path | click.Choice)
    if text and not flag and not all(isinstance(item, str) for item in items):
        yield f"{value!r} is not text"
    if not flag and any(isinstance(item, bool | dict) for item in items):
        yield f"{value!r} is not a value of this option"
