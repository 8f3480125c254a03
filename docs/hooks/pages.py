"""MkDocs hooks: pages from outside docs/, and the command line from click.

README.md, CONTRIBUTING.md and the READMEs of plugins are pages of the site where they are, so that no text exists
twice. Links are written for a reader of the repository; here they are made to fit the site, and a link to a file that
the site does not have, such as a test, becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from benchbox.cli.main import cli

ROOT = Path(__file__).parents[2]
OUTSIDE = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "plugins/README.md",
    "plugins/benchbox_adapters/examples/mean3.c",
    "plugins/benchbox_bm3d/README.md",
    "plugins/benchbox_judge/README.md",
    "plugins/benchbox_unet/README.md",
    "plugins/benchbox_unet/pictures/architecture.svg",
    "plugins/benchbox_unet/pictures/curves-gaussian.svg",
    "plugins/benchbox_unet/pictures/sample-strip.png",
    "results/leaderboard.md",
    "results/sample-report.png",
)
COMMANDS = "<!-- commands -->"
WIDTH = 80


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures from outside docs/."""
    for path in OUTSIDE:
        files.append(File.generated(config, in_site(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links fit the site, and fill in the command line."""
    here = in_repository(page.file.src_uri)

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found["text"], found["target"], found["anchor"] or ""
        if not target or ":" in target:
            return found[0]
        site = in_site(posixpath.normpath(posixpath.join(posixpath.dirname(here), target)))
        if files.get_file_from_path(site) is None:
            return text
        return f"{found['open']}{text}]({posixpath.relpath(site, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.DOTALL | re.MULTILINE)
    parts[::2] = [
        re.sub(r"(?P<open>!?\[)(?P<text>[^]]*)\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)]*)?\)", link, part)
        for part in parts[::2]
    ]
    return "".join(parts).replace(COMMANDS, describe(cli, "benchbox"))


def in_site(path: str) -> str:
    """Where a file of the repository is in the site."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def in_repository(uri: str) -> str:
    """Where a page of the site is in the repository."""
    return "README.md" if uri == "index.md" else uri if uri in OUTSIDE else f"docs/{uri}"


def describe(command: click.Command, name: str, parent: click.Context | None = None) -> str:
    """The help of a command and of the commands below it, as the terminal shows it."""
    width = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, parent, name.rpartition(" ")[2], **{**command.context_settings, **width})
    text = f"## {name}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None
            text += "\n" + describe(below, f"{name} {word}", context)
    return text
