"""`benchbox inspect`: say what a model file is, without running it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbox.cli.options import Command, echo, format_option, output_option, plugin_options, print_text, printing_to

if TYPE_CHECKING:
    from benchbox.api.denoiser import Denoiser, Inspection


@click.command("inspect", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@format_option("text", "json")
@output_option()
@plugin_options
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[Path, ...],
    form: str,
    output: Path | None,
    plugins: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
) -> None:
    """Say what each model FILE is, without running it, and how to run it.

    Shows the format, the likely architecture, its size, how it takes the noise level,
    and whether it can be loaded without running code from it. The exit code is 1 if a
    file is not loaded.

    \b
    Examples:
      benchbox inspect dncnn_25.pth
      benchbox inspect *.onnx --format json
    """
    import json
    from dataclasses import asdict

    from benchbox.api.errors import BenchboxError
    from benchbox.registry import load_registry

    for file in files:
        if not file.exists():
            raise BenchboxError(f"{file}: no such file", hint="give the path of a model file")
    denoisers = [entry.cls for entry in load_registry(plugins, plugin_folders).denoisers.values()]
    inspected = [(file, *_inspect(file, denoisers)) for file in files]
    with printing_to(output):
        if form == "json":
            records = [{"file": str(file), "spec": spec} | asdict(found) for file, spec, found in inspected]
            print_text(json.dumps(records, indent=2))
        else:
            for file, spec, found in inspected:
                _show(file, spec, found)
    if any(found.refused for _, _, found in inspected):
        ctx.exit(1)


def _inspect(file: Path, denoisers: list[type[Denoiser]]) -> tuple[str, Inspection]:
    """The specification that runs a file, empty if it is not loaded, and what the file is."""
    from benchbox.api.denoiser import Inspection
    from benchbox.api.errors import BenchboxError

    for cls in denoisers:
        try:
            found = cls.inspect(file)
        except BenchboxError as error:
            return "", Inspection("damaged", refused=error.message, hint=error.hint or "")
        if found is not None:
            return "" if found.refused else _spec_of(cls.name, {"path": str(file)} | found.options), found
    known = "PyTorch (.pth, .pt, .ckpt, .safetensors), ONNX, Keras (.keras, .h5) and LiteRT (.tflite)"
    return "", Inspection("unknown", refused="no installed denoiser runs this kind of file", hint=f"known are {known}")


def _spec_of(name: str, options: dict[str, str]) -> str:
    from benchbox.records.specs import quote

    return f"{name}:{','.join(f'{key}={quote(value)}' for key, value in options.items())}"


def _show(file: Path, spec: str, found: Inspection) -> None:
    echo(str(file), bold=True)
    rows = {
        "format": found.format,
        "architecture": found.architecture,
        "parameters": f"{found.parameters:,}" if found.parameters else "",
        "multiply-adds": f"{found.macs_per_pixel / 1e3:,.4g} thousand per pixel" if found.macs_per_pixel else "",
        "sees": f"{found.receptive_field}x{found.receptive_field} pixels" if found.receptive_field else "",
        "channels": found.channels,
        "sigma": found.sigma,
    }
    lines = [(name, value) for name, value in rows.items() if value]
    lines += [("note", note) for note in found.notes]
    lines += (
        [("not loaded", found.refused), ("hint", found.hint)]
        if found.refused
        else [("safe", "loading it runs no code from the file"), ("run", f"benchbox run {shlex.quote(spec)}")]
    )
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        if value:
            echo(f"  {name:<{width}}  {value}")
