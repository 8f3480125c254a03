"""How a model is called: each convention is found out, and each wrong one is refused."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from benchbox_adapters.conventions import Input, Opened, Sizing
from benchbox_adapters.fitting import LEVELS, Given, fit, forms_of, picture, range_label
from benchbox_unet.ffdnet import FFDNet
from numpy.typing import NDArray
from scipy import ndimage

from benchbox import BenchboxError, Images, Sigma

Tensor = NDArray[Any]
RANGES = {"1": (0.0, 1.0), "255": (0.0, 255.0), "-1..1": (-1.0, 1.0)}


@functools.cache
def ffdnet() -> FFDNet:
    network = FFDNet()
    network.setup((1, 64, 64))
    return network


def restored(values: Tensor, sigma: Tensor) -> Tensor:
    """A trained network that is told the level, on each channel of (N, H, W, C)."""
    planes = [ffdnet().denoise(np.ascontiguousarray(plane, np.float32), sigma) for plane in np.moveaxis(values, 3, 0)]
    return np.stack(planes, axis=3)


def model(
    sigma: str, scale: float, span: tuple[float, float], residual: bool, channels: int, *, bgr: bool = False
) -> Opened:
    """That network behind another convention, in the layout (N, C, H, W)."""
    low, width = span[0], span[1] - span[0]

    def run(x: Tensor, level: Tensor | None = None) -> Tensor:
        values = np.moveaxis(x, 1, 3)
        if sigma == "channel":
            assert values.shape[3] == channels + 1
            level, values = values[:, 0, 0, -1], values[..., :-1]
        elif sigma == "input":
            assert level is not None and level.shape == (len(x), 1, *x.shape[2:])
            level = level[:, 0, 0, 0]
        elif sigma == "none":
            level = np.full(len(x), 0.1 * scale)
        assert level is not None
        unit = (values - low) / width
        told = np.broadcast_to(level.reshape(-1) / scale, len(x)).astype(np.float32)
        clear = restored(unit, told)
        if bgr:
            clear[..., 0] = clear[..., 0].clip(max=0.7)  # it has never seen more blue than that
        answer = clear * width + low
        return np.ascontiguousarray(np.moveaxis(values - answer if residual else answer, 3, 1), np.float32)

    image = Input((None, channels + (sigma == "channel"), None, None))
    second = {"input": Input((None, 1, None, None)), "vector": Input((None, 1, 1, 1)), "scalar": Input(())}
    return Opened((image, second[sigma]) if sigma in second else (image,), "nchw", run)


def stack(channels: int) -> tuple[Images, Sigma]:
    drawn = picture(40, 52)
    clean = drawn if channels == 1 else np.dstack([drawn, 0.3 + 0.5 * drawn, 0.9 - 0.6 * drawn])
    sigma = np.array([0.05, 0.15], np.float32)
    noise = np.random.default_rng(3).standard_normal((2, *clean.shape), dtype=np.float32)
    return clean + sigma.reshape(-1, *[1] * clean.ndim) * noise, sigma


# Every place of sigma with every range and residual; the other two alternate.
ALL = [
    (sigma, (1.0, 255.0)[place % 2] if sigma != "none" else 1.0, span, residual, (1, 3)[place // 2 % 2])
    for place, (sigma, span, residual) in enumerate(
        itertools.product(("none", "channel", "input", "vector", "scalar"), RANGES, (False, True))
    )
    # Without a noise level, a model for -1 to 1 is as good a denoiser of images from 0 to 1, with twice the noise.
    if (sigma, span) != ("none", "-1..1")
]


@pytest.mark.parametrize(
    ("sigma", "scale", "span", "residual", "channels"),
    [pytest.param(*one, marks=() if place % 14 == 0 else pytest.mark.slow) for place, one in enumerate(ALL)],
)
def test_each_convention_is_found_out(sigma: str, scale: float, span: str, residual: bool, channels: int) -> None:
    opened = model(sigma, scale, RANGES[span], residual, channels)
    found = fit(opened, "model", Given())
    assert (found.form.sigma, found.sigma_scale if sigma != "none" else 1.0) == (sigma, scale)
    assert (range_label(found.low, found.high), found.residual, found.form.channels) == (span, residual, channels)
    noisy, levels = stack(channels)
    told = np.full(2, 0.1, np.float32) if sigma == "none" else levels
    expected = restored(noisy[..., None] if channels == 1 else noisy, told)
    denoised = found.denoise(opened, noisy, None if sigma == "none" else levels)
    np.testing.assert_allclose(denoised, expected[..., 0] if channels == 1 else expected, atol=2e-4)


@pytest.mark.parametrize(
    ("sigma", "given"),
    [
        ("channel", {"sigma_scale": 255.0}),
        ("none", {"residual": True}),
        ("none", {"range": (0.0, 255.0)}),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (
                ("channel", {"range": (0.0, 255.0)}),
                ("channel", {"residual": True}),
                ("vector", {"sigma_scale": 1 / 255}),
                ("channel", {"range": (-1.0, 1.0)}),
            )
        ),
    ],
)
def test_a_wrong_convention_is_refused_with_what_was_tried(sigma: str, given: dict[str, Any]) -> None:
    opened = model(sigma, 1.0, RANGES["1"], False, 1)
    with pytest.raises(
        BenchboxError, match=r"model: (nothing that was tried|its result does not|with the given options).*dB"
    ):
        fit(opened, "model", Given(**given))


def test_who_gives_everything_is_believed() -> None:
    opened = model("channel", 255.0, RANGES["1"], False, 1)
    given = Given(sigma="channel", sigma_scale=1.0, range=(0.0, 255.0), residual=True)
    found = fit(opened, "model", given)
    assert (found.sigma_scale, found.high, found.residual) == (1.0, 255.0, True)
    assert found.gain < 0


@pytest.mark.slow
def test_blue_first_is_found_out() -> None:
    found = fit(model("none", 1.0, RANGES["1"], False, 3, bgr=True), "model", Given())
    assert found.bgr
    assert not fit(model("none", 1.0, RANGES["1"], False, 3), "model", Given()).bgr
    whole = Given(range=(0.0, 1.0), residual=False)
    assert fit(model("none", 1.0, RANGES["1"], False, 3, bgr=True), "model", whole).bgr


def test_a_model_that_ignores_the_level_is_refused() -> None:
    blind = model("none", 1.0, RANGES["1"], False, 1)
    opened = Opened((*blind.inputs, Input((None,))), "nchw", lambda x, level: blind.run(x))
    with pytest.raises(BenchboxError, match="does not follow the noise level"):
        fit(opened, "model", Given())


@pytest.mark.slow
def test_grey_images_pass_a_colour_model_three_times() -> None:
    opened = model("vector", 1.0, RANGES["1"], False, 3)
    noisy, sigma = stack(1)
    denoised = fit(opened, "model", Given()).denoise(opened, noisy, sigma)
    np.testing.assert_allclose(denoised, restored(noisy[..., None], sigma)[..., 0], atol=1e-5)


def strict(accepts: Callable[[int, int], bool]) -> Opened:
    plain = model("none", 1.0, RANGES["1"], False, 1)

    def run(x: Tensor) -> Tensor:
        if not accepts(*x.shape[2:]):
            raise ValueError(f"no {x.shape[2]}x{x.shape[3]}")
        return plain.run(x)

    return Opened(plain.inputs, "nchw", run)


@pytest.mark.parametrize("multiple", [2, 16, 64, pytest.param(256, marks=pytest.mark.slow)])
def test_the_multiple_of_sides_is_found_out(multiple: int) -> None:
    opened = strict(lambda height, width: height % multiple == 0 == width % multiple)
    found = fit(opened, "model", Given())
    assert (found.sizing.multiple, found.sizing.square) == (multiple, False)
    assert found.sizing.label == f"padded to multiples of {multiple}"
    assert found.denoise(opened, np.zeros((1, 49, 50), np.float32), None).shape == (1, 49, 50)


def test_a_model_for_squares_gets_squares() -> None:
    opened = strict(lambda height, width: height == width and height % 8 == 0)
    found = fit(opened, "model", Given())
    assert (found.sizing.multiple, found.sizing.square) == (8, True)
    assert found.denoise(opened, np.zeros((2, 20, 41), np.float32), None).shape == (2, 20, 41)


def test_a_batch_that_an_export_has_built_in_is_found_out() -> None:
    plain = model("none", 1.0, RANGES["1"], False, 1)

    def run(x: Tensor) -> Tensor:
        if len(x) != 1:
            raise ValueError("Axis 0 has mismatched dimensions of 2 and 1")
        return plain.run(x)

    opened = Opened(plain.inputs, "nchw", run)
    found = fit(opened, "model", Given())
    assert found.sizing.batch == 1
    assert found.denoise(opened, np.zeros((3, 48, 48), np.float32), None).shape == (3, 48, 48)


def test_a_model_that_takes_no_size_is_refused() -> None:
    with pytest.raises(BenchboxError, match="rejects an image of 33x65 pixels, even extended to multiples of 256: no"):
        fit(strict(lambda height, width: False), "model", Given())


@pytest.mark.parametrize(("tile", "overlap"), [(16, 4), (16, 0), (20, 10), (64, 8)])
def test_tiles_cover_each_pixel_once(tile: int, overlap: int) -> None:
    images = np.random.default_rng(0).random((2, 45, 70, 1), dtype=np.float32)
    sizes = []

    def call(x: Tensor, sigma: Sigma) -> Tensor:
        sizes.append(x.shape[1:3])
        return 2 * x

    sizing = Sizing(tile=tile, overlap=overlap)
    np.testing.assert_array_equal(sizing.run(call, images, LEVELS), 2 * images)
    assert max(max(size) for size in sizes) <= tile


def blurred(images: Tensor) -> Tensor:
    return np.asarray(ndimage.gaussian_filter(images, (0, 1, 1, 0), truncate=4), np.float32)


def test_tiles_with_enough_overlap_are_the_whole_image() -> None:
    images = np.random.default_rng(0).random((1, 60, 61, 1), dtype=np.float32)
    whole = blurred(images)
    tiled = Sizing(tile=32, overlap=12).run(lambda x, sigma: blurred(x), images, LEVELS[:1])
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


def test_the_forms_of_inputs() -> None:
    assert [form.sigma for form in forms_of([Input((None, 2, None, None))], "nchw", Given())] == ["channel"]
    assert [form.channels for form in forms_of([Input((None, None, None, 4))], "nhwc", Given())] == [3]
    two = forms_of([Input((None,)), Input((None, None, None, 1))], "nhwc", Given())
    assert [(form.image, form.sigma) for form in two] == [(1, "vector")]
    assert forms_of([Input((None, 7, None, None))], "nchw", Given()) == []
    assert forms_of([Input((None, 1, None, None))], "nchw", Given(sigma="scalar")) == []
