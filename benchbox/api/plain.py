"""Foreign text for a terminal: no name or message moves the cursor, changes a title or turns the writing around."""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
# Control characters, line and paragraph separators, and the marks that turn the direction of writing.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def plain(text: str) -> str:
    """Take escape sequences out of foreign text and put ``?`` for every control character; one line remains."""
    return _UNSAFE.sub("?", _ESCAPES.sub("", " ".join(text.splitlines())))
