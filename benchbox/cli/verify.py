"""`benchbox verify`: check benchbox against formulas, other implementations and published numbers."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.cli.options import Command, format_option, output_option, plugin_options, run_options
from benchbox.cli.terminal import echo, interruptible, print_text, printing_to, write_output

if TYPE_CHECKING:
    from benchbox.verify.claims import Claim, Measured, Recognised
    from benchbox.verify.internal import Check

_BY_NAMES = "number, sizes and names"


@click.command("verify", cls=Command)
@click.argument("folders", nargs=-1, metavar="[DATA]...", type=click.Path(path_type=Path))
@click.option(
    "--denoiser",
    default="bm3d_lite",
    show_default=True,
    metavar="DENOISER",
    help="Denoiser to compare with published numbers.",
)
@click.option("--as", "known_as", default="", metavar="NAME", help="Its published name, such as DnCNN-S.")
@click.option(
    "--level",
    "levels",
    multiple=True,
    type=int,
    metavar="N",
    help="Only this noise level, on the scale from 0 to 255. Repeatable.",
)
@click.option("--badge", type=click.Path(path_type=Path, dir_okay=False), help="Also write a badge (SVG) to this file.")
@run_options(
    "jobs",
    "timeout_s",
    "memory_gb",
    jobs={"help": "Worker processes.  [default: one more than cores]"},
    timeout_s={"help": "Time limit for one shard of images."},
)
@format_option("table", "markdown", "json")
@output_option()
@plugin_options
@click.pass_context
def command(
    ctx: click.Context,
    folders: tuple[Path, ...],
    denoiser: str,
    known_as: str,
    levels: tuple[int, ...],
    badge: Path | None,
    jobs: int | None,
    timeout_s: float,
    memory_gb: float | None,
    form: str,
    output: Path | None,
    plugins: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
) -> None:
    """Check benchbox against formulas and published numbers.

    Always checks noise models, metrics, statistics and BM3D-lite against formulas and
    independent implementations. With folders of standard images (DATA), which you bring,
    it also runs the denoiser and compares its scores with published ones. The exit code
    is 1 if something differs.

    \b
    Examples:
      benchbox verify
      benchbox verify Set12/ BSD68/
      benchbox verify Set12/ --denoiser torch:path=d25.pth --as DnCNN-S --level 25
    """
    from benchbox.cli.progress import RunProgress
    from benchbox.records.options import RunOptions
    from benchbox.registry import load_registry
    from benchbox.verify.claims import chosen_claims, find_sets, load_claims, load_sets, measure
    from benchbox.verify.internal import internal_checks

    options = RunOptions(
        denoisers=(denoiser,),
        jobs=jobs,
        timeout_s=timeout_s,
        memory_gb=memory_gb,
        plugins=tuple(map(str, plugins)),
        plugin_folders=tuple(map(str, plugin_folders)),
    )
    claims, sets = load_claims(), load_sets()
    names = sorted({claim.denoiser for claim in claims})
    if known_as and known_as not in names:
        raise BenchboxError(f"no published numbers of '{known_as}'", hint=did_you_mean(known_as, names))
    registry = load_registry(plugins, plugin_folders)
    registry.denoiser(denoiser)  # before the work, because it may be misspelt
    if not folders and (known_as or levels):
        raise BenchboxError(
            "--as and --level choose published numbers, which are about images",
            hint="give a folder of standard images; 'benchbox verify' says which sets it knows",
        )
    found = list(find_sets(folders, sets, registry))
    wanted = [chosen_claims(claims, each, denoiser, known_as, levels) for each in found]
    if (known_as or levels) and not any(wanted):
        raise _nothing_published(claims, found, known_as or denoiser, levels)
    checks: list[Check] = []
    measured: list[Measured] = []
    with interruptible(), RunProgress() as progress:
        progress.begin_stage("checking noise, metrics and statistics")
        checks.extend(internal_checks(registry))
        progress.end_stage()
        for each, about_it in zip(found, wanted, strict=True):
            if about_it:
                measured += measure(about_it, each, options, progress)
    with printing_to(output):
        if form == "json":
            print_text(_json(checks, measured, found))
        else:
            _show(checks, measured, found, markdown=form == "markdown")
            if not found:
                echo("Bring the images to compare with published numbers; benchbox recognises:")
                for known in sets:
                    digests = (
                        "; by content, or by names (unconfirmed)"
                        if known.blobs
                        else "; by number, sizes and names (unconfirmed)"
                    )
                    sizes = ", ".join(f"{height}x{width}" for height, width in known.sizes)
                    echo(f"  {known.name}: {known.images} images of {sizes}, {known.files}{digests}")
                    if known.blobs:
                        echo(f"    git blobs {' '.join(known.blobs)}")
    results: list[Check | Measured] = [*checks, *measured]
    decisive = [each for each in results if not _is_conflict(each)]
    missed = [each for each in decisive if not each.passed]
    if badge is not None:
        write_output(badge, _badge(len(decisive), len(missed)))
    if missed:
        ctx.exit(1)


def _nothing_published(
    claims: Sequence[Claim], found: Sequence[Recognised], name: str, levels: Sequence[int]
) -> BenchboxError:
    """The error for numbers that no paper has, with those that there are."""
    sets = [each.known.name for each in found]
    known: dict[str, set[int]] = {}
    for claim in claims:
        if claim.dataset in sets:
            known.setdefault(claim.denoiser, set()).add(claim.level)
    there = [f"{denoiser} at {', '.join(map(str, sorted(at)))}" for denoiser, at in sorted(known.items())]
    asked = f" at level {', '.join(map(str, levels))}" if levels else ""
    return BenchboxError(
        f"no published number of {name} on {', '.join(sets)}{asked}",
        hint=f"known: {'; '.join(there)}" if there else "no published number is about these images",
    )


def _is_conflict(each: Check | Measured) -> bool:
    claim = getattr(each, "claim", None)
    return claim is not None and claim.conflicts


def _show(checks: list[Check], measured: list[Measured], found: list[Recognised], *, markdown: bool) -> None:
    rows = [
        (each.name, f"{each.expected:.5g}", f"{each.measured:.5g}", f"{each.measured - each.expected:+.2g}",
         f"{each.tolerance:.2g}", _mark(each), each.against)
        for each in checks
    ]  # fmt: skip
    _print_table(("check", "expected", "measured", "difference", "tolerance", "", "against"), rows, markdown)
    for each in found:
        how = "the pixels of a folder seen before" if each.seen else "content" if each.confirmed else _BY_NAMES
        sure = f"recognised by {how}" if each.confirmed else f"unconfirmed: recognised by {how}"
        echo(f"{each.known.name} ({each.folder}): {sure}")
    if measured:
        from benchbox.builtin.metrics import METRICS

        digits = {metric.name: metric.digits for metric in METRICS}
        claims = [
            (f"{each.claim.denoiser} {each.claim.dataset} {each.claim.level} {each.claim.metric} {each.title}".strip(),
             f"{each.claim.value:g}", f"{each.measured:.{digits[each.claim.metric]}f}",
             f"{each.measured - each.claim.value:+.2g}", f"{each.claim.tolerance:g}", _mark(each), each.claim.paper)
            for each in measured
        ]  # fmt: skip
        _print_table(("claim", "published", "measured", "difference", "tolerance", "", "paper"), claims, markdown)
    elif found:
        echo("No published number here is about this denoiser and these images; name it with --as.")


def _mark(each: Check | Measured) -> str:
    return "✓" if each.passed else "✗ (conflicting)" if _is_conflict(each) else "✗"


def _print_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], markdown: bool) -> None:
    if markdown:
        lines = [heads, ("---",) * len(heads), *rows]
        print_text(
            "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines) + "\n"
        )
        return
    widths = [max(len(line[place]) for line in (heads, *rows)) for place in range(len(heads))]
    room = shutil.get_terminal_size().columns
    sources: dict[str, list[str]] = {}
    if sum(widths) + 2 * len(widths) > room:
        widths.pop()  # the source goes below the table
        for line in rows:
            sources.setdefault(line[-1], []).append(line[0])
    for line in (heads, *rows):
        cells = [cell.rjust(width) if 0 < place < 5 else cell.ljust(width)
                 for place, (cell, width) in enumerate(zip(line, widths, strict=False))]  # fmt: skip
        echo("  ".join(cells).rstrip())
    for source, names in sources.items():
        of = f": {'; '.join(names)}" if len(sources) > 1 else ""
        echo(textwrap.fill(f"{heads[-1]} {source}{of}", room, subsequent_indent="  ", break_on_hyphens=False))


def _json(checks: list[Check], measured: list[Measured], found: list[Recognised]) -> str:
    return json.dumps(
        {
            "checks": [asdict(each) | {"passed": each.passed} for each in checks],
            "sets": [
                {"name": each.known.name, "folder": str(each.folder), "confirmed": each.confirmed, "seen": each.seen}
                for each in found
            ],
            "claims": [asdict(each) | {"passed": each.passed} for each in measured],
        },
        indent=2,
    )


def _badge(total: int, missed: int) -> str:
    words, colour = f"{total - missed} of {total} agree", "#2e7d32" if not missed else "#c62828"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="220" height="20" role="img" font-family="sans-serif" '
        f'font-size="11" fill="#fff"><title>benchbox verify: {words}</title>'
        f'<rect width="100" height="20" fill="#555"/><rect x="100" width="120" height="20" fill="{colour}"/>'
        f'<text x="50" y="14" text-anchor="middle">benchbox verify</text>'
        f'<text x="160" y="14" text-anchor="middle">{words}</text></svg>\n'
    )
