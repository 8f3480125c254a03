"""Pictures of a training run: its curves, and faces before and after denoising."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.training.events import EpochDone

# From the palette of Okabe and Ito, which colour-blind readers can tell apart.
_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"


def curves(history: Sequence[EpochDone]) -> bytes:
    """Draw losses (logarithmic, above) and validation PSNR (below) over the epochs, as PNG; a ring marks the best."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [row.epoch for row in history]
    best = max(place for place, row in enumerate(history) if row.best)
    # Figure, not pyplot: it needs no display, and leaves no open figure in a notebook.
    figure = Figure(figsize=(9, 7.2), layout="constrained")
    losses, psnr = figure.subplots(2, 1, sharex=True)
    for axes, name, values, colour in (
        (losses, "training", [row.loss for row in history], _BLUE),
        (losses, "validation", [row.val_loss for row in history], _ORANGE),
        (psnr, "validation", [row.val_psnr for row in history], _GREEN),
    ):
        axes.plot(epochs, values, color=colour, marker="o", markersize=4, label=name)
        if name == "validation":
            axes.plot(
                epochs[best], values[best], "o", markersize=10, fillstyle="none", color=colour,
                label=f"lowest validation loss, epoch {epochs[best]}",
            )  # fmt: skip
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend(loc="upper right" if axes is losses else "lower right")
    losses.set(yscale="log", ylabel="mean squared error (grey values in [0, 1])")
    psnr.set(ylabel="PSNR (dB)", xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
    psnr.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=100)
    return sink.getvalue()


def faces(clean: Images, noisy: Images, denoised: Images, scale: int = 3) -> bytes:
    """Draw three rows (clean, noisy, denoised) as PNG, clipped to [0, 1] and enlarged `scale` times."""
    from PIL import Image
    from skimage.util import montage

    tiles = np.clip(np.concatenate([clean, noisy, denoised]), 0, 1)
    sheet: NDArray[np.float32] = montage(tiles, fill=1.0, grid_shape=(3, len(clean)), padding_width=2)
    grey = np.rint(sheet * 255).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(grey.repeat(scale, axis=0).repeat(scale, axis=1)).save(sink, format="PNG")
    return sink.getvalue()
