"""`benchbox list` and `benchbox plugins`: list what a run can use; check and create plugins."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchbox.api.errors import BenchboxError
from benchbox.cli.options import Command, Duration, format_option, output_option, plugin_options, results_option
from benchbox.cli.terminal import echo, printing_to

if TYPE_CHECKING:
    from benchbox.api.dataset import Dataset
    from benchbox.api.denoiser import Denoiser
    from benchbox.api.metric import Metric
    from benchbox.api.noise import NoiseModel
    from benchbox.records.run import Provider
    from benchbox.testing.subject import HealthCard


@click.group("list")
def listing_group() -> None:
    """List denoisers, noises, data sets, metrics or runs.

    \b
    Example:
      benchbox list noises
    """


def _listing(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of `benchbox list` from a function that takes plugins, their folders, a format and a file."""

    def decorate(function: Callable[..., None]) -> click.Command:
        with_options = plugin_options(format_option("text", "json")(output_option()(function)))
        return listing_group.command(name, cls=Command)(with_options)

    return decorate


def _rows(
    hook: str, plugins: tuple[Path, ...], folders: tuple[Path, ...], about: Callable[[Any], dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row for each thing that a hook offers: `about` returns what is said of a class of its kind."""
    from benchbox.registry import load_registry

    offered = getattr(load_registry(plugins, folders, hooks=[hook]), hook.removeprefix("benchbox_"))
    return [
        {
            "name": name,
            "summary": entry.cls.summary,
            **about(entry.cls),
            "reference": entry.cls.reference,
            "from": entry.provider.label,
        }
        for name, entry in sorted(offered.items())
    ]


@_listing("denoisers")
def denoisers(plugins: tuple[Path, ...], plugin_folders: tuple[Path, ...], form: str, output: Path | None) -> None:
    """List denoisers and their options."""

    def about(cls: type[Denoiser]) -> dict[str, Any]:
        known = cls.capabilities
        return {"sigma": known.sigma, "options": _options(cls), "tuned on": known.tuned_on}

    rows = _rows("benchbox_denoisers", plugins, plugin_folders, about)
    _show(rows, form, output, "benchbox run median:size=5 --noise gaussian:0.1")


@_listing("noises")
def noises(plugins: tuple[Path, ...], plugin_folders: tuple[Path, ...], form: str, output: Path | None) -> None:
    """List noise models with their formulas and options."""

    def about(cls: type[NoiseModel]) -> dict[str, Any]:
        return {"formula": cls.formula, "level": cls.level_title, "options": _options(cls), "example": cls.example}

    rows = _rows("benchbox_noise_models", plugins, plugin_folders, about)
    _show(rows, form, output, "benchbox run --noise poisson:30 --noise gaussian:25/255+salt-pepper:0.05")


@_listing("datasets")
def datasets(plugins: tuple[Path, ...], plugin_folders: tuple[Path, ...], form: str, output: Path | None) -> None:
    """List data sets."""

    def about(cls: type[Dataset]) -> dict[str, Any]:
        splits = ", ".join(cls.splits)
        return {"splits": splits, "fitted": cls.fitted, "validated": cls.validated, "tested": cls.tested}

    rows = _rows("benchbox_datasets", plugins, plugin_folders, about)
    _show(rows, form, output, "benchbox run --data fer2013.csv --split PublicTest")


@_listing("metrics")
def metrics(plugins: tuple[Path, ...], plugin_folders: tuple[Path, ...], form: str, output: Path | None) -> None:
    """List metrics and their options."""

    def about(cls: type[Metric]) -> dict[str, Any]:
        better = "higher" if cls.higher_is_better else "lower"
        return {"unit": cls.unit, "better": better, "default": _default_of(cls), "options": _options(cls)}

    rows = _rows("benchbox_metrics", plugins, plugin_folders, about)
    _show(rows, form, output, "benchbox run --metric psnr --metric accuracy:10")


def _default_of(metric: type[Metric]) -> str:
    """When a run computes a metric that was not named."""
    from benchbox.api.metric import NoReferenceMetric

    if not metric.by_default:
        return ""
    return "yes, without clean images" if issubclass(metric, NoReferenceMetric) else "yes"


@listing_group.command("runs", cls=Command)
@results_option
@format_option("text", "json")
@output_option()
def runs(results: Path, form: str, output: Path | None) -> None:
    """List runs, newest last."""
    from benchbox.store import RunStore, list_runs

    rows: list[dict[str, Any]] = []
    for folder in list_runs(results):
        try:
            store = RunStore.open(folder)
            record, outcomes = store.record, store.outcomes()
        except BenchboxError as error:
            rows.append({"name": folder.name, "summary": f"damaged: {error.message}"})
            continue
        done = sum(outcome.status in ("ok", "skipped") for outcome in outcomes.values())
        rows.append(
            {
                "name": record.run_id,
                "summary": f"{record.data.images} images of {record.data.label} {record.data.split}".rstrip(),
                "noises": ", ".join(noise.label for noise in record.noises),
                "denoisers": ", ".join(denoiser.label for denoiser in record.denoisers),
                "cells completed": f"{done} of {len(record.cells)}",
                "created": record.created,
            }
        )
    _show(rows, form, output, "benchbox leaderboard RUN")


def _options(cls: type) -> str:
    from benchbox.records.specs import options_of

    return ", ".join(f"{option.name}={option.default_text} ({option.kind})" for option in options_of(cls))


def _show(rows: list[dict[str, Any]], form: str, output: Path | None, example: str) -> None:
    with printing_to(output):
        _print_rows(rows, form, example)


def _print_rows(rows: list[dict[str, Any]], form: str, example: str) -> None:
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        echo("none")
        return
    for row in rows:
        echo(row["name"], bold=True, nl=False)
        echo(f"  {row['summary']}")
        for key, value in row.items():
            if key not in ("name", "summary") and value:
                echo(f"    {key}: {value}")
    echo(f"\nExample: {example}")


_COLOURS = {"pass": "green", "fail": "red", "skip": "yellow"}


@click.command("check", cls=Command)
@click.argument("target", metavar="NAME|FILE")
@click.option(
    "--noise",
    default="gaussian:0.1",
    show_default=True,
    metavar="NOISE",
    help="Noise that the denoiser is designed for.",
)
@click.option("--timeout", type=Duration(), default="2m", show_default=True, help="Time limit per probe.")
@click.option(
    "--freeze",
    is_flag=True,
    help="If no probe fails, write a noisy image and its result beside the model file; later runs compare with it.",
)
@format_option("text", "json")
@output_option()
@plugin_options
def plugins_check(
    target: str,
    noise: str,
    timeout: float,
    freeze: bool,
    form: str,
    output: Path | None,
    plugins: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
) -> int:
    """Check a denoiser against the contract.

    Shows one line per probe: its verdict, what it observed, and what to fix.
    NAME may have options; with a FILE, every denoiser in it is checked. The probes
    run in a separate process, so a plugin that hangs or crashes is reported too.
    The exit code is 1 if a probe fails.

    \b
    Examples:
      benchbox plugins check median:size=5
      benchbox plugins check onnx:path=model.onnx --freeze
      benchbox plugins check box3.py --format json
    """
    from benchbox.engine.plan import plan_noises
    from benchbox.registry import load_registry
    from benchbox.testing.check import examine_isolated

    plan_noises([noise], load_registry(plugins, plugin_folders))  # refuse an unknown noise before anything runs
    provider, spec = _find(target, plugins, plugin_folders, timeout)
    with printing_to(output):
        cards = list(_shown(examine_isolated(provider, spec, noise=noise, timeout_s=timeout), form))
        if form == "json":
            click.echo(json.dumps([asdict(card) | {"healthy": card.healthy} for card in cards], indent=2))
    healthy = all(card.healthy for card in cards)
    if freeze and healthy:
        _freeze(target, plugins, plugin_folders, timeout)
    return 0 if healthy else 1


def _freeze(target: str, files: tuple[Path, ...], folders: tuple[Path, ...], timeout_s: float) -> None:
    """Write the golden vector of a denoiser that has a model file."""
    from benchbox.engine.construction import require_constructed
    from benchbox.engine.golden import freeze, golden_file
    from benchbox.registry import load_registry

    entry = None if target.endswith(".py") else load_registry(files, folders).denoiser(target)
    made = require_constructed([entry], timeout_s) if entry else []
    golden = golden_file(made[0].files) if made else None
    if entry is None or golden is None:
        raise BenchboxError(
            f"--freeze: {target} names no model file to write a result beside",
            hint="give a denoiser with its file, such as onnx:path=model.onnx",
        )
    freeze(entry.plugin, golden, timeout_s)
    echo(f"golden vector: {golden}", err=True)


def _find(
    target: str, files: tuple[Path, ...], folders: tuple[Path, ...], timeout_s: float
) -> tuple[Provider, str | None]:
    """The plugin to check, and the denoiser in it where one is named."""
    from benchbox.engine.construction import construct
    from benchbox.records.run import Provider
    from benchbox.registry import load_registry

    if target.endswith(".py"):
        file = Path(target)
        if not file.is_file():
            raise BenchboxError(f"plugin {file}: no such file", hint="give a plugin file, or the name of a denoiser")
        return Provider("file", str(file.resolve())), None
    entry = load_registry(files, folders).denoiser(target)
    # As a run does: a wrong value is an error, and the probes show any other fault of the constructor.
    if entry.values and (refused := construct([entry], timeout_s)[0].refused):
        raise refused
    return entry.provider, entry.spec


def _shown(cards: Iterator[HealthCard], form: str) -> Iterator[HealthCard]:
    for card in cards:
        if form == "text":
            _show_card(card)
        yield card


def _show_card(card: HealthCard) -> None:
    echo(card.denoiser, bold=True, nl=False)
    echo(f"  ({card.source})")
    width = max(len(verdict.probe) for verdict in card.verdicts)
    for verdict in card.verdicts:
        click.secho(f"  {verdict.mark}", fg=_COLOURS[verdict.mark], nl=False)
        echo(f"  {verdict.probe:<{width}}  {verdict.seen}")
        if verdict.mark == "fail":
            echo(f"        expected: {verdict.asks}")
            echo(f"        hint: {verdict.advice}")
    counts = [f"{sum(verdict.mark == mark for verdict in card.verdicts)} {mark}" for mark in _COLOURS]
    echo(f"  {', '.join(counts)}")


@click.command("new", cls=Command)
@click.argument("name")
@output_option(
    "Parent folder of the package.  [default: current folder]",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
)
@click.option(
    "--template",
    type=click.Choice(("filter", "torch", "onnx", "metric", "noise")),
    default="filter",
    show_default=True,
    help="Kind of plugin: a denoiser as a filter, a PyTorch network or an ONNX model; a metric; a noise model.",
)
def plugins_new(name: str, output: Path, template: str) -> None:
    """Create a plugin package called NAME.

    It contains a working plugin, its entry point, tests, and a README.

    \b
    Examples:
      benchbox plugins new my-denoiser
      benchbox plugins new my-metric --template metric
    """
    from benchbox.testing.scaffold import commands_of, write_package

    folder = write_package(name, output, template)
    word = folder.name.replace("-", "_")
    echo(f"wrote {folder}; the plugin is in {word}.py\n\nNext:")
    echo(f'  pip install -e "{folder}"')
    for command in commands_of(template, word):
        echo(f"  {command}")
    echo(f'  cd "{folder}" && pytest')


@click.group("plugins")
def plugins_group() -> None:
    """List plugins, check one, or create one.

    \b
    Examples:
      benchbox plugins list
      benchbox plugins new my-denoiser
      benchbox plugins check box3.py
    """


@plugins_group.command("list", cls=Command)
@plugin_options
@format_option("text", "json")
@output_option()
def listing(plugins: tuple[Path, ...], plugin_folders: tuple[Path, ...], form: str, output: Path | None) -> None:
    """List plugins, their sources, and what is broken.

    \b
    Example:
      benchbox plugins list --plugins-dir my_plugins
    """
    from benchbox.registry import load_registry

    registry = load_registry(plugins, plugin_folders, forgiving=True)
    working = [(provider, registry.offers(provider)) for provider in registry.providers]
    broken = [
        {"from": plugin.provider.label, "reason": plugin.reason, "hint": plugin.hint} for plugin in registry.broken
    ]
    with printing_to(output):
        if form == "json":
            rows = [{"from": provider.label, "kind": provider.kind, "offers": offers} for provider, offers in working]
            click.echo(json.dumps({"plugins": rows, "broken": broken}, indent=2))
        else:
            _print_plugins(working, broken)


def _print_plugins(working: list[tuple[Provider, dict[str, list[str]]]], broken: list[dict[str, str]]) -> None:
    for provider, offers in working:
        echo(provider.label, bold=True, nl=False)
        echo(f"  ({provider.kind})")
        for kind, names in offers.items():
            echo(f"    {kind}: {', '.join(names)}")
    for plugin in broken:
        click.secho("broken: ", fg="red", nl=False)
        echo(f"{plugin['from']}: {plugin['reason']}" + (f" (hint: {plugin['hint']})" if plugin["hint"] else ""))


plugins_group.add_command(plugins_new)
plugins_group.add_command(plugins_check)
