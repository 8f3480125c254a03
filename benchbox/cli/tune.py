"""`benchbox tune`: searches the options of a denoiser."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchbox.cli.echo import echo
from benchbox.cli.options import (
    data_options,
    noise_option,
    plugin_options,
    protocol_options,
    results_option,
    timeout_option,
)

if TYPE_CHECKING:
    from benchbox.engine.tune import TuneResult

_SHOWN = 10
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class _Duration(click.ParamType[float]):
    """Seconds, minutes or hours: ``90s``, ``5m``, ``1.5h``; a bare number is seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"([0-9]*\.?[0-9]+)([smh]?)", str(value).strip())
        if match is None or float(match[1]) == 0:
            self.fail(f"'{value}' is not a time such as 90s, 5m or 1h", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


@click.command("tune")
@click.argument("denoiser")
@click.option(
    "--space",
    "spaces",
    multiple=True,
    required=True,
    help="An option and the values to try; may repeat, every combination is tried.",
)
@noise_option
@data_options("Split to fit.  [default: Training, where there is one]", limit=500)
@protocol_options
@click.option("--metric", default="psnr", show_default=True, help="What is to be improved.")
@click.option(
    "--budget",
    type=_Duration(),
    help="About how long it may take, as in 5m; candidates that do badly on few images are then left out, and the "
    "rest is scored on as many images as there is time for.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Worker processes.  [default: all cores]")
@timeout_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("tuned.json"),
    show_default=True,
    help="File for the options found.",
)
@results_option
@plugin_options
def command(
    denoiser: str,
    spaces: tuple[str, ...],
    noises: tuple[str, ...],
    data: Path | None,
    dataset: str,
    split: str,
    limit: int,
    skip_bad: bool,
    drop_duplicates: bool,
    seed: int,
    clip: bool,
    quantize: bool,
    sigma: str,
    metric: str,
    budget: float | None,
    jobs: int | None,
    timeout: float,
    out: Path,
    results: Path,
    plugin_files: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
) -> None:
    """Find the options of DENOISER that do best, and write them to a file that a run takes.

    The options that DENOISER already sets stay fixed. Its row in a run says what it was tuned on.

    \b
    Examples:
      benchbox tune median --space size=3,5 --space passes=1,2,3 --noise salt-pepper:0.1
      benchbox tune tv_chambolle --space weight=0.05,0.07,0.1 --data fer2013.csv --budget 5m
      benchbox run median median:@tuned.json --noise salt-pepper:0.1
    """
    from benchbox.api.records import DataRequest, Protocol
    from benchbox.api.threads import threads
    from benchbox.cli.progress import RunProgress
    from benchbox.engine.tune import TuneConfig, parse_space, tune

    config = TuneConfig(
        denoiser=denoiser,
        space=tuple(parse_space(text) for text in spaces),
        noises=noises,
        data=DataRequest(dataset, str(data) if data else "", split, limit, seed, skip_bad, drop_duplicates),
        protocol=Protocol(seed, clip or quantize, quantize, sigma),  # type: ignore[arg-type]
        metric=metric,
        budget_s=budget,
        jobs=jobs or threads(),
        timeout_s=timeout,
        results=results,
        plugin_files=plugin_files,
        plugin_folders=plugin_folders,
        command=shlex.join(["benchbox", *sys.argv[1:]]),
    )
    _require_writable(out)
    with RunProgress() as progress:
        result = tune(config, progress)
    _show(result)
    # Saved last, so that a full disk does not take what was found.
    result.best.save(out)
    echo(f"options: {out}\nscores: {result.runs[-1]}\ntry: benchbox run {result.best.denoiser}:@{out}")


def _require_writable(out: Path) -> None:
    """Refuse a file that cannot be written, before the search and not after it."""
    from benchbox.api.errors import BenchboxError

    reason = ""
    if not out.parent.is_dir():
        reason = f"there is no folder {out.parent}"
    elif not os.access(out if out.exists() else out.parent, os.W_OK):
        reason = "no permission"
    if reason:
        raise BenchboxError(f"cannot write {out}: {reason}", hint="choose another file with --out")


def _show(result: TuneResult) -> None:
    best = result.best
    unit = " dB" if best.metric == "psnr" else ""
    echo(
        f"{best.denoiser} tuned on {best.label}: {best.images} images, {', '.join(best.noises)}; "
        f"{best.candidates} settings tried"
    )
    for note in result.notes:
        echo(f"note: {note}")
    for trial in result.trials[:_SHOWN]:
        mark = "  (as named)" if trial.label == result.start else ""
        if trial.reason:
            echo(f"  failed  {trial.label}: {trial.reason}")
        else:
            echo(f"  {best.metric} {trial.score:.4f}{unit} on {trial.images} images  {trial.label}{mark}")
    if len(result.trials) > _SHOWN:
        echo(f"  and {len(result.trials) - _SHOWN} more")
    if result.trials[0].label == result.start:
        echo(f"nothing in the space is better than {result.start}")
