"""Colour: which images keep it, how noise, levels and channels are drawn from it, and that grey stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
from made_pictures import load, luminance, one, save
from numpy.typing import NDArray
from skimage import data

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.api.noise import NoiseModel
from benchbox.builtin import channels
from benchbox.builtin.datasets.array_file import ArrayFile
from benchbox.builtin.datasets.sample import Sample
from benchbox.builtin.noise import MODELS, add_noise
from benchbox.builtin.noise.additive import Correlated, Gaussian
from benchbox.builtin.noise.non_additive import Jpeg, SaltPepper
from benchbox.builtin.sigma import estimate_sigma

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture(scope="module")
def cat() -> NDArray[np.uint8]:
    return np.asarray(data.chelsea()[40:100, 60:143])


# --- which images keep their colour


def test_colour_is_kept_as_stored(root: Path, cat: NDArray[np.uint8]) -> None:
    for name in ("a.png", "b.bmp", "c.tif"):
        save(root / name, cat)
    found = load(root, color="auto")
    assert (found.channels, found.notes) == (3, ())
    for index in range(3):
        np.testing.assert_array_equal(one(found, index), cat.astype(np.float32) / np.float32(255))
    assert found.fingerprint != load(root).fingerprint
    assert found.fingerprint == load(root, color="rgb").fingerprint


def test_colour_of_16_bit_is_exact(root: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    save(root / "a.png", colour)
    np.testing.assert_array_equal(one(load(root, color="rgb")), colour.astype(np.float32) / np.float32(65535))


def test_one_grey_image_turns_all_into_luminance(root: Path, cat: NDArray[np.uint8]) -> None:
    save(root / "a.png", cat)
    save(root / "b.png", cat[..., 0])
    found = load(root, color="auto")
    note = "colour: 1 of 2 images (first a.png), converted to luminance (ITU-R BT.601), because the others are grey"
    assert (found.channels, found.notes) == (1, (note,))
    assert np.abs(one(found) * 255 - luminance(cat)).max() <= 0.51
    with pytest.raises(BenchboxError, match=r"--color rgb: .*b\.png is grey; it has no colour") as caught:
        load(root, color="rgb")
    assert caught.value.hint == "remove the grey images, or turn all into luminance with --color grey"


def test_transparency_and_palettes(root: Path, cat: NDArray[np.uint8]) -> None:
    save(root / "a.png", np.dstack([cat[..., ::-1], np.full(cat.shape[:2], 128, np.uint8)]))
    from PIL import Image

    palette = Image.fromarray(cat).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(root / "b.png")
    found = load(root, color="rgb")
    assert "transparency: 1 of 2 images; it is ignored" in found.notes
    np.testing.assert_array_equal(np.rint(255 * one(found, 0)), cat)
    np.testing.assert_array_equal(np.rint(255 * one(found, 1)), np.asarray(palette.convert("RGB")))


def test_arrays_and_the_sample_in_colour(root: Path, cat: NDArray[np.uint8]) -> None:
    np.save(root / "a.npy", np.stack([cat, cat[::-1]]))
    np.save(root / "grey.npy", np.stack([cat[..., 0]] * 2))
    colour, grey = ArrayFile().load(root / "a.npy"), ArrayFile().colored("grey").load(root / "a.npy")
    np.testing.assert_array_equal(np.rint(255 * one(colour, 1)), cat[::-1])
    assert np.abs(one(grey) * 255 - luminance(cat)).max() < 1e-3
    assert colour.fingerprint != grey.fingerprint
    with pytest.raises(BenchboxError, match=r"--color rgb: .*grey"):
        ArrayFile().colored("rgb").load(root / "grey.npy")
    tiles, luma = Sample().colored("rgb").load(None), Sample().load(None)
    assert (tiles.channels, luma.channels) == (3, 1)
    assert set(tiles.ids) < set(luma.ids)
    assert not any(name.startswith(("camera", "coins", "brick", "gravel")) for name in tiles.ids)
    same = [luma.ids.index(name) for name in tiles.ids]
    ours = luminance(tiles.stack(np.arange(len(tiles))))
    assert np.abs(ours - luma.stack(np.array(same))).max() <= 1.01 / 255  # both are rounded


# --- noise


@pytest.mark.parametrize("model", [model for model in MODELS if model.name not in ("quantize", "jpeg")])
def test_the_noise_of_channels_is_independent(model: type[NoiseModel]) -> None:
    clean = np.full((4, 96, 96, 3), 0.5, np.float32)
    noisy, _ = add_noise(model(), model.example, clean, list("abcd"), 0, 0)
    error = (noisy - clean).reshape(-1, 3).astype(np.float64)
    correlation = np.asarray(np.corrcoef(error.T))[np.triu_indices(3, 1)]
    # Of n independent pixels, correlations vary by 1/sqrt(n). Stripes are constant along columns, correlated noise
    # over about 4 pi width^2 pixels.
    pixels = len(error) / {"stripe": 96, "correlated": 4 * np.pi * 1.0}.get(model.name, 1)
    assert np.abs(correlation).max() < 4 / np.sqrt(pixels)


def test_the_level_of_coloured_noise_is_that_of_grey_noise() -> None:
    clean = np.full((64, 64, 3), 0.5, np.float32)
    for model in (Gaussian(0.1), Correlated(0.1, 2.0)):
        error = np.stack([model.apply(clean, np.random.default_rng(seed)) - clean for seed in range(40)])
        assert np.sqrt(np.square(error, dtype=np.float64).mean(axis=(0, 1, 2))) == pytest.approx([0.1] * 3, rel=0.03)


def test_salt_and_pepper_hits_each_channel_by_itself() -> None:
    noisy = SaltPepper(0.2).apply(np.full((100, 100, 3), 0.5, np.float32), np.random.default_rng(0))
    hit = noisy != 0.5
    assert hit.mean(axis=(0, 1)) == pytest.approx([0.2] * 3, abs=0.02)
    assert hit.all(axis=2).mean() == pytest.approx(0.2**3, abs=0.004)


def test_jpeg_is_colour_jpeg_with_subsampled_chroma(cat: NDArray[np.uint8], root: Path) -> None:
    from PIL import Image

    noisy = Jpeg(30).apply(cat.astype(np.float32) / np.float32(255), np.random.default_rng(0))
    Image.fromarray(cat).save(root / "a.jpg", quality=30, subsampling="4:2:0")
    other = np.asarray(Image.open(root / "a.jpg"))
    # Another codec: the same up to rounding and the interpolation of chroma.
    assert np.abs(255 * noisy - other).mean() < 1.5
    red = np.zeros((32, 32, 3), np.float32)
    red[..., 0] = 1
    decoded = Jpeg(95).apply(red, np.random.default_rng(0))
    assert decoded.reshape(-1, 3).mean(axis=0) == pytest.approx([1, 0, 0], abs=0.02)


def test_the_estimate_is_the_root_mean_square_over_channels(cat: NDArray[np.uint8]) -> None:
    clean = data.astronaut()[:256, :256].astype(np.float32) / 255
    noisy = np.stack([clean + 0.1 * np.random.default_rng(seed).standard_normal(clean.shape) for seed in range(2)])
    noisy = noisy.astype(np.float32)
    apart = np.stack([estimate_sigma(np.ascontiguousarray(noisy[..., channel])) for channel in range(3)])
    assert estimate_sigma(noisy) == pytest.approx(np.sqrt(np.square(apart).mean(axis=0)), rel=1e-6)
    assert estimate_sigma(noisy) == pytest.approx([0.1, 0.1], rel=0.1)


# --- channels


def test_channels_apart_and_together() -> None:
    stack = np.random.default_rng(0).random((2, 5, 7, 3), dtype=np.float32)
    apart = channels.channels_apart(stack)
    assert apart.shape == channels.shape_taken("grey", stack.shape) == (6, 5, 7)
    np.testing.assert_array_equal(apart[4], stack[1, :, :, 1])
    np.testing.assert_array_equal(channels.channels_together(apart), stack)
    taken, level = channels.as_taken("grey", stack, np.array([0.1, 0.2], np.float32))
    np.testing.assert_array_equal(taken, apart)
    assert level is not None
    assert level.tolist() == pytest.approx([0.1] * 3 + [0.2] * 3)
    for takes in ("rgb", "any"):
        assert channels.as_taken(takes, stack, None)[0] is stack
    ours = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in stack])
    np.testing.assert_allclose(channels.luminance(stack), ours, atol=1e-6)


def test_a_subset_keeps_channels(cat: NDArray[np.uint8], root: Path) -> None:
    save(root / "a.png", cat)
    save(root / "b.png", cat[::-1])
    found: ImageSet = load(root, color="auto").subset(np.array([1]), "f")
    assert found.channels == 3
    np.testing.assert_array_equal(np.rint(255 * one(found)), cat[::-1])


@pytest.mark.parametrize(("mode", "space"), [("CMYK", "CMYK"), ("LAB", "CIELab")])
def test_other_colour_spaces_of_tiff_are_refused(mode: str, space: str, cat: NDArray[np.uint8], root: Path) -> None:
    from PIL import Image, ImageCms

    picture = Image.fromarray(cat)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
        assert converted is not None
    else:
        converted = picture.convert(mode)
    converted.save(root / "a.tif")
    with pytest.raises(BenchboxError, match=rf"a\.tif: its colours are {space}; only grey and RGB are read") as caught:
        load(root, color="auto")
    assert "convert it to RGB" in caught.value.hint


def test_cmyk_jpeg_and_profiles(cat: NDArray[np.uint8], root: Path) -> None:
    """OpenCV turns CMYK in a JPEG into RGB; a profile is ignored, so that noise stays what it is."""
    from PIL import Image, ImageCms

    picture = Image.fromarray(cat)
    picture.convert("CMYK").save(root / "a.jpg", quality=98)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save(root / "b.png", icc_profile=profile)
    found = load(root, color="rgb")
    assert np.abs(255 * one(found, 0) - cat).mean() < 3
    np.testing.assert_array_equal(np.rint(255 * one(found, 1)), cat)


def test_runs_in_grey_and_in_colour_are_not_compared(cat: NDArray[np.uint8], root: Path, benchbox: Command) -> None:
    save(root / "photos/a.png", cat)
    for color in ("rgb", "grey"):
        benchbox("run", "median", "--data", "photos", "--color", color, "--no-timing", "--previews", "0")
    assert "not comparable: --color is 'rgb' and 'grey'" in benchbox("compare", code=2).stderr
