"""Recorded pairs: the layouts that are found, their scenes, what is refused, and a run on them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import scipy.io
from made_pictures import save
from numpy.typing import NDArray
from skimage import data

from benchbox.api.dataset import ImageSet
from benchbox.api.errors import BenchboxError
from benchbox.builtin.datasets.fer2013 import Fer2013
from benchbox.builtin.datasets.pairs import SIDD, Pairs
from benchbox.stats.summaries import mean_of
from benchbox.store import RunStore

Command = Callable[..., CompletedProcess[str]]
Pixels = NDArray[np.uint8]
LEVEL = 15


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    return folder


@functools.cache
def photographs() -> tuple[Pixels, ...]:
    return data.astronaut(), data.chelsea(), data.coffee()


def clean(place: int, side: int = 48) -> Pixels:
    """A part of a photograph."""
    picture = photographs()[place % 3]
    top, left = place * 37 % (picture.shape[0] - side), place * 53 % (picture.shape[1] - side)
    return np.asarray(picture[top : top + side, left : left + side])


def noisy(picture: Pixels, seed: int = 0) -> Pixels:
    drawn = picture + np.random.default_rng(seed).normal(0, LEVEL, picture.shape)
    return np.clip(np.rint(drawn), 0, 255).astype(np.uint8)


def pair(folder: Path, noisy_name: str, clean_name: str, place: int, seed: int = 0) -> None:
    for name, picture in ((clean_name, clean(place)), (noisy_name, noisy(clean(place), seed))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save(folder / name, picture)


def check(images: ImageSet, count: int) -> None:
    """Every noisy picture has the truth that it was made from."""
    places = np.arange(count)
    assert (len(images), images.channels, images.dataset) == (count, 3, "pairs")
    error = 255 * (images.noisy_stack(places) - images.stack(places)).astype(np.float64)
    assert np.sqrt(np.square(error).mean()) == pytest.approx(LEVEL, abs=2)


# --- layouts


def siblings(root: Path, place: int) -> None:
    pair(root, f"noisy/{place:04}.PNG", f"clean/{place:04}.png", place)


def named_strength(root: Path, place: int) -> None:
    pair(root, f"noisy15/{place:04}.png", f"original_png/{place:04}.bmp", place)


def crops(root: Path, place: int) -> None:
    name = f"{place // 3:04}_crop{place % 3}"
    pair(root, f"input/{name}.png", f"target/{name}.png", place)


def patches(root: Path, place: int) -> None:
    name = f"{place // 3}_{place % 3}"
    pair(root, f"input/{name}.png", f"gt/{name}.png", place)


def crops_of_sidd(root: Path, place: int) -> None:
    name = f"{place // 3:04}_NOISY_SRGB_010_s{place % 3:03}"
    pair(root, f"val/input_crops/{name}.png", f"val/target_crops/{name}.png", place)


def polyu(root: Path, place: int) -> None:
    name = f"Canon5D2_5_160_3200_{('toy', 'wall')[place % 2]}_{place // 2 + 1}"
    pair(root, f"{name}_real.png", f"{name}_mean.png", place)
    save(root / f"{name}_ours.png", clean(place + 1))


def cc15(root: Path, place: int) -> None:
    name = f"d800_iso{1600 * (place // 3 + 1)}_{place % 3 + 1}"
    pair(root, f"{name}_real.png", f"{name}_mean.png", place)


def sidd_small(root: Path, place: int) -> None:
    folder = f"{place:04}_001_S6_00100_00060_3200_L"
    pair(root, f"{folder}/{place:04}_NOISY_SRGB_010.PNG", f"{folder}/{place:04}_GT_SRGB_010.PNG", place)


def renoir(root: Path, place: int) -> None:
    pair(root, f"Batch_{place}/IMG_{place + 100}Noisy.bmp", f"Batch_{place}/IMG_{place + 200}Reference.bmp", place)


def microscope(root: Path, place: int) -> None:
    field = place // 2
    pair(root, f"raw/{field}/HV110_P{place:03}.png", f"gt/{field}/avg50.png", field, place)
    pair(root, f"avg2/{field}/HV110_P{place:03}.png", f"gt/{field}/avg50.png", field, place)


@pytest.mark.parametrize(
    ("make", "scenes"),
    [
        (siblings, [f"clean/{place:04}" for place in range(6)]),
        (named_strength, [f"original_png/{place:04}" for place in range(6)]),
        (crops, ["target/0000", "target/0001"]),
        (patches, ["gt/0", "gt/1"]),
        (crops_of_sidd, [f"val/target_crops/{place:04}_srgb_010" for place in range(2)]),
        (polyu, ["canon5d2_5_160_3200_toy", "canon5d2_5_160_3200_wall"]),
        (cc15, [f"d800_iso{iso}_{place}" for iso in (1600, 3200) for place in (1, 2, 3)]),
        (sidd_small, [f"{place:04}_001_s6_00100_00060_3200_l/{place:04}_srgb" for place in range(6)]),
        (renoir, [f"batch_{place}/img_{place + 200}" for place in range(6)]),
        (microscope, [f"gt/{place}/avg50" for place in range(3)]),
    ],
)
def test_layouts(root: Path, make: Callable[[Path, int], None], scenes: list[str]) -> None:
    for place in range(6):
        make(root, place)
    assert Pairs().recognises(root)
    images = Pairs().load(root)
    check(images, 6)
    assert sorted(set(images.scenes)) == scenes
    if make is polyu:
        assert any("are called neither noisy nor clean, first Canon5D2" in note for note in images.notes)
        assert "noise: recorded in 6 pairs of 2 scenes" in images.notes
    if make is microscope:
        assert any("less noise of the same pictures in avg2" in note for note in images.notes)


def test_a_csv_of_pairs_with_scenes(root: Path) -> None:
    lines = ["noisy,clean,scene"]
    for place in range(4):
        pair(root, f"a/{place}.png", f"b/{place + 10}.png", place)
        lines.append(f"a/{place}.png,b/{place + 10}.png,s{place // 2}")
    file = root / "pairs.csv"
    file.write_text("\n".join(lines))
    assert Pairs().recognises(file)
    assert not Fer2013().recognises(file)
    images = Pairs().load(file)
    check(images, 4)
    assert images.scenes == ("s0", "s0", "s1", "s1")
    # Its folder stands for it, instead of noisy and clean pictures that are all taken for clean ones.
    assert Pairs().recognises(root)
    assert Pairs().load(root).fingerprint == images.fingerprint
    other = root / "pairs2.csv"
    other.write_text("\n".join(lines[:2]))
    with pytest.raises(BenchboxError, match=r"several lists of pairs: pairs\.csv, pairs2\.csv") as caught:
        Pairs().load(root)
    assert caught.value.hint == f"give one, such as --data {file}"
    other.unlink()
    file.write_text("\n".join([*lines, "a/9.png,b/10.png,s9"]))
    with pytest.raises(BenchboxError, match=r"pairs\.csv, line 6, column noisy: 'a/9\.png' is not a file"):
        Pairs().load(file)


def test_csv_files_as_spreadsheets_and_people_write_them(root: Path) -> None:
    for place in range(2):
        pair(root, f"a/{place}.png", f"b/{place}.png", place)
    file = root / "pairs.csv"
    for text in (
        "\ufeffnoisy,clean\r\na/0.png,b/0.png\r\na/1.png,b/1.png\r\n",
        "Scene, Noisy, Clean\nx, a/0.png, b/0.png\n\ny, a/1.png, b/1.png\n",
        f"noisy;clean\n{root}/a/0.png;b/0.png\na/1.png;../set/b/1.png\n",
    ):
        file.write_text(text, encoding="utf-8")
        assert Pairs().recognises(file)
        assert not Fer2013().recognises(file)
        check(Pairs().load(file), 2)
    file.write_text("noisy,clean\na/0.png,b/0.png\nb/0.png,a/0.png\n")
    with pytest.raises(BenchboxError, match=r"pairs\.csv: b/0\.png is both noisy and clean"):
        Pairs().load(file)
    file.write_text("noisy,clean\na/0.png\n")
    with pytest.raises(BenchboxError, match=r"pairs\.csv, line 2, column clean: '' is not a file"):
        Pairs().load(file)


def test_blocks_of_sidd(root: Path, cache: Path) -> None:
    truth = np.stack([np.stack([clean(4 * row + column, 32) for column in range(4)]) for row in range(3)])
    for name, blocks in zip(SIDD, (noisy(truth), truth), strict=True):
        scipy.io.savemat(root / f"{name}.mat", {name: blocks})
    for path in (root, root / f"{SIDD[0]}.mat"):
        assert Pairs().recognises(path)
        images = Pairs().load(path)
        check(images, 12)
        assert images.scenes == tuple(f"{row:02}" for row in (1, 2, 3) for _ in range(4))
        np.testing.assert_array_equal(np.rint(255 * images.stack(np.array([5]))[0]), truth[1, 1])
    grey = Pairs().colored("grey").load(root)
    assert grey.channels == 1
    assert grey.fingerprint != images.fingerprint


def test_numbers_of_photographs_are_no_crops(root: Path) -> None:
    for place in range(4):
        pair(root, f"IMG_{place:04}_noisy.png", f"IMG_{place:04}_gt.png", place)
    assert len(set(Pairs().load(root).scenes)) == 4


def test_ordinary_folders_are_no_pairs(root: Path) -> None:
    for name in ("real_madrid.png", "town/meanwhile.png", "town/a.png"):
        (root / name).parent.mkdir(exist_ok=True)
        save(root / name, clean(0))
    assert not Pairs().recognises(root)


def test_words_alone_make_no_pair_of_different_names(root: Path) -> None:
    for name in ("holiday_raw.png", "beach_raw.png", "cat_original.png"):
        save(root / name, clean(0))
    assert not Pairs().recognises(root)


def test_raw_files_beside_pictures_are_no_pairs(root: Path) -> None:
    for name in ("raw", "original"):
        (root / name).mkdir()
    (root / "raw/IMG_1.NEF").write_bytes(b"II*\0")
    save(root / "original/IMG_1.png", clean(0))
    assert not Pairs().recognises(root)


def test_pictures_beside_the_two_folders_are_counted(root: Path) -> None:
    siblings(root, 0)
    for name in ("ours/0000.png", "more/0001.png"):
        (root / name).parent.mkdir()
        save(root / name, clean(0))
    images = Pairs().load(root)
    check(images, 1)
    assert "left out: 2 pictures that are called neither noisy nor clean, first more/0001.png" in images.notes


# --- what is refused


def test_an_orphan_is_named_or_left_out(root: Path) -> None:
    for place in range(3):
        siblings(root, place)
    (root / "clean/0001.png").unlink()
    with pytest.raises(BenchboxError, match=r"noisy/0001\.PNG has no partner") as caught:
        Pairs().load(root)
    assert "--skip-bad; if these are not pairs, use --dataset images" in caught.value.hint
    images = Pairs().load(root, skip_bad=True)
    check(images, 2)
    assert images.notes[0] == "skipped: 1 picture without a partner that can be used"


def test_two_truths_are_named(root: Path) -> None:
    siblings(root, 0)
    save(root / "clean/0000.bmp", clean(1))
    with pytest.raises(BenchboxError, match=r"0000\.PNG has 2 clean pictures: clean/0000\.bmp and clean/0000\.png"):
        Pairs().load(root)


def test_sizes_that_differ_are_named(root: Path) -> None:
    for place in range(2):
        siblings(root, place)
    save(root / "noisy/0001.PNG", noisy(clean(1))[:40])
    with pytest.raises(BenchboxError, match=r"0001\.PNG has 40 x 48 pixels, but its clean picture clean/0001\.png has"):
        Pairs().load(root)
    check(Pairs().load(root, skip_bad=True), 1)
    save(root / "noisy/0001.PNG", np.ascontiguousarray(noisy(clean(1))[:40].swapaxes(0, 1)))
    save(root / "clean/0001.png", clean(1)[:40])
    with pytest.raises(BenchboxError, match="has 48 x 40 pixels, but its clean picture") as caught:
        Pairs().load(root)
    assert caught.value.hint.startswith("turn one of them (an EXIF orientation is ignored), or leave")


def test_swapped_folders_are_refused(root: Path) -> None:
    for place in range(3):
        pair(root, f"clean/{place}.png", f"noisy/{place}.png", place)
    with pytest.raises(BenchboxError, match="called clean have more noise than those called noisy") as caught:
        Pairs().load(root)
    swapped = f"if they are swapped, give --noisy {root}/clean --clean {root}/noisy"
    assert caught.value.hint == f"{swapped}, or else the other way round"
    check(Pairs(clean=root / "noisy").load(root / "clean"), 3)


def test_several_noisy_folders_need_a_choice(root: Path) -> None:
    pair(root, "noisy15/a.png", "gt/a.png", 0)
    pair(root, "noisy25/a.png", "gt/a.png", 0)
    with pytest.raises(BenchboxError, match="several noisy folders: noisy15, noisy25") as caught:
        Pairs().load(root)
    assert caught.value.hint == f"name two with --noisy {root}/noisy15 --clean {root}/gt"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--noise", "gaussian:0.1"], "the noise of these images was recorded", "omit --noise, or give only the clean"),
        (["--sigma", "given"], "the level of recorded noise is not known", "use --sigma estimated or none"),
        (["--clip"], "--clip: the noise of these images was recorded", "omit --clip"),
        (["--repeats", "2"], "--repeats: the noise of these images was recorded", "omit --repeats"),
        (["--sigma-error", "0.5,1"], "--sigma-error: the noise of these images was recorded", "omit --sigma-error"),
    ],
)
def test_options_of_drawn_noise_are_refused(
    words: list[str], message: str, hint: str, root: Path, benchbox: Command
) -> None:
    siblings(root, 0)
    result = benchbox("run", "median", "--data", "set", *words, code=2)
    assert message in result.stderr
    assert f"hint: {hint}" in result.stderr


def test_recorded_noise_needs_pairs(benchbox: Command) -> None:
    result = benchbox("run", "median", "--noise", "recorded", code=2)
    assert "--noise recorded: the images of sample are clean" in result.stderr
    result = benchbox("run", "median", "--noisy", "set", code=2)
    assert "give --noisy FOLDER --clean FOLDER, without --data" in result.stderr
    result = benchbox("run", "median", "--noisy", "a", "--clean", "b", "--dataset", "images", code=2)
    assert "--noisy and --clean are pairs, not 'images'" in result.stderr


# --- a run


def test_noisy_pictures_that_are_taken_for_clean_ones_are_pointed_out(root: Path, benchbox: Command) -> None:
    for place in range(2):
        pair(root, f"noisy50/{place}.png", f"truth/{place}.png", place)
    words = ("run", "identity", "--no-timing", "--previews", "0", "--verbose")
    for folder in ("set", "set/noisy50"):
        shown = benchbox(*words, "--data", folder).stdout
        assert "the pictures of 'noisy50' are taken for clean ones; if they are noisy, give --noise recorded" in shown
    for other in (["set/truth"], ["set/noisy50", "--noise", "recorded"]):
        assert "taken for clean ones" not in benchbox(*words, "--data", *other).stdout


@pytest.mark.slow
def test_a_run_on_pairs(root: Path, benchbox: Command, tmp_path: Path) -> None:
    for place in range(7):
        siblings(root, place)
    words = ["--metric", "mse", "--no-timing", "--format", "json"]
    result = benchbox("run", "identity", "gaussian_blur", "nl_means", "--data", "set", *words)
    board = json.loads(result.stdout)
    assert board["header"]["protocol"] == "noise as recorded, sigma estimated"
    (block,) = board["blocks"]
    assert (block["noise"], block["oracle_wiener"]) == ("recorded", None)
    rows = {row["denoiser"]: row for row in block["rows"]}
    assert rows["identity"]["scores"]["mse"]["mean"] == pytest.approx((LEVEL / 255) ** 2, rel=0.1)
    assert {name: row["noise_level"] for name, row in rows.items()} == {
        "identity": "blind",
        "gaussian_blur": "estimated",
        "nl_means": "estimated",
    }
    again = benchbox("run", "identity", "--noisy", "set/noisy", "--clean", "set/clean", *words, "--previews", "0")
    row = json.loads(again.stdout)["blocks"][0]["rows"][0]
    assert row["scores"]["mse"]["mean"] == rows["identity"]["scores"]["mse"]["mean"]
    assert "identical" in benchbox("replay", "latest").stdout


@pytest.mark.slow
def test_scenes_are_the_unit_of_a_run(root: Path, benchbox: Command, tmp_path: Path) -> None:
    lines = ["noisy,clean,scene"]
    for place in range(14):
        pair(root, f"a/{place}.png", f"b/{place}.png", place)
        lines.append(f"a/{place}.png,b/{place}.png,s{place // 2}")
    (root / "pairs.csv").write_text("\n".join(lines))
    words = ["identity", "gaussian_blur", "--data", "set/pairs.csv", "--metric", "psnr", "--no-timing"]
    text = benchbox("run", *words, "-v").stdout
    assert "data     pairs, 14 images of 7 scenes, which intervals and tests count, 48x48 RGB" in text
    assert "(14 images of 7 scenes, tested by scene, family-wise error 5 %)" in text
    board = json.loads(benchbox("leaderboard", "latest", "--format", "json").stdout)
    (store,) = (tmp_path / "results").iterdir()
    (row,) = [row for row in board["blocks"][0]["rows"] if row["denoiser"] == "identity"]
    run = RunStore.open(store)
    assert run.images()["scene"].tolist() == [f"s{place // 2}" for place in range(14)]
    (cell,) = [cell for cell in run.record.cells if cell.denoiser == "identity"]
    scores = run.scores(cell.key)["psnr"]
    expected = mean_of(scores.reshape(7, 2).mean(axis=1))
    found = row["scores"]["psnr"]
    assert [found["mean"], found["low"], found["high"]] == pytest.approx(
        [expected.mean, expected.low, expected.high], abs=1e-9
    )
    assert found["images"] == 14
    # Four scenes are too few, however many images they have.
    (root / "pairs.csv").write_text("\n".join([lines[0], *(line[:-1] + str(int(line[-1]) % 4) for line in lines[1:])]))
    assert "14 images of 4 scenes are too few (minimum 6)" in benchbox("run", *words).stdout
