"""The built-in noise models, `Composed`, which chains them (`+` on the command line), and how a stack's noise is drawn.

Each image's noise is seeded separately, so that it is the same in any order, subset, batch or process.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchbox.api.arrays import Image, Images, Sigma
from benchbox.api.errors import ContractError
from benchbox.api.noise import NoiseModel
from benchbox.builtin.noise.additive import Correlated, Gaussian, Stripe, Uniform
from benchbox.builtin.noise.non_additive import Impulse, Jpeg, Poisson, PoissonGaussian, Quantize, SaltPepper, Speckle

__all__ = [
    "MODELS",
    "Composed",
    "Correlated",
    "Gaussian",
    "Impulse",
    "Jpeg",
    "Poisson",
    "PoissonGaussian",
    "Quantize",
    "SaltPepper",
    "Speckle",
    "Stripe",
    "Uniform",
    "add_noise",
    "apply_protocol",
    "cut_noise",
    "image_generator",
    "without_border",
]

_PERSON = b"benchbox-noise"


@dataclass(frozen=True)
class Composed(NoiseModel):
    """Two or more noise models applied from left to right, each to the output of the one before it.

    Each model draws from its own stream, spawned from the image's generator, so their noises are independent.
    """

    name: ClassVar[str] = "composed"
    summary: ClassVar[str] = "several noise models, one after another"
    formula: ClassVar[str] = "noisy = last(...second(first(clean)))"
    example: ClassVar[str] = "poisson:30+gaussian:0.02"

    models: tuple[NoiseModel, ...] = ()

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise ValueError(f"a composition needs two or more noise models, got {len(self.models)}")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image; see `NoiseModel.apply`."""
        noisy = clean
        for model, stream in zip(self.models, rng.spawn(len(self.models)), strict=True):
            noisy = model.apply(noisy, stream)
        return noisy

    def sigma_of(self, clean: Image) -> float | None:
        """Square root of the summed variances; None if a model does not define one.

        Exact for additive noises and speckle in any order. Photon noise after another noise is exact where that noise
        leaves no pixel below 0, because negative brightness gives no photons; `gaussian:0.2+poisson:30` is 3 %
        weaker than stated on faces.
        """
        variance = 0.0
        for model in self.models:
            sigma = model.sigma_of(clean)
            if sigma is None:
                return None
            # Speckle multiplies the noise before it, too: its variance is sigma^2 * E[(clean + noise)^2].
            multiplied = model.sigma**2 * variance if isinstance(model, Speckle) else 0.0
            variance += sigma**2 + multiplied
        return math.sqrt(variance)


MODELS: list[type[NoiseModel]] = [
    Gaussian,
    Poisson,
    SaltPepper,
    Impulse,
    Speckle,
    Uniform,
    PoissonGaussian,
    Correlated,
    Stripe,
    Quantize,
    Jpeg,
]


def image_generator(seed: int, noise: str, image_id: str, repeat: int) -> np.random.Generator:
    """Random generator for one image's noise; `noise` is the canonical specification, `repeat` counts from 0.

    BLAKE2b hashes the four values to 128 bits, which seed a PCG64 through NumPy's SeedSequence. Different images,
    noises, repeats or seeds therefore have independent streams, and no stream depends on what was drawn before.
    """
    return _generator(_stream(seed, noise, repeat), image_id)


def add_noise(
    model: NoiseModel, canonical: str, clean: Images, ids: Sequence[str], seed: int, repeat: int
) -> tuple[Images, Sigma | None]:
    """Add noise to a stack, each image from its own generator; see `image_generator`.

    Returns the noisy stack, neither clipped nor rounded, and each image's noise standard deviation, or None if the
    model does not define one. Raises `ContractError` if the model returns another shape or values that are not finite.
    """
    if len(ids) != len(clean):
        raise ValueError(f"{len(ids)} ids for {len(clean)} images")
    stream = _stream(seed, canonical, repeat)
    guarded = clean.view()
    guarded.flags.writeable = False  # a model that writes to its input would corrupt the reference of every score
    noisy: Images = np.empty(clean.shape, dtype=np.float32)
    levels: list[float | None] = []
    for index, image_id in enumerate(ids):
        image = guarded[index]
        drawn = model.apply(image, _generator(stream, image_id))
        if drawn.shape != image.shape:
            raise ContractError(
                f"noise {canonical}: apply returned shape {drawn.shape} for image '{image_id}' of shape {image.shape}",
                hint="return an image of the same shape from NoiseModel.apply",
            )
        noisy[index] = drawn
        levels.append(model.sigma_of(image))
    finite = np.isfinite(noisy)
    if not finite.all():
        image_id = ids[int(np.argmin(finite.reshape(len(ids), -1).all(axis=1)))]
        raise ContractError(
            f"noise {canonical}: apply returned a value that is not finite for image '{image_id}'",
            hint="return only finite values from NoiseModel.apply",
        )
    known = [level for level in levels if level is not None]
    return noisy, np.array(known, dtype=np.float32) if len(known) == len(levels) else None


def apply_protocol(noisy: Images, clip: bool, quantize: bool) -> Images:
    """Clip a noisy stack to [0, 1], then round it to multiples of 1/255; returns `noisy` itself if both are off."""
    if clip:
        noisy = np.clip(noisy, np.float32(0), np.float32(1))
    if quantize:
        noisy = np.rint(noisy * np.float32(255))
        noisy /= np.float32(255)
    return noisy


def cut_noise(clean: Images, noisy: Images) -> Images:
    """Cut the noise of a stack towards zero to whole multiples of 1/255, as ``noise.astype(int)`` does."""
    whole: Images = clean + np.trunc((noisy - clean) * np.float32(255)) / np.float32(255)
    return whole


def without_border(images: Images, border: int) -> Images:
    """Leave out `border` pixels at each edge of a stack; returns `images` itself if it is 0."""
    return np.ascontiguousarray(images[:, border:-border, border:-border]) if border else images


def _stream(seed: int, noise: str, repeat: int) -> hashlib.blake2b:
    """Hash the values that the images of a stack share; the length of the noise prevents ambiguous keys."""
    name = noise.encode()
    return hashlib.blake2b(b"%d,%d,%d:%s" % (seed, repeat, len(name), name), digest_size=16, person=_PERSON)


def _generator(stream: hashlib.blake2b, image_id: str) -> np.random.Generator:
    hashed = stream.copy()
    # File names that are not valid Unicode contain lone surrogates.
    hashed.update(image_id.encode("utf-8", "surrogatepass"))
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashed.digest(), "little")))
