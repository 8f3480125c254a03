"""Printing: foreign text made safe, and standard streams that may be closed or fail."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

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


class _Standard(io.FileIO):
    """A standard stream that drops text which it cannot write, and remembers why."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.problem = error
            return memoryview(data).nbytes


_output: list[_Standard] = []


def guard_streams() -> None:
    """Let a command do all its work even if its standard streams are closed, or writing to them fails.

    Otherwise, the next file that is opened would take the place of a closed stream and receive what is printed; and a
    reader that leaves early, as ``head`` does, would suppress what comes after the printing: files and the exit code.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            if null != number:
                os.close(null)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
        elif number and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            raw = _Standard(number, "w", closefd=False)
            if number == 1:
                _output.append(raw)
            buffer = io.BufferedWriter(raw)
            # Not every terminal can show Δ, or every name.
            text = io.TextIOWrapper(
                buffer, stream.encoding, "backslashreplace", line_buffering=number == 2 or raw.isatty()
            )
            setattr(sys, name, text)


def unprinted() -> str:
    """Why standard output could not be written; empty if it could, or if its reader did not want more."""
    sys.stdout.flush()
    problem = _output[0].problem if _output else None
    return "" if problem is None or problem.errno == errno.EPIPE else problem.strerror or str(problem)
