"""Noise models of the ruler: what each does to a clean image, with formula, units and source."""

from __future__ import annotations

from benchbox.api.noise import NoiseModel
from benchbox.builtin.noise.additive import Correlated, Gaussian, Stripe, Uniform
from benchbox.builtin.noise.coding import Jpeg, Quantize
from benchbox.builtin.noise.composed import Composed
from benchbox.builtin.noise.impulsive import Impulse, SaltPepper
from benchbox.builtin.noise.signal_dependent import Poisson, PoissonGaussian, Speckle

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
]
