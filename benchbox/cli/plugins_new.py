"""`benchbox plugins new`: writes a package with a working denoiser and its tests."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("new")
@click.argument("name")
@click.option(
    "--dir",
    "parent",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where the package's folder goes.  [default: here]",
)
def command(name: str, parent: Path) -> None:
    """Write a package NAME: a working denoiser, its entry point, tests of the contract and the speed, a README.

    \b
    Example:
      benchbox plugins new my-denoiser
    """
    from benchbox.cli.scaffold import write_package

    folder = write_package(name, parent)
    word = folder.name.replace("-", "_")
    click.echo(f"wrote {folder}: the denoiser is {word}.py\n\nNext:")
    click.echo(f'  pip install -e "{folder}"')
    click.echo(f"  benchbox run {word} identity --noise gaussian:0.1")
    click.echo(f"  benchbox plugins check {word}")
    click.echo(f'  cd "{folder}" && pytest')
