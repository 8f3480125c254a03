"""Options shared by several commands, and the functions that print."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click

from benchbox.system.text import plain


def echo(text: object, *, nl: bool = True, err: bool = False, bold: bool = False) -> None:
    """Print text, its line feeds kept and every other control character taken out."""
    lines = "\n".join(plain(line) for line in str(text).split("\n"))
    click.secho(lines, nl=nl, err=err, bold=bold or None)


def print_text(text: str) -> None:
    """Print a finished text with one line feed at its end."""
    click.echo(text, nl=not text.endswith("\n"))


@contextlib.contextmanager
def printing_to(output: Path | None) -> Iterator[None]:
    """Write what is printed to the file that ``--output`` names, once all of it is there."""
    if output is None:
        yield
        return
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        yield
    try:
        output.write_text(printed.getvalue(), encoding="utf-8")
    except OSError as error:
        from benchbox.api.errors import BenchboxError

        raise BenchboxError(
            f"cannot write {output}: {error.strerror}", hint="choose another file with --output"
        ) from error


class Misuse(click.BadParameter):
    """A value that an option does not take, with what to write instead."""

    def __init__(self, message: str, hint: str, ctx: click.Context | None, param: click.Parameter | None) -> None:
        super().__init__(message, ctx, param)
        self.hint = hint


class Duration(click.ParamType[float]):
    """A time in seconds: ``5ms``, ``0.2s``, ``90s``, ``5m``, ``2h``.

    Parameters
    ----------
    bare : bool
        Whether a number without a unit is taken, as seconds.
    """

    name = "duration"
    _units: ClassVar[dict[str, float]] = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}

    def __init__(self, *, bare: bool = True) -> None:
        self._bare = bare

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a duration; a default is in seconds already."""
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"([0-9]*\.?[0-9]+) *(us|ms|s|m|h)?", value.strip())
        if match is None or float(match[1]) == 0 or not (match[2] or self._bare):
            hint = "write a number and its unit: 5ms, 0.2s, 90s, 5m or 2h"
            raise Misuse(f"'{value}' is not a duration", hint, ctx, param)
        return float(match[1]) * self._units[match[2] or "s"]

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Show ``DURATION`` in the help."""
        return "DURATION"


F = TypeVar("F", bound=Callable[..., Any])


def format_option(*forms: str) -> Callable[[F], F]:
    """Make a decorator that adds ``--format``; the first form is the default."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help="Form of the output.",
    )


def output_option(help_text: str = "Write the output to this file.", **attributes: Any) -> Callable[[F], F]:
    """Make a decorator that adds ``-o``, ``--output``: where the command writes what it makes."""
    attributes.setdefault("type", click.Path(path_type=Path, dir_okay=False))
    return click.option("-o", "--output", help=help_text, **attributes)


dataset_option = click.option("--dataset", default="", help="Kind of the data, where looking at it is not enough.")
skip_bad_option = click.option(
    "--skip-bad", is_flag=True, help="Go on without images that do not decode, and count them."
)

sort_option = click.option("--sort", default="", help="Metric that ranks.  [default: psnr, or the first of the run]")


def data_options(split_help: str, limit: int | None = None) -> Callable[[F], F]:
    """Make a decorator that adds the options of what is opened.

    Parameters
    ----------
    split_help : str
        What an empty ``--split`` means to the command.
    limit : int, optional
        Default of ``--limit``.
    """
    return _all(
        click.option(
            "--data",
            type=click.Path(path_type=Path),
            help="fer2013.csv, its folder of images, or any folder of images; without it the built-in sample is used.",
        ),
        dataset_option,
        click.option("--split", default="", help=split_help),
        click.option(
            "--limit",
            type=click.IntRange(min=1),
            default=limit,
            show_default=limit is not None,
            help="Draw this many images from the whole split, by the seed.",
        ),
        skip_bad_option,
        click.option(
            "--drop-duplicates",
            is_flag=True,
            help="Leave out images with a duplicate in Training or before them in the split; see 'data audit'.",
        ),
    )


def noise_option(function: F) -> F:
    """Add ``--noise``."""
    return click.option(
        "--noise",
        "noises",
        multiple=True,
        default=("gaussian:0.1",),
        show_default=True,
        help="Noise model, as 'benchbox list noises' shows; may repeat, + composes.",
    )(function)


def protocol_options(function: F) -> F:
    """Add the rules that hold for every denoiser: ``--seed``, ``--clip``, ``--quantize``, ``--sigma``."""
    return _all(
        click.option(
            "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of noise and draw."
        ),
        click.option("--clip", is_flag=True, help="Clip noisy images to [0, 1]."),
        click.option("--quantize", is_flag=True, help="Round noisy images to 8 bit (clips them too)."),
        click.option(
            "--sigma",
            type=click.Choice(["given", "estimated", "none"]),
            default="given",
            show_default=True,
            help="What denoisers are told of the noise level.",
        ),
    )(function)


def timeout_option(function: F) -> F:
    """Add ``--timeout``."""
    return click.option(
        "--timeout",
        type=Duration(),
        default="10m",
        show_default=True,
        help="Time limit for one shard, and for the timing of one denoiser.",
    )(function)


def results_option(function: F) -> F:
    """Add ``--results``."""
    return click.option(
        "--results",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("results"),
        show_default=True,
        help="Folder of all runs.",
    )(function)


def plugin_options(function: F) -> F:
    """Add ``--plugin`` and ``--plugins-dir``."""
    return _all(
        click.option(
            "--plugins-dir",
            "plugin_folders",
            type=click.Path(path_type=Path),
            multiple=True,
            envvar="BENCHBOX_PLUGINS_DIR",
            help="A folder of plugin files; may repeat.",
        ),
        click.option(
            "--plugin",
            "plugin_files",
            type=click.Path(path_type=Path),
            multiple=True,
            help="A plugin in one file; may repeat.",
        ),
    )(function)


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Add options in the order in which ``--help`` is to show them."""

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add
