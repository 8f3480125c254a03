"""Compiled csv parser: validates every row and writes its pixels straight into the output array."""

from __future__ import annotations

import sys
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from benchbox.builtin.datasets.csv_reader import (
    BAD_EMOTION,
    BAD_PIXEL,
    BAD_USAGE,
    EMOTION,
    FIELD_COUNT,
    OK,
    OPEN_QUOTE,
    PIXEL,
    PIXEL_COUNT,
    STRAY,
    USAGE,
)
from benchbox.builtin.datasets.faces import OTHER_EMOTION, PIXELS

# A FER2013 csv is 300 MB of small numbers as text. A general csv parser first makes a string of each cell, which holds
# 2,304 numbers. This one allocates nothing: it scans the bytes once and writes each pixel where it belongs. It runs
# without the GIL, so several threads parse blocks of the file at once.

_WORD = ir.IntType(64)


@intrinsic  # type: ignore[untyped-decorator]
def eight_bytes(typing_context: Any, text: Any, start: Any) -> Any:
    """``text[start:start + 8]`` of a uint8 array as one little-endian uint64, without a bounds check."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(array.data, [arguments[1]])
        word = builder.load(builder.bitcast(place, _WORD.as_pointer()), align=1)
        return word if sys.byteorder == "little" else builder.bswap(word)

    return types.uint64(text, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(typing_context: Any, word: Any) -> Any:
    """Number of zero bits below the lowest set bit of a uint64; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


# All constants are uint64, because numba turns uint64 + int64 into float64.
_BIT_4, _BIT_7 = np.uint64(0x1010101010101010), np.uint64(0x8080808080808080)
_ZEROS, _ABOVE_9 = np.uint64(0x3030303030303030), np.uint64(0x7676767676767676)
_THREE_DIGITS = np.uint64(0x1000000010000000)
"""Where two numbers of three digits end."""
# Bytes and bits of a word that holds a number in each half: its digits, then one of them, then the sum; and its range.
_FIRST, _SECOND = np.uint64(0x00000000000F0F0F), np.uint64(0x000F0F0F00000000)
_DIGIT, _BYTE = np.uint64(0x0000000F0000000F), np.uint64(0x000000FF000000FF)
_BELOW_256, _BIT_31 = np.uint64(0x7FFFFF007FFFFF00), np.uint64(0x8000000080000000)
_GATHER = np.uint64(0x0102040810204080)
"""Factor that moves the lowest bit of each byte into the highest byte."""
_ONE, _THREE, _FOUR, _EIGHT, _NINE, _TEN, _SIXTEEN, _HALF, _TOP, _SHIFT = (
    np.uint64(value) for value in (1, 3, 4, 8, 9, 10, 16, 32, 56, 63)
)
_OTHER = np.uint8(OTHER_EMOTION)
_SPACE, _TAB, _LF, _CR, _QUOTE, _ZERO = 32, 9, 10, 13, 34, 48


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _skip_blanks(text: NDArray[np.uint8], p: int) -> int:
    while text[p] == _SPACE or text[p] == _TAB:
        p += 1
    return p


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _line_ends(text: NDArray[np.uint8], p: int) -> bool:
    return bool(text[p] == _LF or (text[p] == _CR and text[p + 1] == _LF))


def _layouts() -> NDArray[np.uint64]:
    """How to take two numbers out of eight bytes, by the bytes that end a number, as bits.

    Three shifts, a byte each: left, to bring the last digit of the first number to byte 2; right, to bring the second
    number to byte 0; left again, to bring its last digit to byte 6. Bit 31 is set if that does not work, because a
    number has no digit or more than three, or because two numbers do not end.
    """
    layouts = np.full(256, _BIT_31, np.uint64)
    for first in (1, 2, 3):
        for second in (1, 2, 3):
            shifts = ((3 - first) * 8, (first + 1) * 8, (7 - second) * 8)
            ends = 1 << first | 1 << first + 1 + second
            behind = np.arange(0, 256, 2 << first + 1 + second)  # whatever ends later
            layouts[ends + behind] = shifts[0] | shifts[1] << 8 | shifts[2] << 16
    return layouts


