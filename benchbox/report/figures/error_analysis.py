"""Error by frequency and region, residual correlation, bias and spread, from the previews."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchbox.builtin.channels import CHANNELS

Values = NDArray[np.float64]
Picture = NDArray[np.float32]

BANDS = 12
REGIONS = ("flat", "edge", "texture")
FEWEST_PIXELS = 16
_LAGS = 3
_NOTHING = 1e-7  # more than the rounding of half precision


@dataclass(frozen=True)
class ErrorAnalysis:
    """Errors of one denoiser on one noise, from the stored pictures.

    Attributes
    ----------
    remaining_db : ndarray of float64, shape (BANDS,)
        Power of the error relative to the noise by radial frequency, in dB.
    region_psnr : dict of str to float
        PSNR within a region in dB, mean over images; NaN if no image has the region.
    correlation : float
        Root mean square autocorrelation of the residual over shifts of up to three pixels: about 0 if the residual is
        white noise.
    bias, spread : float
        Root mean square of the systematic error and of the part that varies with the noise realisation, on the
        [0, 1] scale; NaN without repeats.
    """

    remaining_db: Values
    region_psnr: dict[str, float]
    correlation: float
    bias: float
    spread: float


def frequencies() -> Values:
    """Centres of the radial frequency bands, in cycles per pixel, up to 0.5."""
    return (np.arange(BANDS) + 0.5) * 0.5 / BANDS


def analyse_errors(
    clean: Sequence[Picture], noisy: Sequence[Picture], denoised: Sequence[Picture], images: Sequence[int]
) -> ErrorAnalysis:
    """Analyse the errors of a denoiser on a few pictures.

    `images` holds the image index of each picture; an index that repeats has several noise realisations. The channels
    of colour pictures count as pictures of their own.
    """
    if clean and clean[0].ndim == 3:
        places = [(image, channel) for image in images for channel in range(CHANNELS)]
        numbers = [places.index(place) for place in places]
        return analyse_errors(_planes(clean), _planes(noisy), _planes(denoised), numbers)
    errors = [result.astype(np.float64) - truth for result, truth in zip(denoised, clean, strict=True)]
    noises = [image.astype(np.float64) - truth for image, truth in zip(noisy, clean, strict=True)]
    # benchbox clips the results, so the noise that clipping removes is no achievement of the denoiser.
    residuals = [
        np.clip(image, 0, 1).astype(np.float64) - result for image, result in zip(noisy, denoised, strict=True)
    ]
    power = np.sum([_radial_power(error) for error in errors], axis=0)
    noise_power = np.sum([_radial_power(noise) for noise in noises], axis=0)
    tiny = np.finfo(np.float64).tiny
    with np.errstate(divide="ignore", invalid="ignore"):
        remaining = 10 * np.log10(np.maximum(power, tiny) / np.maximum(noise_power, tiny))
    analysis = ErrorAnalysis(remaining, _region_psnr(clean, errors), _correlation(residuals), np.nan, np.nan)
    if len(set(images)) < len(images):
        bias, spread = _bias_and_spread(errors, images)
        analysis = replace(analysis, bias=bias, spread=spread)
    return analysis


def _planes(pictures: Sequence[Picture]) -> list[Picture]:
    return [plane for picture in pictures for plane in np.moveaxis(picture, 2, 0)]


def regions_of(clean: Picture) -> dict[str, NDArray[np.bool_]]:
    """Divide a clean image into flat areas, edges and texture.

    Flat is the half of the pixels with the lowest local gradient energy. Of the others, those with one dominant
    direction (coherence of the structure tensor of at least 0.5) are edges, and the rest is texture.

    References
    ----------
    Weickert, Coherence-enhancing diffusion filtering, 1999, doi:10.1023/A:1008009714131.
    """
    from scipy.ndimage import gaussian_filter

    vertical, horizontal = np.gradient(clean.astype(np.float64))
    xx, xy, yy = (gaussian_filter(product, 1.5) for product in (horizontal**2, horizontal * vertical, vertical**2))
    energy = xx + yy
    coherence = np.hypot(xx - yy, 2 * xy) / np.maximum(energy, np.finfo(np.float64).tiny)
    flat = energy <= np.median(energy)
    edge = ~flat & (coherence >= 0.5)
    return {"flat": flat, "edge": edge, "texture": ~flat & ~edge}


def _radial_power(error: Values) -> Values:
    """Mean power of each radial frequency band; corners beyond 0.5 cycles per pixel are left out."""
    height, width = error.shape
    spectrum = np.abs(np.fft.rfft2(error)) ** 2 / error.size
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    band = np.minimum((radius * 2 * BANDS).astype(np.intp), BANDS)
    total = np.bincount(band.ravel(), spectrum.ravel(), BANDS + 1)[:BANDS]
    count = np.bincount(band.ravel(), minlength=BANDS + 1)[:BANDS]
    return total / np.maximum(count, 1)


def _region_psnr(clean: Sequence[Picture], errors: Sequence[Values]) -> dict[str, float]:
    by_region: dict[str, list[float]] = {name: [] for name in REGIONS}
    for picture, error in zip(clean, errors, strict=True):
        if min(picture.shape) < 2:
            continue  # it has no gradient
        for name, mask in regions_of(picture).items():
            if mask.sum() >= FEWEST_PIXELS and (squared := float(np.square(error[mask]).mean())) > 0:
                by_region[name].append(-10 * np.log10(squared))
    return {name: float(np.mean(values)) if values else float("nan") for name, values in by_region.items()}


def _correlation(residuals: Sequence[Values]) -> float:
    """Autocorrelation, averaged over pictures; root mean square over shifts."""
    total, pictures = np.zeros((2 * _LAGS + 1, 2 * _LAGS + 1)), 0
    for residual in residuals:
        centred = residual - residual.mean()
        variance = float(np.square(centred).mean())
        if variance < _NOTHING or min(residual.shape) <= 2 * _LAGS:
            continue
        height, width = centred.shape
        padded = np.abs(np.fft.fft2(centred, (2 * height, 2 * width))) ** 2
        products = np.real(np.fft.ifft2(padded))
        for down in range(-_LAGS, _LAGS + 1):
            for across in range(-_LAGS, _LAGS + 1):
                pairs = (height - abs(down)) * (width - abs(across))
                total[down + _LAGS, across + _LAGS] += products[down, across] / pairs / variance
        pictures += 1
    if not pictures:
        return float("nan")
    shifts = np.delete((total / pictures).ravel(), total.size // 2)
    return float(np.sqrt(np.square(shifts).mean()))


def _bias_and_spread(errors: Sequence[Values], images: Sequence[int]) -> tuple[float, float]:
    biases, spreads = [], []
    for image in dict.fromkeys(images):
        stack = np.stack([error for error, of in zip(errors, images, strict=True) if of == image])
        if len(stack) < 2:
            continue
        variance = float(stack.var(axis=0, ddof=1).mean())
        # The mean over few realisations still contains 1/n of the variance.
        biases.append(float(np.square(stack.mean(axis=0)).mean()) - variance / len(stack))
        spreads.append(variance)
    return float(np.sqrt(max(0.0, float(np.mean(biases))))), float(np.sqrt(np.mean(spreads)))
