"""Draws each image's noise from its own seed: the same in any order, subset, batch or process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from benchbox.api.arrays import Images, Sigma
from benchbox.api.errors import ContractError
from benchbox.api.noise import NoiseModel

_PERSON = b"benchbox-noise"


def image_generator(seed: int, noise: str, image_id: str, repeat: int) -> np.random.Generator:
    """Make the generator of one image's noise.

    The four values are hashed by BLAKE2b into 128 bits, which seed a PCG64 through numpy's SeedSequence; so any two
    images, noises, repeats or seeds have independent streams, and none depends on what was drawn before.

    Parameters
    ----------
    seed : int
        Seed of the run.
    noise : str
        Canonical specification of the noise, ``'gaussian:0.1'``.
    image_id : str
        Name of the image, unique in its data set.
    repeat : int
        Number of the draw, from 0.

    Returns
    -------
    numpy.random.Generator
    """
    return _generator(_stream(seed, noise, repeat), image_id)


def add_noise(
    model: NoiseModel, canonical: str, clean: Images, ids: Sequence[str], seed: int, repeat: int
) -> tuple[Images, Sigma | None]:
    """Draw the noise of a stack, each image from its own generator.

    Parameters
    ----------
    model : NoiseModel
    canonical : str
        Canonical specification of `model`; it seeds the noise.
    clean : ndarray of float32, shape (N, H, W)
        Not modified.
    ids : sequence of str, length N
        Names of the images.
    seed : int
        Seed of the run.
    repeat : int
        Number of the draw, from 0.

    Returns
    -------
    noisy : ndarray of float32, shape (N, H, W), C-contiguous
        Neither clipped nor rounded.
    sigma : ndarray of float32, shape (N,), or None
        Noise standard deviation of each image on the [0, 1] scale; None where the model defines none.

    Raises
    ------
    ContractError
        The model gave an image of another shape or a value that is not finite.
    """
    if len(ids) != len(clean):
        raise ValueError(f"{len(ids)} ids for {len(clean)} images")
    stream = _stream(seed, canonical, repeat)
    guarded = clean.view()
    guarded.flags.writeable = False  # a model that writes into its input would spoil the reference of every score
    noisy: Images = np.empty(clean.shape, dtype=np.float32)
    levels: list[float | None] = []
    for index, image_id in enumerate(ids):
        image = guarded[index]
        drawn = model.apply(image, _generator(stream, image_id))
        if drawn.shape != image.shape:
            raise ContractError(
                f"noise {canonical}: image '{image_id}' of shape {image.shape} came back as {drawn.shape}",
                hint="NoiseModel.apply returns an image of the shape that it was given",
            )
        noisy[index] = drawn
        levels.append(model.sigma_of(image))
    finite = np.isfinite(noisy)
    if not finite.all():
        image_id = ids[int(np.argmin(finite.all(axis=(1, 2))))]
        raise ContractError(
            f"noise {canonical}: image '{image_id}' has a value that is not finite",
            hint="NoiseModel.apply returns finite values",
        )
    known = [level for level in levels if level is not None]
    return noisy, np.array(known, dtype=np.float32) if len(known) == len(levels) else None


def apply_protocol(noisy: Images, clip: bool, quantize: bool) -> Images:
    """Treat a noisy stack as the protocol says.

    Parameters
    ----------
    noisy : ndarray of float32, shape (N, H, W)
        Not modified.
    clip : bool
        Cut values to [0, 1].
    quantize : bool
        Round to 8-bit grey levels, multiples of 1/255; after clipping where both are asked for.

    Returns
    -------
    ndarray of float32, shape (N, H, W)
        `noisy` itself where nothing is asked for.
    """
    if clip:
        noisy = np.clip(noisy, np.float32(0), np.float32(1))
    if quantize:
        noisy = np.rint(noisy * np.float32(255))
        noisy /= np.float32(255)
    return noisy


def _stream(seed: int, noise: str, repeat: int) -> hashlib.blake2b:
    """Hash what the images of a stack share; the length before the noise keeps any two keys apart."""
    name = noise.encode()
    return hashlib.blake2b(b"%d,%d,%d:%s" % (seed, repeat, len(name), name), digest_size=16, person=_PERSON)


def _generator(stream: hashlib.blake2b, image_id: str) -> np.random.Generator:
    hashed = stream.copy()
    # Names of files that are not valid text hold lone surrogates.
    hashed.update(image_id.encode("utf-8", "surrogatepass"))
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashed.digest(), "little")))
