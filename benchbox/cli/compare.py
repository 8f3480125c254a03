"""`benchbox compare`: two runs side by side, and gates that fail where the second is too much worse."""

from __future__ import annotations

from pathlib import Path

import click

from benchbox.cli.options import results_option

GATE_FAILED = 3


@click.command("compare")
@click.argument("before")
@click.argument("after")
@click.option("--metric", default="psnr", show_default=True, help="Metric to show.")
@click.option(
    "--fail-if", "gates", multiple=True, metavar="CHANGE", help='A change that is too much: "psnr < -0.05 dB".'
)
@click.option("--format", "form", type=click.Choice(["table", "markdown", "json"]), default="table", show_default=True)
@results_option
@click.pass_context
def command(
    ctx: click.Context, before: str, after: str, metric: str, gates: tuple[str, ...], form: str, results: Path
) -> None:
    """Compare runs BEFORE and AFTER, image by image; the exit code is 3 when a gate fails.

    A gate is a change that is too much, in the unit of the figure or in %: of a metric, latency_p50, latency_p90,
    latency_p99, throughput, cold_start or peak_memory.

    \b
    Examples:
      benchbox compare 20260131-1200 20260202-0900
      benchbox compare 20260131 20260202 --fail-if "psnr < -0.05 dB" --fail-if "latency_p50 > +10%"
    """
    from benchbox.report.changes import TerminalComparison, render_comparison
    from benchbox.report.compare import compare_runs
    from benchbox.report.gates import check_gates, parse_gate
    from benchbox.store import RunStore, find_run

    stores = [RunStore.open(find_run(results, run)) for run in (before, after)]
    comparison = compare_runs(stores[0], stores[1], metric=metric)
    breaches = check_gates([parse_gate(gate, comparison) for gate in gates], comparison)
    if form == "table":
        from rich.console import Console

        Console().print(TerminalComparison(comparison, breaches), crop=False)
    else:
        click.echo(render_comparison(comparison, breaches, form), nl=False)
    if breaches:
        ctx.exit(GATE_FAILED)
