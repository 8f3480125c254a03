"""`benchbox denoise` and `benchbox inspect`: use any denoiser on your own pictures; say what a model file is."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbox.api.errors import BenchboxError
from benchbox.cli.options import Command, format_option, output_option, plugin_options, run_options
from benchbox.cli.terminal import echo, interruptible, print_text, printing_to

if TYPE_CHECKING:
    from benchbox.api.denoiser import Denoiser, Inspection


@click.command("denoise", cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PICTURES...", type=click.Path(path_type=Path))
@output_option(
    "Folder for the results, which keep their names.", type=click.Path(path_type=Path, file_okay=False), required=True
)
@click.option(
    "--with",
    "denoiser",
    default="bm3d_lite",
    show_default=True,
    metavar="DENOISER",
    help="Denoiser with its options, as in 'benchbox run'.",
)
@click.option(
    "--sigma",
    default="estimated",
    show_default=True,
    metavar="LEVEL",
    help="Noise level: a number such as 25/255 (on the scale from 0 to 1), estimated, or none.",
)
@click.option("--overwrite", is_flag=True, help="Replace results that exist.")
@run_options("timeout_s", "memory_gb", timeout_s={"help": "Time limit for one picture."})
@plugin_options
@click.pass_context
def denoise(
    ctx: click.Context,
    paths: tuple[Path, ...],
    output: Path,
    denoiser: str,
    sigma: str,
    overwrite: bool,
    timeout_s: float,
    memory_gb: float | None,
    plugins: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
) -> None:
    """Denoise PICTURES (files or folders) at full size.

    Format, size and depth (8 or 16 bits) stay the same. A denoiser for grey pictures gets
    each channel of a colour picture by itself. An alpha channel is kept, metadata are
    not. The exit code is 1 if a picture could not be denoised.

    \b
    Examples:
      benchbox denoise photo.png -o denoised
      benchbox denoise photos/ -o denoised --with "median:size=5" --sigma none
      benchbox denoise scan.tif -o denoised --with ffdnet --sigma 15/255
    """
    from benchbox.cli.progress import Display
    from benchbox.engine.denoise import denoise_files, parse_sigma, plan_files
    from benchbox.engine.plan import Limits
    from benchbox.registry import load_registry

    level = parse_sigma(sigma)
    tasks = plan_files(paths, output, overwrite=overwrite)
    entry = load_registry(plugins, plugin_folders).denoiser(denoiser)
    failed = 0
    with interruptible(), Display() as display:
        display.begin_stage(f"denoising with {entry.label}", len(tasks))
        for done in denoise_files(entry, tasks, level, Limits.of(timeout_s, memory_gb)):
            display.advance_stage()
            if done.reason:
                failed += 1
                echo(f"failed: {done.task.source}: {done.reason}", err=True)
                continue
            told = "blind" if done.sigma is None else f"sigma {done.sigma:.4g}"
            channels = f", {done.channels}" if done.channels else ""
            echo(f"{done.task.target}  {told}{channels}")
    if failed:
        echo(f"{failed} of {len(tasks)} pictures could not be denoised", err=True)
        ctx.exit(1)


@click.command("inspect", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@format_option("text", "json")
@output_option()
@plugin_options
@click.pass_context
def inspect(
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
    file cannot be loaded.

    \b
    Examples:
      benchbox inspect dncnn_25.pth
      benchbox inspect *.onnx --format json
    """
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
