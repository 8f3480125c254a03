"""Error codes of the csv parser and their messages.

They are separate from the parser because it imports numba, which takes far longer than printing an error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.faces import EMOTIONS, PIXELS, SPLITS, UNNAMED_TEST
from benchbox.builtin.datasets.sniff import DOWNLOAD_AGAIN, printable

LOOKAHEAD = 8
"""Bytes after the text that the parser may load, but never uses."""

IGNORED, EMOTION, PIXEL, USAGE = 0, 1, 2, 3
"""Content of a column."""

OK, BAD_PIXEL, PIXEL_COUNT, BAD_EMOTION, BAD_USAGE, FIELD_COUNT, STRAY, OPEN_QUOTE = range(8)
"""Reasons to reject a row."""

USAGE_WORDS = {
    **{name: code for code, name in enumerate(SPLITS)},
    **{word: SPLITS.index("Training") for word in ("train", "Train", "training")},
    **{word: SPLITS.index("PublicTest") for word in ("val", "Val", "valid", "Valid", "validation", "Validation")},
    **dict.fromkeys(("test", "Test"), UNNAMED_TEST),
}
"""Values of the column Usage in the challenge's csv and other editions, with their codes."""


def refusal(
    path: Path, columns: tuple[str, ...], report: NDArray[np.int64], row: bytes, line: int, last: bool
) -> BenchboxError:
    """Error for a rejected row.

    `report` comes from `csv_kernel.parse_rows`. `row` is the line without its line feed and `line` its number, from 1.
    `last` says that the file ends here without a line feed, so the row may be truncated.
    """
    reason, where, column, count, row_start = (int(value) for value in report[:5])
    offset = where - row_start
    name = columns[column] if column < len(columns) else ""
    place = f"{path}, line {line}, column {offset + 1}" + (f" ({name})" if name else "")
    rest = row[offset:].rstrip()
    token = rest.split(b",")[0].split(b";")[0].strip(b' \t"')[:40]
    if reason in (BAD_PIXEL, STRAY):
        token = token.split()[0] if token.split() else b""
    if last and len(token) == len(rest.strip(b'"')) and _may_be_truncated(reason, token, count):
        progress = f" after {count} of {PIXELS} pixels" if name.lower() == "pixels" else ""
        return BenchboxError(
            f"{place}: the file is truncated in the middle of a row{progress}",
            hint=f"{DOWNLOAD_AGAIN}, or skip the row with --skip-bad",
        )
    if reason == BAD_PIXEL:
        return BenchboxError(
            f"{place}: pixel {count + 1} is '{printable(token)}', not an integer from 0 to 255",
            hint=f"correct the value, {DOWNLOAD_AGAIN}, or skip the row with --skip-bad",
        )
    if reason == PIXEL_COUNT:
        return BenchboxError(
            f"{place}: {count} pixels, but a face has {PIXELS} (48 x 48)",
            hint=f"correct the row, {DOWNLOAD_AGAIN}, or skip it with --skip-bad",
        )
    if reason == BAD_EMOTION:
        names = ", ".join(f"{code} {word}" for code, word in enumerate(EMOTIONS))
        return BenchboxError(
            f"{place}: emotion '{printable(token)}' is not a number from 0 to 9",
            hint=f"correct the row ({names}), or skip it with --skip-bad",
        )
    if reason == BAD_USAGE:
        return BenchboxError(
            f"{place}: unknown Usage '{printable(token)}'",
            hint=f"use {', '.join(SPLITS)}, train, val or test, or skip the row with --skip-bad",
        )
    if reason == FIELD_COUNT:
        fields = f"{column + 1} columns" if column < len(columns) else f"more than {column} columns"
        return BenchboxError(
            f"{place}: {fields}, but the header names {len(columns)} ({', '.join(columns)})",
            hint=f"correct the row, {DOWNLOAD_AGAIN}, or skip it with --skip-bad",
        )
    if reason == OPEN_QUOTE:
        return BenchboxError(f"{place}: a quote is not closed on its line", hint="put both quotes on one line")
    return BenchboxError(
        f"{place}: '{printable(token)}' instead of a comma or the end of the line",
        hint="separate columns by single commas",
    )


def _may_be_truncated(reason: int, token: bytes, count: int) -> bool:
    """Whether a rejected row could become valid if it continued."""
    if reason == BAD_USAGE:
        return any(word.encode().startswith(token) for word in USAGE_WORDS)
    return not token and not (reason == PIXEL_COUNT and count > PIXELS)
