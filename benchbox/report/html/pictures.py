"""Pictures as PNG data addresses: grey images at 8 bit, error maps in sixteen colours."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

STEPS = 16


def grey_png(picture: NDArray[np.float32]) -> bytes:
    """Encode a grey image, clipped to [0, 1], at 8 bit."""
    from PIL import Image

    sink = io.BytesIO()
    pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(sink, format="PNG", optimize=True)
    return sink.getvalue()


def error_png(error: NDArray[np.float32], largest: float) -> bytes:
    """Encode the size of an error from 0 (dark) to `largest` and more (bright), in the colour map cividis.

    Parameters
    ----------
    error : ndarray of float32, shape (H, W)
    largest : float
    """
    from PIL import Image

    sink = io.BytesIO()
    step = np.minimum(np.abs(error) / largest * STEPS, STEPS - 1).astype(np.uint8)
    image = Image.fromarray(step, mode="P")
    image.putpalette(_palette())
    image.save(sink, format="PNG", optimize=True, bits=4)
    return sink.getvalue()


def data_address(png: bytes) -> str:
    """An address that holds a PNG itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def scale_css() -> str:
    """The colours of an error map as a CSS gradient."""
    colours = np.reshape(_palette(), (-1, 3))
    return f"linear-gradient(to right, {', '.join(f'rgb({r} {g} {b})' for r, g, b in colours.tolist())})"


def _palette() -> list[int]:
    from matplotlib import colormaps

    colours = colormaps["cividis"](np.linspace(0, 1, STEPS))[:, :3]
    return [int(value) for value in np.rint(colours * 255).astype(np.uint8).ravel()]
