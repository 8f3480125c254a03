"""`benchbox train`: fits the weights of a denoiser."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click

from benchbox.cli.options import plugin_options

if TYPE_CHECKING:
    from benchbox.training import Event

EVERY_S = 30.0
"""Seconds between two lines within an epoch where there is no progress bar."""


@click.command("train")
@click.argument("denoiser")
@click.option(
    "--data",
    default="",
    help="fer2013.csv, its folder of images, or any folder of images; without it the built-in sample is used.",
)
@click.option("--dataset", default="", help="Kind of the data, where looking at it is not enough.")
@click.option("--limit", type=click.IntRange(min=1), help="Draw this many training images, by the seed.")
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
@click.option("--minutes", type=float, help="Stop after this time; the learning rate then goes down with the clock.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of everything drawn.")
@click.option("--start", default="", help="Weights to go on from, as the denoiser's weights option takes them.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("training"),
    show_default=True,
    help="Folder for weights, card, history, curves, pictures and state.",
)
@click.option("--resume", is_flag=True, help="Go on from the last epoch in --out.")
@plugin_options
def command(
    denoiser: str,
    data: str,
    dataset: str,
    limit: int | None,
    recipe: str,
    noise: tuple[str, ...],
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    patience: int | None,
    minutes: float | None,
    seed: int,
    start: str,
    out: Path,
    resume: bool,
    plugin_files: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
) -> None:
    """Train DENOISER and write weights with a training card.

    FER2013's Training split is fitted, PublicTest validated on, PrivateTest never opened.

    \b
    Examples:
      benchbox train unet --data fer2013.csv --out my-unet
      benchbox train unet --data fer2013.csv --out my-unet --resume
      benchbox run unet:weights=my-unet/weights.npz --data fer2013.csv
    """
    from benchbox.training import TrainConfig, train

    config = TrainConfig(
        denoiser=denoiser,
        data=data,
        out=out,
        dataset=dataset,
        limit=limit,
        recipe=recipe,
        noise=noise,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        minutes=minutes,
        seed=seed,
        start=start,
        resume=resume,
        plugin_files=plugin_files,
        plugin_folders=plugin_folders,
        command=shlex.join(["benchbox", *sys.argv[1:]]),
    )
    # SIGTERM's default would leave the way to go on unsaid; SIGINT is ignored where a script started this with &.
    ends = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, signal.default_int_handler) for number in ends}
    progress = _Progress()
    try:
        with progress:
            result = train(config, progress)
    except KeyboardInterrupt:
        if progress.epochs or resume:
            command = config.command if resume else f"{config.command} --resume"
            click.echo(f"interrupted; every finished epoch is kept. Go on with: {command}", err=True)
        else:
            click.echo("interrupted before the first epoch was finished; nothing was kept", err=True)
        sys.exit(130)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    best = next(row for row in reversed(result.history) if row.best)
    click.echo(f"ended: {result.stopped}; best epoch {best.epoch}, validation PSNR {best.val_psnr:.2f} dB")
    click.echo(f"weights: {result.weights}\ncard: {result.weights.with_suffix('.json')}")
    click.echo(f"try: benchbox run {denoiser}:weights={result.weights}")


class _Progress:
    """Shows the events of a training on standard error; one line an epoch stays, and a line now and then in a pipe."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._told = time.monotonic()
        self.epochs = 0

    def __enter__(self) -> _Progress:
        """Start to draw."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing, so that an error stands on a clean line."""
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        from benchbox.training import BatchDone, TrainingStarted

        if isinstance(event, TrainingStarted):
            self._print(
                f"{event.images} images to fit, {event.validation} to validate on; epochs {event.first_epoch} to "
                f"{event.epochs}"
            )
            self._task = self._progress.add_task("", total=event.images, epoch=event.first_epoch, state="")
        elif isinstance(event, BatchDone):
            state = f"loss {event.loss:.6f}  {event.images_per_s:,.0f} images/s  {_clock(event.seconds_left)} left"
            self._progress.update(self._task, advance=event.images, epoch=event.epoch, state=state)
            if self._progress.disable and time.monotonic() > self._told + EVERY_S:
                self._told = time.monotonic()
                self._print(f"epoch {event.epoch}, {self._progress.tasks[0].completed:.0f} images: {state}")
        else:
            self._progress.reset(self._task, epoch=event.epoch + 1, state="")
            self.epochs += 1
            self._told = time.monotonic()
            self._print(
                f"epoch {event.epoch}: loss {event.loss:.6f}, accuracy {event.accuracy:.3f}; validation "
                f"{event.val_loss:.6f}, {event.val_psnr:.2f} dB, accuracy {event.val_accuracy:.3f}; "
                f"{event.images_per_s:,.0f} images/s"
                f"{', best' if event.best else ''}"
            )

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
