"""Prints what others have written, such as names and messages of plugins, without what a terminal would obey."""

from __future__ import annotations

import click

from benchbox.api.plain import plain


def echo(text: object, *, nl: bool = True, err: bool = False, bold: bool = False) -> None:
    """Print text, its line feeds kept and every other control character taken out."""
    lines = "\n".join(plain(line) for line in str(text).split("\n"))
    click.secho(lines, nl=nl, err=err, bold=bold or None)
