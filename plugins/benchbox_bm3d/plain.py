"""BM3D of grey and colour images in plain NumPy, slow: what `bm3d_lite` is compared with."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from benchbox_bm3d import transforms
from benchbox_bm3d.profiles import Profile, Stage

PLAIN = NDArray[np.float64]


def plain_haar(size: int) -> PLAIN:
    """Matrix of the Haar transform of `size` values, a power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.vstack([np.kron(matrix, [1, 1]), np.kron(np.eye(len(matrix)), [1, -1])]) / math.sqrt(2)
    return matrix


def plain_stage(noisy: PLAIN, pilot: PLAIN | None, sigmas: PLAIN, stage: Stage) -> PLAIN:
    """Filter channels (C, H, W), each with noise of its own level; the first is matched."""
    side, last_y, last_x = stage.side, noisy.shape[1] - stage.side, noisy.shape[2] - stage.side
    analysis = transforms.forward(stage.transform, side)
    synthesis, cosine = np.linalg.inv(analysis), transforms.dct(side)
    order = transforms.low_frequencies(side, stage.compared)
    # White noise has a variance of sigma^2 / 3 in the mean of three channels.
    limit = side**2 * (stage.limit / 255**2 + stage.limit_slope * sigmas[0] ** 2)
    window = np.outer(np.kaiser(side, stage.beta), np.kaiser(side, stage.beta))
    factors = stage.factor * np.array([1, stage.chroma, stage.chroma])[: len(noisy), None, None]
    levels = sigmas[:, None, None]

    def patch(image: PLAIN, y: int, x: int) -> PLAIN:
        return image[..., y : y + side, x : x + side]

    compared = (noisy if pilot is None else pilot)[0]
    features = {
        (y, x): (cosine @ patch(compared, y, x) @ cosine.T).ravel()[order]
        for y in range(last_y + 1)
        for x in range(last_x + 1)
    }
    total, weights = np.zeros_like(noisy), np.zeros_like(noisy)
    for y in sorted({*range(0, last_y, stage.step), last_y}):
        for x in sorted({*range(0, last_x, stage.step), last_x}):
            near = [
                (float(np.square(features[v, u] - features[y, x]).sum()), v, u)
                for v in range(max(0, y - stage.reach), min(last_y, y + stage.reach) + 1)
                for u in range(max(0, x - stage.reach), min(last_x, x + stage.reach) + 1)
                if (v, u) != (y, x)
            ]
            places = [(y, x), *((v, u) for distance, v, u in sorted(near) if distance < limit)][: stage.size]
            places = places[: 2 ** int(math.log2(len(places)))]
            haar = plain_haar(len(places))
            group = np.stack([analysis @ patch(noisy, *place) @ analysis.T for place in places])
            group = np.tensordot(haar, group, 1)
            if pilot is None:
                gain = np.where(np.abs(group) < factors * levels, 0.0, 1.0)
                gain[0, :, 0, 0] = 1
                weight = 1 / np.count_nonzero(gain, axis=(0, 2, 3))
            else:
                guess = np.tensordot(haar, np.stack([analysis @ patch(pilot, *at) @ analysis.T for at in places]), 1)
                gain = guess**2 / (guess**2 + factors * levels**2)
                weight = 1 / np.square(gain).sum((0, 2, 3))
                gain[0, :, 0, 0] = 1
            group = np.tensordot(haar.T, gain * group, 1)
            share = weight[:, None, None] * window
            for place, coefficients in zip(places, group, strict=True):
                patch(total, *place)[:] += share * (synthesis @ coefficients @ synthesis.T)
                patch(weights, *place)[:] += share
    return total / weights


def plain_blend(coarse: PLAIN, fine: PLAIN, half: float) -> PLAIN:
    """Blend two estimates: the finer one gets up to half of the weight, less where the coarse one is flat."""
    around = [slice(max(0, place - 4), place + 5) for place in range(max(coarse.shape))]
    variance = np.array([[coarse[rows, columns].var() for columns in around[: coarse.shape[1]]]
                         for rows in around[: coarse.shape[0]]])  # fmt: skip
    return coarse + 0.5 * variance / (variance + half) * (fine - coarse)


def plain_step(noisy: PLAIN, pilot: PLAIN | None, sigmas: PLAIN, stages: tuple[Stage, ...], smooth: float) -> PLAIN:
    """Filter with every patch size of a step and blend the results."""
    estimate, *finer = [plain_stage(noisy, pilot, sigmas, stage) for stage in stages]
    for fine in finer:
        channels = zip(estimate, fine, sigmas, strict=True)
        estimate = np.stack([plain_blend(one, other, smooth * sigma**2) for one, other, sigma in channels])
    return estimate


def plain_denoise(noisy: PLAIN, sigma: float, profile: Profile) -> PLAIN:
    """Denoise (H, W) or (H, W, 3), with the opponent channels and their noise levels as Dabov et al. write them."""
    opponent = np.array([[1 / 3, 1 / 3, 1 / 3], [1 / 2, 0, -1 / 2], [1 / 4, -1 / 2, 1 / 4]])
    mix = opponent if noisy.ndim == 3 else np.eye(1)
    channels = np.tensordot(mix, np.atleast_3d(noisy), (1, 2))
    sigmas = sigma * np.linalg.norm(mix, axis=1)
    pilot = plain_step(channels, None, sigmas, profile.hard, profile.smooth)
    estimate = plain_step(channels, pilot, sigmas, profile.wiener, profile.smooth)
    return np.tensordot(estimate, np.linalg.inv(mix), (0, 1)).reshape(noisy.shape)
