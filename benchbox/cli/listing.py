"""`benchbox list`: what can be named in a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from benchbox.cli.echo import echo
from benchbox.cli.options import plugin_options, results_option

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("list")
def command() -> None:
    """List denoisers, noises, datasets, metrics or runs.

    \b
    Example:
      benchbox list noises
    """


@command.command("denoisers")
@plugin_options
@_json_option
def denoisers(plugin_files: tuple[Path, ...], plugin_folders: tuple[Path, ...], as_json: bool) -> None:
    """List denoisers with their options."""
    from benchbox.registry import load_registry

    rows = []
    for name, entry in sorted(load_registry(plugin_files, plugin_folders).denoisers.items()):
        capabilities = entry.cls.capabilities
        rows.append(
            {
                "name": name,
                "summary": entry.cls.summary,
                "sigma": capabilities.sigma,
                "options": _options(entry.cls),
                "tuned on": capabilities.tuned_on,
                "reference": entry.cls.reference,
                "from": entry.provider.label,
            }
        )
    _show(rows, as_json, "benchbox run median:size=5 --noise gaussian:0.1")


@command.command("noises")
@plugin_options
@_json_option
def noises(plugin_files: tuple[Path, ...], plugin_folders: tuple[Path, ...], as_json: bool) -> None:
    """List noise models with formula, parameters and an example."""
    from benchbox.registry import load_registry

    rows = [
        {
            "name": name,
            "summary": entry.cls.summary,
            "formula": entry.cls.formula,
            "options": _options(entry.cls),
            "example": entry.cls.example,
            "reference": entry.cls.reference,
            "from": entry.provider.label,
        }
        for name, entry in sorted(load_registry(plugin_files, plugin_folders).noise_models.items())
    ]
    _show(rows, as_json, "benchbox run --noise poisson:30 --noise gaussian:25/255+salt-pepper:0.05")


@command.command("datasets")
@plugin_options
@_json_option
def datasets(plugin_files: tuple[Path, ...], plugin_folders: tuple[Path, ...], as_json: bool) -> None:
    """List data sets."""
    from benchbox.registry import load_registry

    rows = [
        {
            "name": name,
            "summary": entry.cls.summary,
            "splits": ", ".join(entry.cls.splits),
            "reference": entry.cls.reference,
            "from": entry.provider.label,
        }
        for name, entry in sorted(load_registry(plugin_files, plugin_folders).datasets.items())
    ]
    _show(rows, as_json, "benchbox run --data fer2013.csv --split PublicTest")


@command.command("metrics")
@plugin_options
@_json_option
def metrics(plugin_files: tuple[Path, ...], plugin_folders: tuple[Path, ...], as_json: bool) -> None:
    """List metrics."""
    from benchbox.registry import load_registry

    rows = [
        {
            "name": name,
            "summary": entry.cls.summary,
            "unit": entry.cls.unit,
            "better": "higher" if entry.cls.higher_is_better else "lower",
            "options": _options(entry.cls),
            "reference": entry.cls.reference,
            "from": entry.provider.label,
        }
        for name, entry in sorted(load_registry(plugin_files, plugin_folders).metrics.items())
    ]
    _show(rows, as_json, "benchbox run --metric psnr --metric accuracy:10")


@command.command("runs")
@results_option
@_json_option
def runs(results: Path, as_json: bool) -> None:
    """List runs, the newest last."""
    from benchbox.store import RunStore, list_runs

    rows = []
    for folder in list_runs(results):
        store = RunStore.open(folder)
        record, outcomes = store.record, store.outcomes()
        done = sum(outcome.status in ("ok", "skipped") for outcome in outcomes.values())
        rows.append(
            {
                "name": record.run_id,
                "summary": f"{record.data.images} images of {record.data.dataset} {record.data.split}".rstrip(),
                "noises": ", ".join(record.noises),
                "denoisers": ", ".join(denoiser.label for denoiser in record.denoisers),
                "cells done": f"{done} of {len(record.cells)}",
                "created": record.created,
            }
        )
    _show(rows, as_json, "benchbox leaderboard RUN")


def _options(cls: type) -> str:
    from benchbox.api.options import options_of, write_value

    return ", ".join(f"{one.name}={write_value(one.default)} ({one.kind})" for one in options_of(cls))


def _show(rows: list[dict[str, Any]], as_json: bool, example: str) -> None:
    if as_json:
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