_LAYOUTS = _layouts()


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _usual_pixels(text: NDArray[np.uint8], p: int, row: NDArray[np.uint8]) -> tuple[int, int]:
    """Fast path: read pairs of numbers with one to three digits and a single space after each, starting at byte `p`.

    Eight bytes contain two numbers with their spaces. Arithmetic separates them, because the processor cannot predict
    branches on the number of digits. Stops at the first pair in another format, and returns the number of pixels read
    and the position of that pair.
    """
    count = 0
    while count < PIXELS - 1:
        word = eight_bytes(text, p)
        # Bit 4 is set in '0' to '9' but not in a space: `ends` has this bit set in each byte that ends a number.
        ends = ~word & _BIT_4
        # Each byte becomes the value of a digit, 0 for a space; any other byte gives more than 9, or not 0 as a space.
        values = (word ^ _ZEROS) ^ ends
        ended = ends >> _FOUR
        wrong = (values + ended * _NINE + _ABOVE_9) | values
        if ends == _THREE_DIGITS:  # as in most pairs, which come in runs: the processor foresees them
            wrong &= _BIT_7
            digits, layout, length = values, np.uint64(0), 8
        else:
            # Subtracting 1 from a word and taking the bits in common clears its lowest set bit, here the first end.
            second_end = ends & (ends - _ONE)
            # Bytes behind the second end belong to the next pair, and are checked with that one.
            wrong &= _BIT_7 & ((second_end ^ (second_end - _ONE)) << _THREE)
            layout = _LAYOUTS[(ended * _GATHER) >> _TOP]
            first = values << (layout & _SHIFT)
            second = (values >> ((layout >> _EIGHT) & _SHIFT)) << ((layout >> _SIXTEEN) & _SHIFT)
            # Each half of the word holds a number; zeros fill the leading digits.
            digits = (first & _FIRST) | (second & _SECOND)
            length = int(trailing_zeros(second_end) >> _THREE) + 1
        tens = (digits * _TEN + (digits >> _EIGHT)) & _BYTE
        both = tens * _TEN + ((digits >> _SIXTEEN) & _DIGIT)
        if (wrong | ((layout | (both + _BELOW_256)) & _BIT_31)) != 0:
            break
        # Written before the row is known to be valid: the next row overwrites a rejected one.
        row[count] = both & _BYTE
        row[count + 1] = both >> _HALF
        count += 2
        p += length
    return count, p


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def parse_rows(
    text: NDArray[np.uint8],
    stop: int,
    separator: int,
    columns: NDArray[np.int64],
    names: NDArray[np.uint8],
    name_lengths: NDArray[np.int64],
    pixels: NDArray[np.uint8],
    emotion: NDArray[np.uint8],
    usage: NDArray[np.uint8],
    report: NDArray[np.int64],
) -> int:
    """Parse `stop` bytes of complete rows and return the number of rows written.

    ``text[stop - 1]`` must be a line feed, which stops every scan for the end of a line, and LOOKAHEAD more bytes must
    follow, because eight bytes are loaded at once. `columns` says what each column contains (IGNORED, EMOTION, PIXEL or
    USAGE); `names`, shape (K, L), are the values of Usage, padded to the same length.

    The outputs are `pixels`, shape (M, 2304), `emotion` and `usage`, shape (M,), the latter as positions in `names`,
    with M at least the number of rows that `stop` bytes can contain. `report`, shape (6,), receives why a row was
    rejected (OK if none was), the byte and the column at fault, the number of pixels read, the first byte of the row,
    and the number of lines before it.
    """
    # No loop below checks for the end of the text: each stops at a line feed, and the text ends with one.
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
        if _line_ends(text, p):  # skip empty lines, which editors leave at the end
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
            content = columns[field]
            if content == PIXEL:
                row = pixels[rows]
                # Nearly all pixels take the fast path. The others, and anything invalid, are read digit by digit, so
                # that an error names the exact byte.
                count, p = _usual_pixels(text, p, row)
                p = _skip_blanks(text, p)
                while True:
                    # An unsigned difference wraps around, so one comparison excludes everything below '0' or above '9'.
                    digit = np.uint8(text[p] - _ZERO)
                    if digit > 9:
                        break
                    where = p
                    value = np.int64(digit)
                    p += 1
                    digit = np.uint8(text[p] - _ZERO)
                    while digit <= 9 and value < 256:  # the bound prevents an overflow from a thousand digits
                        value = value * 10 + digit
                        p += 1
                        digit = np.uint8(text[p] - _ZERO)
                    if value > 255:
                        reason = BAD_PIXEL
                        break
                    if text[p] == _SPACE or text[p] == _TAB:
                        p = _skip_blanks(text, p + 1)
                    elif not (text[p] == separator or text[p] == _QUOTE or _line_ends(text, p)):
                        reason = BAD_PIXEL
                        break
                    if count < PIXELS:  # further pixels are only counted, for the error message
                        row[count] = value
                    count += 1
                if reason == OK and not (text[p] == separator or text[p] == _QUOTE or _line_ends(text, p)):
                    where = p
                    reason = BAD_PIXEL
                elif reason == OK and count != PIXELS:
                    where = p
                    reason = PIXEL_COUNT
            elif content == EMOTION:
                digit = np.uint8(text[p] - _ZERO)
                p += 1
                if digit > 9 or np.uint8(text[p] - _ZERO) <= 9:
                    reason = BAD_EMOTION
                else:
                    emotion[rows] = min(digit, _OTHER)
            elif content == USAGE:
                while not (text[p] == separator or text[p] == _QUOTE or _line_ends(text, p)):
                    p += 1
                end = p
                while end > where and (text[end - 1] == _SPACE or text[end - 1] == _TAB):
                    end -= 1
                # Compared byte by byte, because making a string would need the interpreter.
                reason = BAD_USAGE
                for k in range(len(name_lengths)):
                    if end - where == name_lengths[k]:
                        same = True
                        for i in range(end - where):
                            same = same and text[where + i] == names[k, i]
                        if same:
                            usage[rows] = k
                            reason = OK
            elif quoted:  # an ignored column, in which commas and doubled quotes are text
                while True:
                    while text[p] != _QUOTE and text[p] != _LF:
                        p += 1
                    if text[p] == _QUOTE and text[p + 1] == _QUOTE:
                        p += 2
                        continue
                    break
            else:
                while text[p] != separator and text[p] != _LF:
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
            if text[p] != separator:
                where = p
                reason = STRAY
                break
            if field == last:  # a separator after the last column: one field too many
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
