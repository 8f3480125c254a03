"""Noise models hold to their formulas on a photograph."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from numpy.typing import NDArray

from benchbox import BenchboxError, Image, NoiseModel
from benchbox.builtin import noise
from benchbox.builtin.noise import image_generator
from benchbox.records.specs import configure, parse_spec

Map = NDArray[np.float64]
Formula = Callable[[Map], Map]
Drawn = tuple[NoiseModel, Formula, Formula, NDArray[np.float64]]

DRAWS = 600


def photograph() -> Image:
    """A piece of a photograph with dark, middle and bright areas, not square."""
    import skimage.data

    piece: Image = (skimage.data.camera()[100:160, 190:270] / 255).astype(np.float32)
    return piece


def zero(x: Map) -> Map:
    return np.zeros_like(x)


def constant(value: float) -> Formula:
    return lambda x: np.full_like(x, value)


# Of the error (noisy - clean) at clean value x: the mean, and the mean square, as the formulas in the docstrings say.
FORMULAS: list[tuple[NoiseModel, Formula, Formula]] = [
    (noise.Gaussian(0.1), zero, constant(0.01)),
    (noise.Uniform(0.1), zero, constant(0.01)),
    (noise.Correlated(0.1, width=1.5), zero, constant(0.01)),
    (noise.Stripe(0.1), zero, constant(0.01)),
    (noise.Poisson(30.0), zero, lambda x: x / 30),
    (noise.Poisson(2.0), zero, lambda x: x / 2),
    (noise.PoissonGaussian(40.0, sigma=0.05), zero, lambda x: x / 40 + 0.0025),
    (noise.Speckle(0.2), zero, lambda x: 0.04 * x**2),
    (noise.SaltPepper(0.08), lambda x: 0.08 * (0.5 - x), lambda x: 0.04 * (x**2 + (1 - x) ** 2)),
    (noise.Impulse(0.2), lambda x: 0.2 * (0.5 - x), lambda x: 0.2 * (1 / 3 - x + x**2)),
    (
        noise.Composed((noise.Poisson(30.0), noise.Gaussian(0.05), noise.Stripe(0.03))),
        zero,
        lambda x: x / 30 + 0.0025 + 0.0009,
    ),
    (
        noise.Composed((noise.Gaussian(0.2), noise.Speckle(0.3))),
        zero,
        lambda x: 0.04 + 0.09 * (x**2 + 0.04),
    ),
]


def draws_of(model: NoiseModel, clean: Image) -> NDArray[np.float64]:
    """Errors of independent draws, shape (DRAWS, H, W)."""
    return np.stack(
        [model.apply(clean, image_generator(7, repr(model), "photograph", draw)) - clean for draw in range(DRAWS)]
    ).astype(np.float64)


@pytest.fixture(scope="module", params=FORMULAS, ids=lambda value: value[0].name)
def drawn(request: pytest.FixtureRequest) -> Drawn:
    """A model with its formulas, and errors that it drew."""
    model, mean, mean_square = request.param
    return model, mean, mean_square, draws_of(model, photograph())


def test_moments_follow_the_formula_in_dark_middle_and_bright_areas(drawn: Drawn) -> None:
    _, mean, mean_square, errors = drawn
    exact = photograph().astype(np.float64)
    low, high = np.quantile(exact, [1 / 3, 2 / 3])
    for area in (exact <= low, (exact > low) & (exact <= high), exact > high):
        for measured, formula in ((errors, mean), (errors**2, mean_square)):
            # Draws are independent whatever the correlation inside an image, so their spread gives the standard error.
            values = measured[:, area].mean(axis=1)
            expected = float(formula(exact)[area].mean())
            standard_error = float(values.std(ddof=1)) / math.sqrt(DRAWS)
            assert standard_error < 0.05 * math.sqrt(float(mean_square(exact)[area].mean())), "too few draws to tell"
            assert abs(values.mean() - expected) < 5 * standard_error


def test_stated_sigma_is_measured(drawn: Drawn) -> None:
    model, _, mean_square, errors = drawn
    clean = photograph()
    stated = model.sigma_of(clean)
    if isinstance(model, noise.SaltPepper | noise.Impulse):
        assert stated is None
        return
    assert stated is not None
    assert stated == pytest.approx(math.sqrt(float(mean_square(clean.astype(np.float64)).mean())), rel=1e-6)
    variance = float(errors.var(axis=0, ddof=1).mean())
    # Stripes have the fewest independent values, 600 draws of 80 columns: a standard error of 1 / sqrt(2 * 48000).
    assert math.sqrt(variance) == pytest.approx(stated, rel=5 / math.sqrt(2 * 48_000))


def test_variance_is_the_same_at_the_border_and_inside() -> None:
    clean = photograph()
    variances = draws_of(noise.Correlated(0.1, width=1.5), clean).var(axis=0)
    border = np.concatenate([variances[0], variances[-1], variances[:, 0], variances[:, -1]])
    # A variance of 600 draws has a relative error of sqrt(2/600) = 5.8 %; some 40 independent places leave 0.9 %.
    assert float(border.mean()) == pytest.approx(0.01, rel=0.045)


@pytest.mark.parametrize("width", [0.7, 1.5, 3.0])
def test_correlated_noise_has_the_stated_correlation(width: float) -> None:
    rng = np.random.default_rng(3)
    drawn = noise.Correlated(0.1, width=width).apply(np.zeros((600, 600), dtype=np.float32), rng).astype(np.float64)
    for distance in (1, 2):
        for one, other in (
            (drawn[:, distance:], drawn[:, :-distance]),
            (drawn[distance:], drawn[:-distance]),
        ):
            measured = float((one * other).mean()) / 0.01
            assert measured == pytest.approx(math.exp(-(distance**2) / (4 * width**2)), abs=0.05)
    # Far apart nothing is left: the standard error is the mean's of 600**2 / (4 pi width**2) independent products.
    effective = 600**2 / (4 * math.pi * width**2)
    assert abs(float((drawn[:, 60:] * drawn[:, :-60]).mean())) / 0.01 < 5 / math.sqrt(effective)


def test_stripes_are_constant_down_a_column_and_independent_across() -> None:
    drawn = noise.Stripe(0.1).apply(np.zeros((8, 40_000), dtype=np.float32), np.random.default_rng(3))
    assert (drawn == drawn[0]).all()
    assert abs(np.corrcoef(drawn[0, 1:], drawn[0, :-1])[0, 1]) < 5 / math.sqrt(40_000)


def test_gaussian_noise_is_gaussian_and_uniform_noise_is_uniform() -> None:
    from scipy.stats import kstest

    clean = np.zeros((200, 200), dtype=np.float32)
    gaussian = noise.Gaussian(0.1).apply(clean, np.random.default_rng(3)).ravel()
    uniform = noise.Uniform(0.1).apply(clean, np.random.default_rng(3)).ravel()
    assert kstest(gaussian / 0.1, "norm").pvalue > 1e-3
    assert kstest(uniform / (0.2 * math.sqrt(3)) + 0.5, "uniform").pvalue > 1e-3


def test_poisson_noise_counts_photons() -> None:
    clean = photograph()
    noisy = noise.Poisson(30.0).apply(clean, np.random.default_rng(3))
    counts = noisy.astype(np.float64) * 30
    assert np.abs(counts - np.rint(counts)).max() < 1e-4
    assert (noisy[clean == 0] == 0).all()
    assert (noise.Poisson(30.0).apply(clean - 2, np.random.default_rng(3)) == 0).all()


def test_replaced_pixels_are_the_stated_share_and_the_others_untouched() -> None:
    clean = np.full((400, 400), 0.4, dtype=np.float32)
    pixels = clean.size
    for share in (0.05, 0.3):
        band = 5 * math.sqrt(share * (1 - share) / pixels)
        salted = noise.SaltPepper(share).apply(clean, np.random.default_rng(3))
        assert set(np.unique(salted)) == {np.float32(0), np.float32(0.4), np.float32(1)}
        assert abs((salted != clean).mean() - share) < band
        assert abs((salted == 1).mean() - share / 2) < band
        hit = noise.Impulse(share).apply(clean, np.random.default_rng(3))
        assert abs((hit != clean).mean() - share) < band
        assert hit.min() >= 0 and hit.max() < 1


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_quantize_rounds_to_its_levels(bits: int) -> None:
    levels = 2**bits - 1
    ramp = np.linspace(0, 1, 300 * 300, dtype=np.float32).reshape(300, 300)
    noisy = noise.Quantize(bits).apply(ramp, np.random.default_rng(0))
    steps = noisy.astype(np.float64) * levels
    assert np.abs(steps - np.rint(steps)).max() < 1e-4
    assert len(np.unique(noisy)) == levels + 1
    errors = noisy.astype(np.float64) - ramp
    assert np.abs(errors).max() <= 0.5 / levels + 1e-6
    # A ramp fills every step evenly, which is when the variance is that of the textbook.
    assert errors.std() == pytest.approx(1 / (levels * math.sqrt(12)), rel=0.01)
    assert abs(errors.mean()) < 1e-4
    assert noise.Quantize(bits).sigma_of(ramp) is None


@pytest.mark.parametrize("quality", [5, 20, 90])
def test_jpeg_agrees_with_another_codec(quality: int) -> None:
    from PIL import Image as Picture

    clean = photograph()
    noisy = noise.Jpeg(quality).apply(clean, np.random.default_rng(0))
    file = io.BytesIO()
    Picture.fromarray(np.rint(clean * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    other = np.asarray(Picture.open(file), dtype=np.float64)
    assert np.abs(noisy * 255.0 - other).max() <= 1  # codecs may round their transforms differently
    assert np.abs(noisy - clean).max() > 0
    assert noise.Jpeg(quality).sigma_of(clean) is None


def test_jpeg_damages_less_at_higher_quality() -> None:
    clean = photograph()
    errors = [
        float(((noise.Jpeg(quality).apply(clean, np.random.default_rng(0)) - clean) ** 2).mean())
        for quality in (5, 20, 50, 95)
    ]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("cls", noise.MODELS, ids=lambda cls: cls.name)
def test_every_model_keeps_the_contract(cls: type[NoiseModel]) -> None:
    model = configure(cls, cls.example).make()
    assert cls.example.split(":")[0] == cls.name
    assert cls.level_title != "level"
    assert cls.summary and cls.formula and cls.reference and cls.__doc__
    clean = photograph()
    before = clean.copy()
    noisy = model.apply(clean, np.random.default_rng(0))
    assert noisy.dtype == np.float32 and noisy.shape == clean.shape
    assert (clean == before).all() and not np.shares_memory(noisy, clean)
    assert (noisy != clean).any()
    with pytest.raises(FrozenInstanceError):
        setattr(model, next(iter(vars(model))), 0.5)


def test_noise_is_neither_clipped_nor_rounded_by_default() -> None:
    clean = np.repeat(np.array([0.0, 1.0], dtype=np.float32), 200).reshape(20, 20)
    for model in (noise.Gaussian(), noise.Uniform(), noise.Correlated(), noise.Stripe(), noise.PoissonGaussian()):
        noisy = model.apply(clean, np.random.default_rng(0))
        assert noisy.min() < 0 and noisy.max() > 1
    assert noise.Speckle().apply(clean, np.random.default_rng(0)).max() > 1


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("gaussian:25", "outside [0, 1], the scale of the images; write 25/255 for grey levels"),
        ("gaussian:-0.1", "sigma=-0.1 is outside"),
        ("uniform:2", "sigma=2 is outside"),
        ("stripe:300", "sigma=300 is outside [0, 1], the scale of the images"),
        ("correlated:1.1", "sigma=1.1 is outside"),
        ("correlated:0.1,width=0", "width=0 is outside (0, 64]"),
        ("poisson:0", "peak=0 is outside"),
        ("poisson-gaussian:-3", "peak=-3 is outside"),
        ("poisson-gaussian:30,sigma=7", "sigma=7 is outside"),
        ("speckle:2", "sigma=2 is outside"),
        ("salt-pepper:5", "amount=5 is outside [0, 1]"),
        ("impulse:-1", "amount=-1 is outside [0, 1]"),
        ("quantize:0", "bits=0 is outside"),
        ("quantize:17", "bits=17 is outside"),
        ("jpeg:0", "quality=0 is outside"),
        ("jpeg:101", "quality=101 is outside"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_reason(spec: str, text: str) -> None:
    cls = next(cls for cls in noise.MODELS if cls.name == parse_spec(spec).name)
    with pytest.raises(BenchboxError, match=re.escape(text)):
        configure(cls, spec).make()


def test_nan_is_refused() -> None:
    for make in (noise.Gaussian, noise.Poisson, noise.SaltPepper):
        with pytest.raises(ValueError, match="outside"):
            make(float("nan"))


def test_a_composition_draws_independent_noises_from_left_to_right() -> None:
    clean = photograph()
    twice = noise.Composed((noise.Gaussian(0.1), noise.Gaussian(0.1)))
    drawn = twice.apply(clean, image_generator(0, "x", "a", 0)).astype(np.float64) - clean
    # Were both drawn from one stream the deviation would be 0.2; independent ones add their variances.
    assert drawn.std() == pytest.approx(0.1 * math.sqrt(2), rel=5 / math.sqrt(2 * drawn.size))
    rounded = noise.Composed((noise.Gaussian(0.1), noise.Quantize(2))).apply(clean, image_generator(0, "x", "a", 0))
    assert np.abs(rounded * 3 - np.rint(rounded * 3)).max() < 1e-5
    assert twice.sigma_of(clean) == pytest.approx(0.1 * math.sqrt(2))
    assert noise.Composed((noise.Gaussian(0.1), noise.SaltPepper(0.1))).sigma_of(clean) is None
    with pytest.raises(ValueError, match="two or more"):
        noise.Composed((noise.Gaussian(),))


def test_a_composed_noise_has_a_stream_of_its_own() -> None:
    # What the first model draws, here nothing that shows, does not shift the stream of the second.
    black = np.zeros((20, 30), dtype=np.float32)
    stripes = [
        noise.Composed((first, noise.Stripe(0.1))).apply(black, image_generator(0, "x", "a", 0))
        for first in (noise.Gaussian(0.0), noise.Uniform(0.0), noise.Quantize(8))
    ]
    assert stripes[0].any()
    assert (stripes[0] == stripes[1]).all() and (stripes[0] == stripes[2]).all()


def test_examples_are_canonical() -> None:
    for cls in noise.MODELS:
        assert configure(cls, cls.example).spec == cls.example
