"""Makes foreign text safe to print: file names and messages from plugins."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Sequences that move the cursor, colour text, or set a title or link. None may span a blank, because a name that opens
# a sequence without closing it would swallow the rest of the sentence that it appears in.
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;:?]*[@-~]|\][^\s\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
# Control characters, line and paragraph separators, and marks that change the writing direction.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """Remove escape sequences from foreign text, replace control characters by ``?``, and join its lines into one.

    Foreign text is stored unchanged and made safe only on output, because only the output format decides what is
    unsafe: `echo` and `print_text` of the command line, `line` of the report in the terminal, the functions that
    escape markdown, LaTeX and csv, the HTML page's `finalize`, and `save_figure`.
    """
    return _UNSAFE.sub("?", _ESCAPES.sub("", " ".join(text.splitlines())))


def filename_text(name: str) -> str:
    """File name as text; bytes that are not valid UTF-8 become hexadecimal escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def unique_ids(names: Sequence[str]) -> tuple[str, ...]:
    """Names as unique texts: an escaped name gets a ``#`` number if another file really has that name."""
    taken, ids = {*names}, []
    for name in names:
        text, number = filename_text(name), 1
        while text != name and text in taken:
            number += 1
            text = f"{filename_text(name)}#{number}"
        taken.add(text)
        ids.append(text)
    return tuple(ids)
