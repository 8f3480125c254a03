"""`benchbox train` and `benchbox tune`: fit the weights of a denoiser, or search for its best options."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchbox.api.errors import BenchboxError
from benchbox.cli.options import (
    Command,
    Duration,
    F,
    GroupedOption,
    Whole,
    chosen,
    format_option,
    output_option,
    plugin_options,
    run_options,
)
from benchbox.cli.terminal import echo, interruptible, print_text, typed_command
from benchbox.records.specs import quote

if TYPE_CHECKING:
    from benchbox.engine.tune import TuneResult


def _recipe_option(flag: str, metavar: str, kind: Any, text: str) -> Callable[[F], F]:
    """An option whose default comes from the recipe."""
    return click.option(flag, cls=GroupedOption, type=kind, metavar=metavar, help=f"{text}  [default: from the recipe]")


@click.command("train", cls=Command)
@click.argument("denoiser")
@run_options("data", "dataset", "white", "limit", limit={"help": "Sample N training images, using --seed."})
@click.option("--recipe", default="default", show_default=True, metavar="NAME", help="Training recipe of the denoiser.")
@click.option(
    "--noise",
    multiple=True,
    metavar="NOISE",
    help="Training noise, possibly with a range, such as gaussian:0..0.3. Repeatable; each image draws one.  "
    "[default: from the recipe]",
)
@_recipe_option("--epochs", "N", Whole(min=1), "Largest number of passes over the images.")
@_recipe_option("--batch-size", "N", Whole(min=1), "Images per step.")
@_recipe_option("--learning-rate", "RATE", float, "Highest learning rate.")
@_recipe_option("--patience", "N", Whole(min=1), "Stop after this many epochs without improvement.")
@click.option("--budget", type=Duration(), help="End after about this time; the learning-rate schedule adapts to it.")
@run_options("seed", seed={"help": "Random seed for weights, order and noise."})
@click.option(
    "--start", default="", metavar="WEIGHTS", help="Initial weights: a value of the denoiser's weights option."
)
@output_option(
    "Folder for weights, training card, history, pictures and saved progress.",
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
    white: int | None,
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
    """Train DENOISER and write its weights with a training card.

    FER2013's Training split is used for training and PublicTest for validation;
    PrivateTest is never opened. Without PublicTest, one in ten images is held out.
    DENOISER may also be the judge of emotions, a classifier that metrics ask.

    \b
    Examples:
      benchbox train unet --data fer2013.csv --output my-unet
      benchbox train unet --data fer2013.csv --output my-unet --resume
      benchbox run unet:weights=my-unet/weights.npz --data fer2013.csv
      benchbox train emotion_judge --data fer2013.csv --output my-judge
      benchbox run --judge litert:path=my-judge/weights.tflite --data fer2013.csv
    """
    from benchbox.cli.progress import TrainingProgress
    from benchbox.training import TrainConfig, find_classifier, train, train_classifier

    config = TrainConfig(
        denoiser=denoiser,
        data=str(data or ""),
        out=output,
        dataset=dataset,
        white=white,
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
    if classifier := find_classifier(config):
        with interruptible(lambda: ""), progress:
            judged = train_classifier(config, classifier, progress)
        best_epoch = next(row for row in reversed(judged.history) if row.best)
        right = f"{100 * best_epoch.accuracy:.1f} % of the validation images right"
        click.echo(f"stopped: {judged.stopped}; best epoch {best_epoch.epoch}, {right}")
        echo(f"weights: {judged.weights}\ncard: {judged.weights.with_suffix('.json')}")
        return

    def continuation() -> str:
        return config.command if resume else f"{config.command} --resume" if progress.epochs else ""

    with interruptible(continuation), progress:
        result = train(config, progress)
    best = next(row for row in reversed(result.history) if row.best)
    click.echo(
        f"stopped: {result.stopped}; best epoch {best.epoch}, validation PSNR {best.val_psnr:.2f} dB, "
        f"{result.unchanged_psnr:.2f} dB without denoising"
    )
    if best.val_psnr < result.unchanged_psnr:
        click.secho("worse than doing nothing: train longer, with more --epochs or --budget", fg="yellow")
    echo(f"weights: {result.weights}\ncard: {result.weights.with_suffix('.json')}")
    words = [f"{denoiser}:weights={quote(str(result.weights))}", "identity"]
    words += [word for file in plugins for word in ("--plugin", str(file))]
    words += ["--data", str(data)] if data else []
    echo(f"try: benchbox run {shlex.join(words)}")


_SHOWN = 10


@click.command("tune", cls=Command)
@click.argument("denoiser")
@click.option(
    "--space",
    "spaces",
    multiple=True,
    required=True,
    metavar="OPTION=VALUES",
    help="Option and the values to try, such as size=3,5. Repeatable; all combinations are tried.",
)
@run_options(
    "noise",
    "data",
    "dataset",
    "split",
    "limit",
    "skip_bad",
    "keep_duplicates",
    "white",
    "seed",
    "protocol_name",
    "clip",
    "quantize",
    "sigma",
    "jobs",
    "timeout_s",
    "memory_gb",
    "results",
    "plugins",
    "plugin_folders",
    split={"help": "Split to tune on.  [default: Training, if there is one]"},
    limit={"default": 500},
    keep_duplicates={"help": "Also score images that a denoiser may have seen in training."},
    jobs={"help": "Worker processes.  [default: all cores]"},
    timeout_s={"help": "Time limit for one shard of images."},
)
@click.option("--metric", default="psnr", show_default=True, metavar="METRIC", help="Metric to optimise.")
@click.option(
    "--budget",
    type=Duration(),
    help="Approximate time limit, such as 5m: candidates that score badly on a few images are dropped, the others are "
    "scored on as many images as time permits.",
)
@format_option("text", "json")
@output_option("File for the best options.", default=Path("tuned.json"), show_default=True)
def tune(
    denoiser: str,
    spaces: tuple[str, ...],
    metric: str,
    budget: float | None,
    form: str,
    output: Path,
    **values: Any,
) -> None:
    """Find the best options of DENOISER and write them to a file that 'benchbox run' takes.

    Options set in DENOISER stay fixed. A run with the file shows what the options
    were tuned on.

    \b
    Examples:
      benchbox tune median --space size=3,5 --noise salt-pepper:0.1
      benchbox tune tv_chambolle --space weight=0.05,0.07,0.1 --budget 5m
      benchbox run median median:@tuned.json --noise salt-pepper:0.1
    """
    from benchbox.api.threads import threads
    from benchbox.cli.progress import RunProgress
    from benchbox.engine.tune import TuneConfig, parse_space, tune

    options = replace(chosen(values), metrics=(metric,), jobs=values["jobs"] or threads())
    space = tuple(parse_space(text) for text in spaces)
    config = TuneConfig(denoiser, space, options, budget, typed_command())
    _require_writable(output)
    with RunProgress() as progress:
        result = tune(config, progress)
    if form == "json":
        print_text(_json(result))
    else:
        _show(result)
    # Saved last, so that the result is printed even if the disk is full.
    result.best.save(output)
    echo(
        f"options: {output}\nscores: {result.runs[-1]}\ntry: benchbox run {result.best.denoiser}:@{output}",
        err=form == "json",
    )


def _json(result: TuneResult) -> str:
    from benchbox.report.export import jsonable

    return json.dumps(jsonable(dataclasses.asdict(result)), indent=2, allow_nan=False, default=str)


def _require_writable(out: Path) -> None:
    """Refuse a file that cannot be written before the search starts."""
    reason = ""
    if not out.parent.is_dir():
        reason = f"no such folder: {out.parent}"
    elif not os.access(out if out.exists() else out.parent, os.W_OK):
        reason = "permission denied"
    if reason:
        raise BenchboxError(f"cannot write {out}: {reason}", hint="choose another file with --output")


def _show(result: TuneResult) -> None:
    best = result.best
    unit = f" {result.unit}".rstrip()
    echo(
        f"{best.denoiser} tuned on {best.label}: {best.images} images, {', '.join(best.noises)}; "
        f"{best.candidates} candidates tried"
    )
    for note in result.notes:
        echo(f"note: {note}")
    for trial in result.trials[:_SHOWN]:
        mark = "  (start)" if trial.label == result.start else ""
        if trial.reason:
            echo(f"  failed  {trial.label}: {trial.reason}")
        else:
            echo(f"  {best.metric} {trial.score:.4f}{unit} on {trial.images} images  {trial.label}{mark}")
    if len(result.trials) > _SHOWN:
        echo(f"  and {len(result.trials) - _SHOWN} more")
    if result.trials[0].label == result.start:
        echo(f"no candidate is better than {result.start}")
