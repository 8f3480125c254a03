"""`benchbox replay`: cells of a run computed again, and whether every score is what it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbox.cli.options import results_option

if TYPE_CHECKING:
    from benchbox.engine.replay import CellReplayed, Replay


@click.command("replay")
@click.argument("run")
@click.option("--cell", default="", metavar="DENOISER@NOISE", help="Only this cell.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--plugin",
    "plugin_files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A plugin file of a run that somebody else made, which you trust; may repeat.",
)
@results_option
@click.pass_context
def command(
    ctx: click.Context, run: str, cell: str, as_json: bool, plugin_files: tuple[Path, ...], results: Path
) -> None:
    """Compute the cells of RUN again and hold every score to the stored one; the exit code is 1 when one differs.

    Noise is drawn from the recorded seeds. The images must be those of the run; a plugin of another version is used,
    and said.

    \b
    Examples:
      benchbox replay 20260131-1200
      benchbox replay 20260131-1200 --cell median:size=5@gaussian:0.1
    """
    from benchbox.cli.progress import RunProgress
    from benchbox.engine.replay import replay_run
    from benchbox.store import RunStore, find_run

    with RunProgress() as progress:
        replay = replay_run(RunStore.open(find_run(results, run)), cell, progress, plugin_files=plugin_files)
    click.echo(_json(replay) if as_json else _words(replay))
    if not replay.identical:
        ctx.exit(1)


def _words(replay: Replay) -> str:
    lines = [f"warning: {warning}" for warning in replay.warnings]
    for cell in replay.cells:
        lines += _cell_words(cell)
    done = [cell for cell in replay.cells if cell.status != "not replayed"]
    same = sum(cell.status == "identical" for cell in done)
    lines.append(f"run {replay.run_id}: {same} of {len(done)} cells bit-identical")
    return "\n".join(lines)


def _cell_words(cell: CellReplayed) -> list[str]:
    from benchbox.report.text import count, plain

    wrong = "" if cell.sigma_factor == 1 else f" told {cell.sigma_factor:g} sigma"
    name = plain(f"{cell.denoiser} @ {cell.noise}{wrong}")
    if not cell.scores:
        return [f"{name}: {cell.status}" + (f": {plain(cell.reason)}" if cell.reason else "")]
    images = count(next(iter(cell.scores.values())).images, "image")
    same = [plain(label) for label, one in cell.scores.items() if not one.different]
    lines = [f"{name}: {cell.status}, {images}"]
    if same:
        lines.append(f"  bit-identical: {', '.join(same)}")
    lines += [
        f"  {plain(label)}: {one.different:,} of {images} differ, by {one.largest:.3g} at most and {one.mean:.3g} "
        "in the mean"
        for label, one in cell.scores.items()
        if one.different
    ]
    return lines


def _json(replay: Replay) -> str:
    import dataclasses
    import json

    from benchbox.report.tabular import jsonable

    return json.dumps(jsonable(dataclasses.asdict(replay)), indent=2, allow_nan=False)
