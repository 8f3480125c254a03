"""`benchbox replay` and `benchbox whatif`: compute a finished run again, as it was or under other protocols."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbox.api.errors import BenchboxError
from benchbox.cli.options import Command, format_option, output_option, results_option, run_options, sort_option
from benchbox.cli.terminal import interruptible, print_text, printing_to, typed_command

if TYPE_CHECKING:
    from benchbox.engine.replay import CellReplayed, Replay
    from benchbox.engine.whatif import Rescoring


@click.command("whatif", cls=Command)
@click.argument("run", default="")
@click.option(
    "--only", multiple=True, metavar="PROTOCOL", help="Only this protocol, such as clip or mean-error. Repeatable."
)
@format_option("table", "markdown", "csv", "json")
@output_option()
@sort_option
@run_options("plugins", plugins={"help": "Trust this plugin file, for a run made by someone else. Repeatable."})
@results_option
@click.pass_context
def whatif(
    ctx: click.Context,
    run: str,
    only: tuple[str, ...],
    form: str,
    output: Path | None,
    sort: str,
    plugins: tuple[Path, ...],
    results: Path,
) -> None:
    """Show how the ranking of RUN changes under other protocols.

    Noise clipped or rounded, results rounded, edges not scored, other variants of
    PSNR and SSIM: for each, the shift of every row, which ranks move, and Kendall's
    tau. What the run has stored is used; otherwise its denoisers run again on the
    same noise, and the time that takes is shown first. Finished work is kept, so an
    interrupted command goes on where it stopped. The exit code is 1 if a row has no
    scores under a protocol. Without RUN, the newest run is used.

    \b
    Examples:
      benchbox whatif
      benchbox whatif 20260131-1200 --only clip --only border-4
      benchbox whatif 20260131-1200 --only mean-error --format markdown
    """
    from benchbox.cli.progress import RunProgress, safe
    from benchbox.engine.whatif import Rescoring
    from benchbox.records.alternatives import choose_alternatives
    from benchbox.report.build import sort_metric
    from benchbox.report.whatif import build_whatif
    from benchbox.report.whatif_export import TerminalWhatIf, render_whatif
    from benchbox.store import RunStore, find_run

    store = RunStore.open(find_run(results, run))
    sort_metric(sort, store.record)  # before the work, because it may be misspelt
    alternatives = choose_alternatives(store.record, store.smallest_side(), only)
    with interruptible(typed_command), RunProgress() as progress:
        try:
            rescoring = Rescoring(store, alternatives, progress, plugins)
        except BenchboxError as error:
            stored = [each.name for each in alternatives if each.pooled]
            instead = f"; benchbox whatif --only {stored[0]} needs neither images nor plugins" if stored else ""
            raise BenchboxError(error.message, hint=f"{error.hint}{instead}") from error
        if rescoring.queues:
            progress.say(safe(_announcement(rescoring)))
        rescored = rescoring.run()
    result = build_whatif(
        store,
        alternatives,
        sort=sort,
        keys=rescored.keys,
        failures=rescored.failures,
        warnings=rescored.warnings,
        by_metrics=not only,
    )
    if not result.outlooks:
        raise BenchboxError(
            f"run {store.record.run_id} has no finished rows to compare",
            hint=f"finish it: benchbox run --resume {store.record.run_id}",
        )
    with printing_to(output):
        if form == "table":
            from rich.console import Console

            Console().print(TerminalWhatIf(result), crop=False)
        else:
            print_text(render_whatif(result, form))
    if any(outlook.left_out for outlook in result.outlooks):
        ctx.exit(1)


def _announcement(rescoring: Rescoring) -> str:
    """What is computed, and how long it takes."""
    from benchbox.report.words import count

    seconds, unknown = rescoring.estimate()
    rows = count(len(rescoring.queues), "denoiser")
    work = f"scoring {rows} under other protocols ({count(rescoring.shards, 'shard')}; interrupt and go on at any time)"
    if len(unknown) == len(rescoring.queues):
        return f"{work}: the run has no latencies, so how long it takes shows with the first results"
    time = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    besides = f", besides {', '.join(unknown)}, not timed" if unknown else ""
    return f"{work}: about {time} on an idle machine, by the latencies of the run{besides}"


@click.command("replay", cls=Command)
@click.argument("run")
@click.option("--cell", default="", metavar="DENOISER@NOISE", help="Recompute only this cell.  [default: all]")
@format_option("text", "json")
@output_option()
@run_options("plugins", plugins={"help": "Trust this plugin file, for a run made by someone else. Repeatable."})
@results_option
@click.pass_context
def replay(
    ctx: click.Context,
    run: str,
    cell: str,
    form: str,
    output: Path | None,
    plugins: tuple[Path, ...],
    results: Path,
) -> None:
    """Recompute RUN and compare every score with the stored one.

    The noise is generated from the recorded seeds, and the images must be the same.
    A plugin of a different version is used, with a warning. The exit code is 1 if a
    score differs.

    \b
    Examples:
      benchbox replay 20260131-1200
      benchbox replay 20260131-1200 --cell median:size=5@gaussian:0.1
    """
    from benchbox.cli.progress import RunProgress
    from benchbox.engine.replay import replay_run
    from benchbox.store import RunStore, find_run

    with RunProgress() as progress:
        replay = replay_run(RunStore.open(find_run(results, run)), cell, progress, plugin_files=plugins)
    with printing_to(output):
        print_text(_json(replay) if form == "json" else _text(replay))
    if not replay.identical:
        ctx.exit(1)


def _text(replay: Replay) -> str:
    from benchbox.system.text import printable

    lines = [f"warning: {warning}" for warning in replay.warnings]
    for cell in replay.cells:
        lines += _cell_lines(cell)
    done = [cell for cell in replay.cells if cell.status != "not replayed"]
    same = sum(cell.status == "identical" for cell in done)
    lines.append(f"run {replay.run_id}: {same} of {len(done)} cells bit-identical")
    return "\n".join(printable(line) for line in lines)


def _cell_lines(cell: CellReplayed) -> list[str]:
    from benchbox.report.words import count

    factor = "" if cell.sigma_factor == 1 else f" given {cell.sigma_factor:g} sigma"
    name = f"{cell.denoiser} @ {cell.noise}{factor}"
    if not cell.scores:
        return [f"{name}: {cell.status}" + (f": {cell.reason}" if cell.reason else "")]
    images = count(next(iter(cell.scores.values())).images, "image")
    same = [label for label, score in cell.scores.items() if not score.different]
    lines = [f"{name}: {cell.status}, {images}"]
    if same:
        lines.append(f"  bit-identical: {', '.join(same)}")
    lines += [
        f"  {label}: {score.different:,} of {images} differ, by at most {score.largest:.3g} (mean {score.mean:.3g})"
        for label, score in cell.scores.items()
        if score.different
    ]
    return lines


def _json(replay: Replay) -> str:
    from benchbox.report.export import jsonable

    return json.dumps(jsonable(dataclasses.asdict(replay)), indent=2, allow_nan=False)
