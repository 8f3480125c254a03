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

from benchbox.builtin.datasets.csv_report import (
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

# A FER2013 csv is 300 MB of small numbers in text. A general csv parser makes a string of every cell first, of 2,304
# numbers. This one makes nothing: it walks over the bytes once and writes each pixel where it belongs. It holds no GIL,
# so that several threads parse blocks of the file at once.

_WORD = ir.IntType(64)


@intrinsic  # type: ignore[untyped-decorator]
def eight_bytes(typing_context: Any, text: Any, start: Any) -> Any:
    """Bytes ``text[start:start + 8]`` of an array of uint8 as one uint64, the first lowest; without a bounds check."""

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


# Words of eight bytes stay uint64 only when every number they meet is one: numba turns uint64 + int64 into float64.
_BIT_4, _BIT_7 = np.uint64(0x1010101010101010), np.uint64(0x8080808080808080)
_ZEROS, _ABOVE_9 = np.uint64(0x3030303030303030), np.uint64(0x7676767676767676)
_ONE, _THREE, _FOUR, _EIGHT, _TEN, _DIGIT, _SIXTEEN = (np.uint64(value) for value in (1, 3, 4, 8, 10, 15, 16))
_OTHER = np.uint8(OTHER_EMOTION)
_HUNDRED, _LEVELS = np.uint64(100), np.uint64(256)
_SPACE, _TAB, _LF, _CR, _QUOTE, _ZERO = 32, 9, 10, 13, 34, 48


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _skip_blanks(text: NDArray[np.uint8], p: int) -> int:
    while text[p] == _SPACE or text[p] == _TAB:
        p += 1
    return p


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _line_ends(text: NDArray[np.uint8], p: int) -> bool:
    return bool(text[p] == _LF or (text[p] == _CR and text[p + 1] == _LF))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _usual_pixels(text: NDArray[np.uint8], p: int, row: NDArray[np.uint8]) -> tuple[int, int]:
    """Read pairs of one to three digits that end with a single blank, from byte `p`, up to the first that is unusual.

    Eight bytes hold two numbers with their blanks. They are told apart by arithmetic instead of branches on the number
    of digits, which no processor can predict. Gives the number of pixels read and the byte where the rest begins.
    """
    count = 0
    while count < PIXELS - 1:
        word = eight_bytes(text, p)
        # Bit 4 is set in '0' to '9' and not in a blank: `ends` has that bit in each byte that ends a number.
        ends = ~word & _BIT_4
        second_end = ends & (ends - _ONE)
        first_length = trailing_zeros(ends) >> _THREE
        length = trailing_zeros(second_end) >> _THREE
        second_length = length - first_length - _ONE
        # A digit's value where there is a digit, 0 where there is a blank, more than 9 or not 0 where there is neither.
        values = (word ^ _ZEROS) ^ ends
        wrong = (values + (ends >> _ONE) + (ends >> _FOUR) + _ABOVE_9) | values
        wrong &= _BIT_7 & ((second_end ^ (second_end - _ONE)) << _THREE)
        # Shifted so that the last digit lies in byte 2 whatever the number's length: zeros come in before it.
        one = values << ((_THREE - first_length) << _THREE)
        two = (values >> ((first_length + _ONE) << _THREE)) << ((_THREE - second_length) << _THREE)
        first = (one & _DIGIT) * _HUNDRED + ((one >> _EIGHT) & _DIGIT) * _TEN + ((one >> _SIXTEEN) & _DIGIT)
        second = (two & _DIGIT) * _HUNDRED + ((two >> _EIGHT) & _DIGIT) * _TEN + ((two >> _SIXTEEN) & _DIGIT)
        usual = (wrong == 0) & (first_length - _ONE < _THREE) & (second_length - _ONE < _THREE)
        if not (usual & (first < _LEVELS) & (second < _LEVELS)):
            break
        # Written before anyone knows whether the row is sound: a refused row is overwritten by the next one.
        row[count] = first
        row[count + 1] = second
        count += 2
        p += int(length) + 1
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
    """Read complete rows.

    Parameters
    ----------
    text : ndarray of uint8
        Csv text without the header; ``text[stop - 1]`` is a line feed, so no scan for a line's end leaves it, and at
        least LOOKAHEAD more bytes follow, for they are read eight at once.
    stop : int
        Number of bytes to read.
    separator : int
        Byte between columns.
    columns : ndarray of int64, shape (C,)
        What each column holds: IGNORED, EMOTION, PIXEL or USAGE.
    names : ndarray of uint8, shape (K, L)
        Words for the splits, padded.
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
    # No loop below asks whether the text has ended: each of them stops at a line feed, and the text ends with one.
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
        if _line_ends(text, p):  # an empty line, as editors leave them at the end, is no row
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
                # Nearly all pixels take the fast way. The rest, and whatever is wrong, is read digit by digit, so that
                # a refusal names the very byte.
                count, p = _usual_pixels(text, p, row)
                p = _skip_blanks(text, p)
                while True:
                    # An unsigned difference wraps around: one comparison tells a digit from all that is below or above.
                    digit = np.uint8(text[p] - _ZERO)
                    if digit > 9:
                        break
                    where = p
                    value = np.int64(digit)
                    p += 1
                    digit = np.uint8(text[p] - _ZERO)
                    while digit <= 9 and value < 256:  # the bound keeps a thousand digits from overflowing
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
                    if count < PIXELS:  # pixels beyond the last are counted for the message, but have no place
                        row[count] = value
                    count += 1
                if reason == OK and not (text[p] == separator or text[p] == _QUOTE or _line_ends(text, p)):
                    where = p
                    reason = BAD_PIXEL
                elif reason == OK and count != PIXELS:
                    where = p
                    reason = PIXEL_COUNT
            elif kind == EMOTION:
                digit = np.uint8(text[p] - _ZERO)
                p += 1
                if digit > 9 or np.uint8(text[p] - _ZERO) <= 9:
                    reason = BAD_EMOTION
                else:
                    emotion[rows] = min(digit, _OTHER)
            elif kind == USAGE:
                while not (text[p] == separator or text[p] == _QUOTE or _line_ends(text, p)):
                    p += 1
                end = p
                while end > where and (text[end - 1] == _SPACE or text[end - 1] == _TAB):
                    end -= 1
                # Byte by byte, because making a string needs the interpreter.
                reason = BAD_USAGE
                for k in range(len(name_lengths)):
                    if end - where == name_lengths[k]:
                        same = True
                        for i in range(end - where):
                            same = same and text[where + i] == names[k, i]
                        if same:
                            usage[rows] = k
                            reason = OK
            elif quoted:  # a column of another meaning, in which commas and doubled quotes are text
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
            if field == last:  # a comma after the last column: one field too many
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
