"""The compiled pass over csv text: validates every row and writes its pixels straight into the output array."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from benchbox.builtin.datasets.faces import PIXELS

LOOKAHEAD = 4
"""Bytes behind the text that are looked at, but never used."""

IGNORED, EMOTION, PIXEL, USAGE = 0, 1, 2, 3
"""What a column holds."""

OK, BAD_PIXEL, PIXEL_COUNT, BAD_EMOTION, BAD_USAGE, FIELD_COUNT, STRAY, OPEN_QUOTE = range(8)
"""Why a row was refused."""

_SPACE, _TAB, _LF, _CR, _QUOTE, _COMMA, _ZERO = 32, 9, 10, 13, 34, 44, 48


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _skip_blanks(text: NDArray[np.uint8], p: int) -> int:
    while text[p] == _SPACE or text[p] == _TAB:
        p += 1
    return p


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _line_ends(text: NDArray[np.uint8], p: int) -> bool:
    return bool(text[p] == _LF or (text[p] == _CR and text[p + 1] == _LF))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def parse_rows(
    text: NDArray[np.uint8],
    stop: int,
    columns: NDArray[np.int64],
    names: NDArray[np.uint8],
    name_lengths: NDArray[np.int64],
    pixels: NDArray[np.uint8],
    emotion: NDArray[np.uint8],
    usage: NDArray[np.uint8],
    report: NDArray[np.int64],
) -> int:
    """Read complete rows.

    Parameters
    ----------
    text : ndarray of uint8
        Csv text without the header; ``text[stop - 1]`` is a line feed, so no scan for a line's end leaves it, and at
        least LOOKAHEAD more bytes follow, for numbers are read three digits at once.
    stop : int
        Number of bytes to read.
    columns : ndarray of int64, shape (C,)
        What each column holds: IGNORED, EMOTION, PIXEL or USAGE.
    names : ndarray of uint8, shape (K, L)
        Names of the splits, padded.
    name_lengths : ndarray of int64, shape (K,)
    pixels : ndarray of uint8, shape (M, 2304)
        Output; M is at least the number of rows that `stop` bytes can hold.
    emotion, usage : ndarray of uint8, shape (M,)
        Output; `usage` is the position in `names`.
    report : ndarray of int64, shape (6,)
        Output: the reason of a refusal (OK where all rows were read), the byte that it concerns, its column, the
        number of pixels read, the row's first byte, and the number of lines read before it.

    Returns
    -------
    int
        Number of rows written.
    """
    p = 0
    rows = 0
    lines = 0
    last = len(columns) - 1
    reason = OK
    where = 0
    field = 0
    count = 0
    row_start = 0
    while p < stop:
        row_start = p
        p = _skip_blanks(text, p)
        if _line_ends(text, p):
            p += 1 if text[p] == _LF else 2
            lines += 1
            continue
        field = 0
        while True:
            p = _skip_blanks(text, p)
            quoted = text[p] == _QUOTE
            if quoted:
                p = _skip_blanks(text, p + 1)
            where = p
            kind = columns[field]
            if kind == PIXEL:
                row = pixels[rows]
                count = 0
                # The usual number, one to three digits and a blank with a digit after it, without a branch on its
                # length, which no processor can predict. What is unusual is left to the loop below.
                while count < PIXELS - 1:
                    first = np.uint8(text[p] - _ZERO)
                    second = np.uint8(text[p + 1] - _ZERO)
                    third = np.uint8(text[p + 2] - _ZERO)
                    two = second <= 9
                    three = two & (third <= 9)
                    value = np.int64(first)
                    value = value * 10 + second if two else value
                    value = value * 10 + third if three else value
                    end = p + 1 + two + three
                    follower = np.uint8(text[end + 1] - _ZERO)
                    if not ((first <= 9) & (value <= 255) & (text[end] == _SPACE) & (follower <= 9)):
                        break
                    row[count] = value
                    count += 1
                    p = end + 1
                while True:
                    digit = np.uint8(text[p] - _ZERO)
                    if digit > 9:
                        break
                    where = p
                    value = np.int64(digit)
                    p += 1
                    digit = np.uint8(text[p] - _ZERO)
                    while digit <= 9 and value < 256:
                        value = value * 10 + digit
                        p += 1
                        digit = np.uint8(text[p] - _ZERO)
                    if value > 255:
                        reason = BAD_PIXEL
                        break
                    if text[p] == _SPACE or text[p] == _TAB:
                        p = _skip_blanks(text, p + 1)
                    elif not (text[p] == _COMMA or text[p] == _QUOTE or _line_ends(text, p)):
                        reason = BAD_PIXEL
                        break
                    if count < PIXELS:
                        row[count] = value
                    count += 1
                if reason == OK and not (text[p] == _COMMA or text[p] == _QUOTE or _line_ends(text, p)):
                    where = p
                    reason = BAD_PIXEL
                elif reason == OK and count != PIXELS:
                    where = p
                    reason = PIXEL_COUNT
            elif kind == EMOTION:
                digit = np.uint8(text[p] - _ZERO)
                p += 1
                if digit > 6 or np.uint8(text[p] - _ZERO) <= 9:
                    reason = BAD_EMOTION
                else:
                    emotion[rows] = digit
            elif kind == USAGE:
                while not (text[p] == _COMMA or text[p] == _QUOTE or _line_ends(text, p)):
                    p += 1
                end = p
                while end > where and (text[end - 1] == _SPACE or text[end - 1] == _TAB):
                    end -= 1
                reason = BAD_USAGE
                for k in range(len(name_lengths)):
                    if end - where == name_lengths[k]:
                        same = True
                        for i in range(end - where):
                            same = same and text[where + i] == names[k, i]
                        if same:
                            usage[rows] = k
                            reason = OK
            elif quoted:
                while True:
                    while text[p] != _QUOTE and text[p] != _LF:
                        p += 1
                    if text[p] == _QUOTE and text[p + 1] == _QUOTE:
                        p += 2
                        continue
                    break
            else:
                while text[p] != _COMMA and text[p] != _LF:
                    p += 1
                if text[p] == _LF and p > where and text[p - 1] == _CR:
                    p -= 1
            if reason != OK:
                break
            p = _skip_blanks(text, p)
            if quoted:
                if text[p] != _QUOTE:
                    where = p
                    reason = OPEN_QUOTE
                    break
                p = _skip_blanks(text, p + 1)
            if _line_ends(text, p):
                if field < last:
                    where = p
                    reason = FIELD_COUNT
                break
            if text[p] != _COMMA:
                where = p
                reason = STRAY
                break
            if field == last:
                where = p
                field += 1
                reason = FIELD_COUNT
                break
            p += 1
            field += 1
        if reason != OK:
            break
        p += 1 if text[p] == _LF else 2
        rows += 1
        lines += 1
    report[0] = reason
    report[1] = where
    report[2] = field
    report[3] = count
    report[4] = row_start
    report[5] = lines
    return rows
