"""A matplotlib figure as SVG inside a page: its text takes the page's colour, its parts carry tooltips."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from markupsafe import Markup

from benchbox.report.html.style import INK, charts_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_START = re.compile(r".*?<svg ", re.DOTALL)
_SIZE = re.compile(r' (?:height|width)="[0-9.]+pt"')
_FONT = re.compile(r"font: ([0-9.]+px) [^;\"]*")
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->\s*", re.DOTALL)


def inline_svg(figure: Figure, prefix: str, alt: str, titles: Mapping[str, str]) -> Markup:
    """Write a figure as an SVG element.

    Parameters
    ----------
    figure : Figure
    prefix : str
        Start of all identifiers in it, unique in the page.
    alt : str
        What a reader who does not see it is told.
    titles : mapping of str to str
        Tooltips by the `gid` of a part.

    Returns
    -------
    Markup
    """
    sink = io.StringIO()
    with charts_style():
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    text = _COMMENT.sub("", _METADATA.sub("", sink.getvalue()))
    text = _START.sub("", text, count=1)
    text = text.replace(INK, "currentColor")
    text = _FONT.sub(r"font: \1 sans-serif", text)
    head, separator, body = text.partition(">")
    head = _SIZE.sub("", head)
    body = re.sub(r'(<[a-zA-Z]+ id=")', rf"\g<1>{prefix}-", body)
    body = body.replace("url(#", f"url(#{prefix}-").replace('xlink:href="#', f'xlink:href="#{prefix}-')
    for gid, title in titles.items():
        mark = f'<g id="{prefix}-{gid}">'
        body = body.replace(mark, f'<g class="point" id="{prefix}-{gid}"><title>{html.escape(title)}</title>', 1)
    return Markup(f'<svg role="img" aria-label="{html.escape(alt)}" {head}{separator}{body}')
