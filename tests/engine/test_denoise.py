"""`benchbox denoise`: pictures keep their format, depth and channels; one that fails stops no other."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from benchbox.builtin.sigma import estimate_sigma

Command = Callable[..., subprocess.CompletedProcess[str]]
Plugin = Callable[[str, str], Path]


def noisy(height: int = 60, width: int = 70, channels: int = 1, depth: int = 8) -> NDArray[Any]:
    """A slope with Gaussian noise of 0.1."""
    slope = np.linspace(0.3, 0.7, width)[None, :, None] * np.ones((height, 1, channels))
    image = (slope + np.random.default_rng(0).normal(0, 0.1, slope.shape)).clip(0, 1)
    pixels: NDArray[Any] = np.squeeze(np.rint(image * (2**depth - 1)).astype(np.uint8 if depth == 8 else np.uint16))
    return pixels


def roughness(pixels: NDArray[Any]) -> float:
    """Standard deviation of differences between vertical neighbours, on the scale from 0 to 1."""
    return float(np.diff(pixels.astype(float), axis=0).std() / np.iinfo(pixels.dtype).max)


PICTURES = {
    "grey.png": (1, 8),
    "colour.png": (3, 8),
    "deep.png": (3, 16),
    "deep.tif": (1, 16),
    "colour.jpg": (3, 8),
    "colour.webp": (3, 8),
}
"""Channels and bits per sample of pictures by their names."""


def test_format_depth_and_channels_are_kept(benchbox: Command, tmp_path: Path) -> None:
    sources = {name: noisy(channels=channels, depth=depth) for name, (channels, depth) in PICTURES.items()}
    for name, source in sources.items():
        cv2.imwrite(str(tmp_path / name), source)
    result = benchbox("denoise", *PICTURES, "-o", "out", "--with", "bm3d_lite", "--sigma", "0.1")
    for name, source in sources.items():
        assert f"out/{name}  sigma 0.1" in result.stdout
        with Image.open(tmp_path / name) as before, Image.open(tmp_path / "out" / name) as after:
            assert (after.format, after.size, after.mode) == (before.format, before.size, before.mode), name
        denoised = cv2.imread(str(tmp_path / "out" / name), cv2.IMREAD_UNCHANGED)
        assert denoised is not None
        assert (denoised.dtype, denoised.shape) == (source.dtype, source.shape), name
        assert roughness(denoised) < 0.3 * roughness(source), name
        assert abs(float(denoised.mean()) / float(source.mean()) - 1) < 0.02, name


def test_each_channel_gets_its_own_estimate_and_alpha_is_kept(benchbox: Command, tmp_path: Path) -> None:
    source = np.dstack([noisy(channels=3), np.tile(np.arange(70, dtype=np.uint8), (60, 1))])
    source[..., 1] = 128  # green is clean, so that its estimate is zero
    cv2.imwrite(str(tmp_path / "a.png"), source)
    result = benchbox("denoise", "a.png", "-o", "out", "--with", "ffdnet")
    planes = np.moveaxis(source[..., :3], 2, 0).astype(np.float32) / np.float32(255)
    assert f"sigma {estimate_sigma(planes).mean():.4g}, per channel" in result.stdout
    denoised = cv2.imread(str(tmp_path / "out/a.png"), cv2.IMREAD_UNCHANGED)
    assert denoised is not None
    assert np.array_equal(denoised[..., 3], source[..., 3])
    assert np.array_equal(denoised[..., 1], source[..., 1])
    assert roughness(denoised[..., 0]) < 0.4 * roughness(source[..., 0])


def test_a_photograph_comes_out_upright(benchbox: Command, tmp_path: Path) -> None:
    picture = Image.fromarray(noisy(40, 60))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    picture.save(tmp_path / "a.jpg", exif=exif)
    benchbox("denoise", "a.jpg", "-o", "out", "--with", "median", "--sigma", "none")
    with Image.open(tmp_path / "out/a.jpg") as after:
        assert (after.size, after.getexif().get(0x0112)) == ((40, 60), None)


def test_tiffs_are_read_as_stored_or_refused(benchbox: Command, tmp_path: Path) -> None:
    colours = np.dstack([noisy(channels=3), np.tile(np.arange(70, dtype=np.uint8), (60, 1))])
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", extrasamples=["unassalpha"])
    Image.fromarray(colours, mode="CMYK").save(tmp_path / "b.tif")
    result = benchbox("denoise", "a.tif", "b.tif", "-o", "out", "--with", "identity", code=1)
    assert "b.tif: its colours are CMYK; only grey and RGB are read; convert it to RGB" in result.stderr
    written = cv2.imdecode(np.fromfile(tmp_path / "out/a.tif", np.uint8), cv2.IMREAD_UNCHANGED)
    assert written is not None
    assert np.array_equal(written[..., [2, 1, 0, 3]], colours)


def test_folders_keep_their_structure_and_nothing_is_overwritten(benchbox: Command, tmp_path: Path) -> None:
    (tmp_path / "photos/deep").mkdir(parents=True)
    for name in ("one.png", "deep/two.png"):
        cv2.imwrite(str(tmp_path / "photos" / name), noisy())
    (tmp_path / "photos/note.txt").write_text("no picture")
    words = ("denoise", "photos", "-o", "out", "--with", "median", "--sigma", "none")
    benchbox(*words)
    found = sorted(str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.*"))
    assert found == ["deep/two.png", "one.png"]
    (tmp_path / "out/one.png").write_bytes(b"mine")
    refused = benchbox(*words, code=2)
    assert "exists (and 1 more results)" in refused.stderr
    assert (tmp_path / "out/one.png").read_bytes() == b"mine"
    benchbox(*words, "--overwrite")
    assert (tmp_path / "out/one.png").read_bytes() != b"mine"
    assert "would be overwritten" in benchbox("denoise", "photos", "-o", "photos", "--overwrite", code=2).stderr


@pytest.mark.slow
def test_a_picture_that_fails_stops_no_other(benchbox: Command, plugin: Plugin, tmp_path: Path) -> None:
    for name, side in (("a.png", 20), ("b.png", 21), ("d.png", 22), ("e.png", 23)):
        cv2.imwrite(str(tmp_path / name), noisy(side, 30))
    (tmp_path / "c.png").write_bytes(b"damaged")
    file = plugin("moody", "n = noisy.shape[1]\nif n == 20: raise OSError('no licence')\nif n == 21: os._exit(3)\n"
                           "if n == 22: time.sleep(60)\nreturn noisy.copy()")  # fmt: skip
    words = ("a.png", "b.png", "c.png", "d.png", "e.png", "-o", "out", "--with", "moody", "--plugin", file)
    result = benchbox("denoise", *words, "--timeout", "5s", code=1)
    said = result.stderr
    assert "failed: a.png: OSError: no licence" in said
    assert "failed: b.png: its process ended with exit code 3" in said
    assert "failed: c.png: its content is not PNG" in said
    assert "failed: d.png: it took longer than 5 s" in said
    assert "4 of 5 pictures could not be denoised" in said
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["e.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a.png", "--sigma", "25"), "--sigma 25: not a noise level between 0 and 1"),
        (("a.png", "--with", "bm3d_lit"), "did you mean 'bm3d_lite'"),
        (("gone.png",), "gone.png: no such file or folder"),
        (("empty",), "no picture in empty"),
        (("a.png", "--with", "bm3d_lite", "--sigma", "none"), "needs the noise level"),
        (("a.png", "deep/a.png"), "would have the same result"),
    ],
)
def test_a_mistake_is_said_before_anything_is_done(
    words: tuple[str, ...], message: str, benchbox: Command, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "deep").mkdir()
    for name in ("a.png", "deep/a.png"):
        cv2.imwrite(str(tmp_path / name), noisy())
    assert message in benchbox("denoise", *words, "-o", "out", code=2).stderr
    assert not (tmp_path / "out").exists()
