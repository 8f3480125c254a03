"""`benchbox inspect`: say what a model file is, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchbox.cli.options import Command, echo, format_option, output_option, plugin_options, print_text, printing_to

if TYPE_CHECKING:
    from benchbox.api.denoiser import Inspection


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

    from benchbox.registry import load_registry

    denoisers = load_registry(plugins, plugin_folders).denoisers.values()
    found = [(file, _inspect(file, [entry.cls for entry in denoisers])) for file in files]
    with printing_to(output):
        if form == "json":
            print_text(json.dumps([{"file": str(file)} | asdict(each) for file, each in found], indent=2))
        else:
            for file, each in found:
                _show(file, each)
    if any(each.refused for _, each in found):
        ctx.exit(1)


def _inspect(file: Path, denoisers: list[Any]) -> Inspection:
    from benchbox.api.denoiser import Inspection
    from benchbox.api.errors import BenchboxError

    if not file.exists():
        raise BenchboxError(f"{file}: no such file", hint="give the path of a model file")
    try:
        for cls in denoisers:
            found: Inspection | None = cls.inspect(file)
            if found is not None:
                return found
    except BenchboxError as error:
        return Inspection("damaged", refused=error.message, hint=error.hint or "")
    known = "PyTorch (.pth, .pt, .ckpt, .safetensors), ONNX, Keras (.keras, .h5) and LiteRT (.tflite)"
    return Inspection("unknown", refused="no installed denoiser runs this kind of file", hint=f"known are {known}")


def _show(file: Path, found: Inspection) -> None:
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
        else [("safe", "loading it runs no code from the file"), ("run", f"benchbox run {found.spec}")]
    )
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        if value:
            echo(f"  {name:<{width}}  {value}")
