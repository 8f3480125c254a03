"""`benchbox plugins check`: the health card of a denoiser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbox.cli.echo import echo
from benchbox.cli.options import plugin_options

if TYPE_CHECKING:
    from benchbox.api.records import Provider
    from benchbox.api.spec import Spec
    from benchbox.testing.card import HealthCard

_COLOURS = {"pass": "green", "fail": "red", "skip": "yellow"}


@click.command("check")
@click.argument("target", metavar="NAME|FILE")
@click.option("--noise", default="gaussian:0.1", show_default=True, help="The noise that the denoiser is for.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="Seconds that a probe may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plugin_options
def command(
    target: str,
    noise: str,
    timeout: float,
    as_json: bool,
    plugin_files: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
) -> int:
    """Run the contract on a denoiser: a verdict a probe, what was seen, and what to do.

    It runs in a process of its own, so that a plugin that hangs or dies gets its card too. NAME may carry options; of
    a FILE all denoisers are checked. The exit code is 1 when a probe fails.

    \b
    Examples:
      benchbox plugins check median:size=5
      benchbox plugins check box3.py --json
    """
    from benchbox.engine.plan import plan_noise
    from benchbox.registry import load_registry
    from benchbox.testing.isolated import examine_isolated

    plan_noise(noise, load_registry())  # an unknown noise is said before anything runs
    provider, spec = _find(target, plugin_files, plugin_folders)
    cards = list(_shown(examine_isolated(provider, spec, noise=noise, timeout_s=timeout), as_json))
    if as_json:
        from benchbox.api.records import to_json

        click.echo(json.dumps([to_json(card) | {"healthy": card.healthy} for card in cards], indent=2))
    return 0 if all(card.healthy for card in cards) else 1


def _find(target: str, files: tuple[Path, ...], folders: tuple[Path, ...]) -> tuple[Provider, Spec | None]:
    """The plugin to check, and the denoiser in it where one is named."""
    from benchbox.api.errors import BenchboxError
    from benchbox.api.options import build, resolve
    from benchbox.api.records import Provider
    from benchbox.api.spec import parse_spec
    from benchbox.registry import load_registry

    if target.endswith(".py"):
        file = Path(target)
        if not file.is_file():
            raise BenchboxError(f"plugin {file}: there is no such file", hint="give a file, or the name of a denoiser")
        return Provider("file", str(file.resolve())), None
    spec = parse_spec(target)
    entry = load_registry(files, folders).denoiser(spec.name)
    if resolve(entry.cls, spec):
        build(entry.cls, spec)  # as a run does: a wrong value is said at once, not by every probe
    return entry.provider, spec


def _shown(cards: Iterator[HealthCard], as_json: bool) -> Iterator[HealthCard]:
    for card in cards:
        if not as_json:
            _show(card)
        yield card


def _show(card: HealthCard) -> None:
    echo(card.denoiser, bold=True, nl=False)
    echo(f"  ({card.source})")
    width = max(len(verdict.probe) for verdict in card.verdicts)
    for verdict in card.verdicts:
        click.secho(f"  {verdict.mark}", fg=_COLOURS[verdict.mark], nl=False)
        echo(f"  {verdict.probe:<{width}}  {verdict.seen}")
        if verdict.mark == "fail":
            echo(f"        asked: {verdict.asks}")
            echo(f"        hint: {verdict.advice}")
    counts = [f"{sum(one.mark == mark for one in card.verdicts)} {mark}" for mark in _COLOURS]
    echo(f"  {', '.join(counts)}")
