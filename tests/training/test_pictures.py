"""Curves and faces of a training run, read back as pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchbox.training.checkpoint import curves, faces
from benchbox.training.config import EpochDone

ORANGE = (0xD5, 0x5E, 0x00)


def epochs(losses: list[float]) -> list[EpochDone]:
    return [
        EpochDone(
            number, 100, 1e-3, loss, 0.5, loss, -10 * np.log10(loss), 0.5, 50.0, 1.0, loss <= min(losses[:number])
        )
        for number, loss in enumerate(losses, start=1)
    ]


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def where(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[int, int]:
    """First and last row that show a colour outside of the legend."""
    seen = (picture == colour).all(axis=2)
    seen[:100, 600:] = False
    rows = np.nonzero(seen)[0]
    return int(rows.min()), int(rows.max())


@pytest.mark.parametrize("count", [1, 2, 40])
def test_curves_of_any_length_are_drawn(count: int) -> None:
    picture = pixels(curves(epochs([0.01 * 0.9**k for k in range(count)])))
    assert picture.shape == (720, 900, 3)


def test_losses_fall_in_the_upper_half_and_fill_it() -> None:
    picture = pixels(curves(epochs([0.01 * 0.8**k for k in range(30)])))
    top, bottom = where(picture, ORANGE)
    assert top < 60
    assert 280 < bottom < 360


def test_faces_are_three_rows_of_tiles() -> None:
    generator = np.random.default_rng(0)
    clean, noisy, denoised = generator.random((3, 4, 10, 12)).astype(np.float32)
    noisy += 0.5
    picture = pixels(faces(clean, noisy, denoised, scale=2))[..., 0]
    assert picture.shape == (2 * (3 * 12 + 2), 2 * (4 * 14 + 2))
    for row, stack in enumerate((clean, noisy, denoised)):
        for column, image in enumerate(stack):
            top, left = 2 * (2 + 12 * row), 2 * (2 + 14 * column)
            tile = picture[top : top + 20 : 2, left : left + 24 : 2]
            np.testing.assert_array_equal(tile, np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))
