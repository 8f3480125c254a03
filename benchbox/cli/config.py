"""Configuration files of `benchbox run`: the options in TOML, in the words of the command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from benchbox.api.errors import BenchboxError, did_you_mean

_NOT_SAVED = {"config", "save_config", "resume", "print_run_id", "quiet", "verbose", "output", "form"}


def read_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Take the values of a file for the defaults of the command; the callback of ``--config``."""
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
