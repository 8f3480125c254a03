"""`benchbox denoise`: denoise one's own pictures with any row of a leaderboard."""

from __future__ import annotations

from pathlib import Path

import click

from benchbox.cli.options import Command, echo, output_option, plugin_options, run_options


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
    default="estimate",
    show_default=True,
    metavar="LEVEL",
    help="Noise level: a number such as 25/255 (on the scale from 0 to 1), estimate, or none.",
)
@click.option("--overwrite", is_flag=True, help="Replace results that exist.")
@run_options("timeout_s", "memory_gb", timeout_s={"help": "Time limit for one picture."})
@plugin_options
@click.pass_context
def command(
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
    from benchbox.cli.containment import interruptible
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
