"""Pictures of a training run: its curves, and faces before and after denoising."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.training.events import EpochDone

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 900, 360, 90, 90, 40, 50
_BLACK, _GREY, _BLUE, _ORANGE, _GREEN = (0, 0, 0), (210, 210, 210), (180, 90, 20), (20, 120, 230), (60, 140, 40)


def curves(history: Sequence[EpochDone]) -> bytes:
    """Draw loss and PSNR over the epochs.

    Parameters
    ----------
    history : sequence of EpochDone

    Returns
    -------
    bytes
        A PNG: losses on a logarithmic scale above, validation PSNR in dB below.
    """
    epochs = [row.epoch for row in history]
    panel = np.vstack(
        [
            _panel(
                "mean squared error (log10)",
                epochs,
                {
                    "training": (_BLUE, np.log10([row.loss for row in history])),
                    "validation": (_ORANGE, np.log10([row.val_loss for row in history])),
                },
            ),
            _panel("validation PSNR, dB", epochs, {"": (_GREEN, np.array([row.val_psnr for row in history]))}),
        ]
    )
    return _png(panel)


def faces(clean: Images, noisy: Images, denoised: Images, scale: int = 3) -> bytes:
    """Draw images in three rows: clean, noisy, denoised.

    Parameters
    ----------
    clean, noisy, denoised : ndarray of float32, shape (N, H, W)
        Clipped to [0, 1] for the picture.
    scale : int
        Pixels of the picture along each side of a pixel of an image.

    Returns
    -------
    bytes
        A PNG.
    """
    rows = [np.pad(stack, ((0, 0), (1, 1), (1, 1)), constant_values=1.0) for stack in (clean, noisy, denoised)]
    picture = np.vstack([np.hstack(list(row)) for row in rows])
    grey = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return _png(grey.repeat(scale, axis=0).repeat(scale, axis=1))


def _panel(
    title: str, epochs: list[int], lines: dict[str, tuple[tuple[int, int, int], NDArray[np.float64]]]
) -> NDArray[np.uint8]:
    """One diagram with its axes."""
    import cv2

    canvas = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    values = np.concatenate([line for _, line in lines.values()])
    low, high = float(values.min()), float(values.max())
    margin = max((high - low) * 0.08, 0.01)
    low, high = low - margin, high + margin
    span = max(epochs[-1] - epochs[0], 1)

    def place(epoch: float, value: float) -> tuple[int, int]:
        across = _LEFT + (epoch - epochs[0]) / span * (_WIDTH - _LEFT - _RIGHT)
        down = _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return round(across), round(down)

    def write(text: str, at: tuple[int, int], colour: tuple[int, int, int] = _BLACK) -> None:
        cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)

    for level in np.linspace(low, high, 6):
        _, down = place(epochs[0], float(level))
        cv2.line(canvas, (_LEFT, down), (_WIDTH - _RIGHT, down), _GREY, 1)
        write(f"{level:.2f}", (12, down + 5))
    for epoch in sorted({round(one) for one in np.linspace(epochs[0], epochs[-1], min(len(epochs), 11))}):
        write(str(epoch), (place(epoch, low)[0] - 6, _HEIGHT - _BOTTOM + 20))
    write(title, (_LEFT, 24))
    write("epoch", (_WIDTH // 2 - 20, _HEIGHT - 10))
    for name, (colour, line) in lines.items():
        points = np.array([place(epoch, float(value)) for epoch, value in zip(epochs, line, strict=True)], np.int32)
        cv2.polylines(canvas, [points], False, colour, 2, cv2.LINE_AA)
        for point in points:
            cv2.circle(canvas, (int(point[0]), int(point[1])), 3, colour, -1, cv2.LINE_AA)
        write(name, (_WIDTH - _RIGHT + 8, int(points[-1][1]) + 5), colour)
    return canvas


def _png(picture: NDArray[np.uint8]) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", picture)[1])
