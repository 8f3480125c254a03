"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def results_option(function: F) -> F:
    """Add ``--results``."""
    return click.option(
        "--results",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("results"),
        show_default=True,
        help="Folder of all runs.",
    )(function)


def plugin_options(function: F) -> F:
    """Add ``--plugin`` and ``--plugins-dir``."""
    function = click.option(
        "--plugin",
        "plugin_files",
        type=click.Path(path_type=Path),
        multiple=True,
        help="A plugin in one file; may repeat.",
    )(function)
    return click.option(
        "--plugins-dir",
        "plugin_folders",
        type=click.Path(path_type=Path),
        multiple=True,
        envvar="BENCHBOX_PLUGINS_DIR",
        help="A folder of plugin files; may repeat.",
    )(function)
