"""Options shared by several commands, and the one function that prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from benchbox.system.text import plain


def echo(text: object, *, nl: bool = True, err: bool = False, bold: bool = False) -> None:
    """Print text, its line feeds kept and every other control character taken out."""
    lines = "\n".join(plain(line) for line in str(text).split("\n"))
    click.secho(lines, nl=nl, err=err, bold=bold or None)


F = TypeVar("F", bound=Callable[..., Any])

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
        type=click.FloatRange(min=0, min_open=True),
        default=600.0,
        show_default=True,
        help="Seconds a shard may take.",
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
