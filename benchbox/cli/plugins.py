"""`benchbox plugins`: what was found, where it came from, and what is broken; `new` and `check` beside it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from benchbox.cli import plugins_check, plugins_new
from benchbox.cli.echo import echo
from benchbox.cli.options import plugin_options


@click.group("plugins")
def command() -> None:
    """See which plugins were found, check one, or begin one.

    \b
    Examples:
      benchbox plugins list
      benchbox plugins new my-denoiser
      benchbox plugins check box3.py
    """


@command.command("list")
@plugin_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def listing(plugin_files: tuple[Path, ...], plugin_folders: tuple[Path, ...], as_json: bool) -> None:
    """List every plugin with its origin and what it offers; the broken ones with their reason.

    \b
    Example:
      benchbox plugins list --plugins-dir my_plugins
    """
    from benchbox.registry import load_registry

    registry = load_registry(plugin_files, plugin_folders, forgiving=True)
    found = [(provider, registry.offers(provider)) for provider in registry.providers]
    broken = [{"from": one.provider.label, "reason": one.reason, "hint": one.hint} for one in registry.broken]
    if as_json:
        plugins = [{"from": provider.label, "kind": provider.kind, "offers": offers} for provider, offers in found]
        click.echo(json.dumps({"plugins": plugins, "broken": broken}, indent=2))
        return
    for provider, offers in found:
        echo(provider.label, bold=True, nl=False)
        echo(f"  ({provider.kind})")
        for kind, names in offers.items():
            echo(f"    {kind}: {', '.join(names)}")
    for one in broken:
        click.secho("broken: ", fg="red", nl=False)
        echo(f"{one['from']}: {one['reason']}" + (f" (hint: {one['hint']})" if one["hint"] else ""))


command.add_command(plugins_new.command)
command.add_command(plugins_check.command)
