"""Errors of the csv parser: the codes it reports for a bad row, and their messages.

The codes have their own module because the parser imports numba, which takes longer than reading an error needs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.faces import EMOTIONS, PIXELS, SPLITS, UNNAMED_TEST
from benchbox.builtin.datasets.sniff import AGAIN, printable

LOOKAHEAD = 8
"""Bytes behind the text that the parser looks at, but never uses."""

IGNORED, EMOTION, PIXEL, USAGE = 0, 1, 2, 3
"""What a column holds."""

OK, BAD_PIXEL, PIXEL_COUNT, BAD_EMOTION, BAD_USAGE, FIELD_COUNT, STRAY, OPEN_QUOTE = range(8)
"""Why a row was refused."""

USAGE_WORDS = {
    **{name: code for code, name in enumerate(SPLITS)},
    **{word: SPLITS.index("Training") for word in ("train", "Train", "training")},
    **{word: SPLITS.index("PublicTest") for word in ("val", "Val", "valid", "Valid", "validation", "Validation")},
    **dict.fromkeys(("test", "Test"), UNNAMED_TEST),
}
"""Words of the column Usage, as the challenge and other editions of the csv spell them."""


def refusal(
    path: Path, columns: tuple[str, ...], report: NDArray[np.int64], row: bytes, line: int, last: bool
) -> BenchboxError:
    """Word a refusal.

    Parameters
    ----------
    path : Path
    columns : tuple of str
        Names in the header.
    report : ndarray of int64, shape (6,)
        What `csv_kernel.parse_rows` reported.
    row : bytes
        The refused line, without its line feed.
    line : int
        Its number, from 1.
    last : bool
        Whether it is the last line of a file that does not end with a line feed, so that it may be cut off.

    Returns
    -------
    BenchboxError
    """
    reason, where, column, count, row_start = (int(value) for value in report[:5])
    offset = where - row_start
    name = columns[column] if column < len(columns) else ""
    place = f"{path}, line {line}, column {offset + 1}" + (f" ({name})" if name else "")
    rest = row[offset:].rstrip()
    token = rest.split(b",")[0].split(b";")[0].strip(b' \t"')[:40]
    if reason in (BAD_PIXEL, STRAY):
        token = token.split()[0] if token.split() else b""
    if last and len(token) == len(rest.strip(b'"')) and _may_be_cut(reason, token, count):
        so_far = f" after {count} of {PIXELS} pixels" if name.lower() == "pixels" else ""
        return BenchboxError(
            f"{place}: the file is cut off in the middle of a row{so_far}",
            hint=f"it is incomplete; {AGAIN}, or leave the row out with --skip-bad",
        )
    if reason == BAD_PIXEL:
        return BenchboxError(
            f"{place}: pixel {count + 1} is '{printable(token)}', not a whole number from 0 to 255",
            hint=f"correct that value, {AGAIN}, or leave the row out with --skip-bad",
        )
    if reason == PIXEL_COUNT:
        return BenchboxError(
            f"{place}: {count} pixels, but a face has {PIXELS} (48 x 48)",
            hint=f"correct the row, {AGAIN}, or leave the row out with --skip-bad",
        )
    if reason == BAD_EMOTION:
        names = ", ".join(f"{code} {word}" for code, word in enumerate(EMOTIONS))
        return BenchboxError(
            f"{place}: emotion '{printable(token)}' is not a number from 0 to 9", hint=f"emotions are {names}"
        )
    if reason == BAD_USAGE:
        return BenchboxError(
            f"{place}: unknown Usage '{printable(token)}'",
            hint=f"it is {', '.join(SPLITS)}, train, val or test; or leave the row out with --skip-bad",
        )
    if reason == FIELD_COUNT:
        fields = f"{column + 1} columns" if column < len(columns) else f"more than {column} columns"
        return BenchboxError(
            f"{place}: {fields}, but the header names {len(columns)} ({', '.join(columns)})",
            hint=f"correct the row, {AGAIN}, or leave the row out with --skip-bad",
        )
    if reason == OPEN_QUOTE:
        return BenchboxError(f"{place}: a quote is not closed on its line", hint="put both quotes into one line")
    return BenchboxError(
        f"{place}: '{printable(token)}' where a comma or the line's end should be",
        hint="columns are separated by single commas",
    )


def _may_be_cut(reason: int, token: bytes, count: int) -> bool:
    """Whether a refused row would be sound if it went on."""
    if reason == BAD_USAGE:
        return any(word.encode().startswith(token) for word in USAGE_WORDS)
    return not token and not (reason == PIXEL_COUNT and count > PIXELS)
