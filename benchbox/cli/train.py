"""`benchbox train` and `benchbox tune`: fit the weights of a denoiser, or search its options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbox.cli.options import (
    Command,
    Duration,
    echo,
    format_option,
    output_option,
    plugin_options,
    print_text,
    run_options,
    typed_command,
)
from benchbox.records.options import DEFAULT_METRICS

if TYPE_CHECKING:
    from benchbox.engine.tune import TuneResult


@click.command("train", cls=Command)
@click.argument("denoiser")
@run_options("data", "dataset", "limit", limit={"help": "Sample N training images, using --seed."})
@click.option("--recipe", default="default", show_default=True, help="A way to train that the denoiser knows.")
@click.option(
    "--noise",
    multiple=True,
    help="Noise, possibly a range as in gaussian:0..0.3; may repeat, each image draws one.  [default: the recipe's]",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the images at most.  [default: the recipe's]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a step.  [default: the recipe's]")
@click.option("--learning-rate", type=float, help="Its highest value.  [default: the recipe's]")
@click.option("--patience", type=click.IntRange(min=1), help="Epochs without progress until it stops.")
@click.option("--budget", type=Duration(), help="Stop after this time; the learning rate then falls with the clock.")
@run_options("seed", seed={"help": "Random seed for weights, order and noise."})
@click.option("--start", default="", help="Weights to go on from, as the denoiser's weights option takes them.")
@output_option(
    "Folder for weights, card, history, curves, pictures and state.",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("training"),
    show_default=True,
)
@click.option("--resume", is_flag=True, help="Continue from the last epoch in --output.")
@plugin_options
def train(
    denoiser: str,
    data: Path | None,
    dataset: str,
    limit: int | None,
    recipe: str,
    noise: tuple[str, ...],
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    patience: int | None,
    budget: float | None,
    seed: int,
    start: str,
    output: Path,
    resume: bool,
    plugins: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
) -> None:
    """Train DENOISER and write weights with a training card.

    FER2013's Training split is fitted, PublicTest validated on, PrivateTest never opened.

    \b
    Examples:
      benchbox train unet --data fer2013.csv --output my-unet
      benchbox train unet --data fer2013.csv --output my-unet --resume
      benchbox run unet:weights=my-unet/weights.npz --data fer2013.csv
    """
    from benchbox.cli.containment import interruptible
    from benchbox.cli.progress import TrainingProgress
    from benchbox.training import TrainConfig, train

    config = TrainConfig(
        denoiser=denoiser,
        data=str(data or ""),
        out=output,
        dataset=dataset,
        limit=limit,
        recipe=recipe,
        noise=noise,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        budget_s=budget,
        seed=seed,
        start=start,
        resume=resume,
        plugin_files=plugins,
        plugin_folders=plugin_folders,
        command=typed_command(),
    )
    progress = TrainingProgress()

    def go_on() -> str:
        return config.command if resume else f"{config.command} --resume" if progress.epochs else ""

    with interruptible(go_on), progress:
        result = train(config, progress)
    best = next(row for row in reversed(result.history) if row.best)
    click.echo(f"ended: {result.stopped}; best epoch {best.epoch}, validation PSNR {best.val_psnr:.2f} dB")
    echo(f"weights: {result.weights}\ncard: {result.weights.with_suffix('.json')}")
    echo(f"try: benchbox run {denoiser}:weights={result.weights}")


_SHOWN = 10


@click.command("tune", cls=Command)
@click.argument("denoiser")
@click.option(
    "--space",
    "spaces",
    multiple=True,
    required=True,
    help="An option and the values to try; may repeat, every combination is tried.",
)
@run_options(
    "noise",
    "data",
    "dataset",
    "split",
    "limit",
    "skip_bad",
    "keep_duplicates",
    "seed",
    "clip",
    "quantize",
    "sigma",
    "jobs",
    "timeout_s",
    "results",
    "plugins",
    "plugin_folders",
    split={"help": "Split to fit.  [default: Training, where there is one]"},
    limit={"default": 500},
    jobs={"help": "Worker processes.  [default: all cores]"},
)
@click.option("--metric", default=DEFAULT_METRICS[0], show_default=True, metavar="METRIC", help="Metric to improve.")
@click.option(
    "--budget",
    type=Duration(),
    help="About how long it may take, as in 5m; candidates that do badly on few images are then left out, and the "
    "rest is scored on as many images as there is time for.",
)
@format_option("text", "json")
@output_option("File for the options found.", default=Path("tuned.json"), show_default=True)
def tune(
    denoiser: str,
    spaces: tuple[str, ...],
    noise: tuple[str, ...],
    data: Path | None,
    dataset: str,
    split: str,
    limit: int,
    skip_bad: bool,
    keep_duplicates: bool,
    seed: int,
    clip: bool,
    quantize: bool,
    sigma: str,
    metric: str,
    budget: float | None,
    jobs: int | None,
    timeout_s: float,
    form: str,
    output: Path,
    results: Path,
    plugins: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
) -> None:
    """Find the options of DENOISER that do best, and write them to a file that a run takes.

    The options that DENOISER already sets stay fixed. Its row in a run says what it was tuned on.

    \b
    Examples:
      benchbox tune median --space size=3,5 --noise salt-pepper:0.1
      benchbox tune tv_chambolle --space weight=0.05,0.07,0.1 --budget 5m
      benchbox run median median:@tuned.json --noise salt-pepper:0.1
    """
    from benchbox.api.threads import threads
    from benchbox.cli.progress import RunProgress
    from benchbox.engine.tune import TuneConfig, parse_space, tune
    from benchbox.records.run import DataRequest, Protocol

    config = TuneConfig(
        denoiser=denoiser,
        space=tuple(parse_space(text) for text in spaces),
        noises=noise,
        data=DataRequest(dataset, str(data) if data else "", split, limit, seed, skip_bad, keep_duplicates),
        protocol=Protocol(seed, clip or quantize, quantize, sigma),  # type: ignore[arg-type]
        metric=metric,
        budget_s=budget,
        jobs=jobs or threads(),
        timeout_s=timeout_s,
        results=results,
        plugin_files=plugins,
        plugin_folders=plugin_folders,
        command=typed_command(),
    )
    _require_writable(output)
    with RunProgress() as progress:
        result = tune(config, progress)
    if form == "json":
        print_text(_json(result))
    else:
        _show(result)
    # Saved last, so that a full disk does not take what was found.
    result.best.save(output)
    echo(
        f"options: {output}\nscores: {result.runs[-1]}\ntry: benchbox run {result.best.denoiser}:@{output}",
        err=form == "json",
    )


def _json(result: TuneResult) -> str:
    import dataclasses
    import json

    from benchbox.report.export import jsonable

    return json.dumps(jsonable(dataclasses.asdict(result)), indent=2, allow_nan=False, default=str)


def _require_writable(out: Path) -> None:
    """Refuse a file that cannot be written, before the search and not after it."""
    from benchbox.api.errors import BenchboxError

    reason = ""
    if not out.parent.is_dir():
        reason = f"there is no folder {out.parent}"
    elif not os.access(out if out.exists() else out.parent, os.W_OK):
        reason = "no permission"
    if reason:
        raise BenchboxError(f"cannot write {out}: {reason}", hint="choose another file with --output")


def _show(result: TuneResult) -> None:
    best = result.best
    unit = f" {result.unit}".rstrip()
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
