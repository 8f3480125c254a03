"""Makes foreign text safe to print: file names and messages from plugins."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Sequences that move the cursor, colour text, or set a title or link. None of them spans a blank: names are joined to
# sentences by blanks, and one that opens a sequence must not hide what is said after it.
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;:?]*[@-~]|\][^\s\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
# Control characters, line and paragraph separators, and the marks that turn the direction of writing.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """Take escape sequences out of foreign text and put ``?`` for every control character; one line remains.

    Foreign text is kept as it is until it leaves, and made safe there, because only what prints or writes it knows what
    is unsafe: `echo` and `print_text` of the command line, `line` of the report in the terminal, the functions that
    escape markdown, LaTeX and csv, the HTML page's `finalize`, and `save_figure`.
    """
    return _UNSAFE.sub("?", _ESCAPES.sub("", " ".join(text.splitlines())))


def filename_text(name: str) -> str:
    """A file's name as text; bytes in it that are no UTF-8 are written as hexadecimal escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def unique_ids(names: Sequence[str]) -> tuple[str, ...]:
    """Names as text, each once: one that is no UTF-8 gives way where another file is really called so."""
    taken, ids = {*names}, []
    for name in names:
        one, number = filename_text(name), 1
        while one != name and one in taken:
            number += 1
            one = f"{filename_text(name)}#{number}"
        taken.add(one)
        ids.append(one)
    return tuple(ids)
