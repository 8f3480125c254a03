"""Names of files as text: any bytes may stand in them, but not in an id, a table or a message."""

from __future__ import annotations

from collections.abc import Sequence


def text_of(name: str) -> str:
    """A file's name as text; bytes in it that are no UTF-8 are written as hexadecimal escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def ids_of(names: Sequence[str]) -> tuple[str, ...]:
    """Names as text, each once: one that is no UTF-8 gives way where another file is really called so."""
    taken, ids = {*names}, []
    for name in names:
        one, number = text_of(name), 1
        while one != name and one in taken:
            number += 1
            one = f"{text_of(name)}#{number}"
        taken.add(one)
        ids.append(one)
    return tuple(ids)
