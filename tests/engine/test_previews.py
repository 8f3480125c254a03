"""Pictures of a run: which images they show, that they are what was scored, and that nothing else changes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_records import metric

from benchbox.engine.events import Event, StageStarted
from benchbox.engine.previews import choose_images, most_changed
from benchbox.engine.run import execute
from benchbox.engine.shard import PICTURE_SIDE, crop_corner
from benchbox.records.options import RunOptions
from benchbox.report.build import build_leaderboard
from benchbox.report.html.page import write_html
from benchbox.report.show import draw_grid, read_shown
from benchbox.store import RunStore, class_columns, find_run, noise_key

Command = Callable[..., subprocess.CompletedProcess[str]]
ASKED = ("identity", "median", "wiener", "--noise", "gaussian:0.1", "--noise", "poisson:30", "--no-timing", "--limit=9")


def test_images_are_chosen_by_the_scores_of_the_leaders() -> None:
    leader = np.array([30.0, 21.0, 25.0, 28.0, 22.0, 26.0, 24.0])
    second = leader - np.array([1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 1.0])
    last = np.full(7, 10.0)
    chosen = choose_images({"c": last, "a": leader, "b": second}, 4, higher_is_better=True)
    assert chosen == ((2, "median of a"), (1, "worst of a"), (0, "best of a"), (5, "a and b differ most"))
    mirrored = choose_images({"c": -last, "a": -leader, "b": -second}, 4, higher_is_better=False)
    assert mirrored == chosen


def test_images_are_never_chosen_twice_and_never_more_than_there_are() -> None:
    scores = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([0.0, 2.0, 3.0])}
    assert sorted(index for index, _ in choose_images(scores, 9, higher_is_better=True)) == [0, 1, 2]
    assert len(choose_images({"a": np.arange(50.0)}, 9, higher_is_better=True)) == 9
    assert choose_images(scores, 0, higher_is_better=True) == ()
    assert choose_images({}, 4, higher_is_better=True) == ()


def test_an_image_without_a_finite_score_is_not_chosen() -> None:
    scores = {"a": np.array([np.inf, 2.0, 3.0, 4.0]), "b": np.array([1.0, 1.0, np.nan, 1.0])}
    assert sorted(index for index, _ in choose_images(scores, 4, higher_is_better=True)) == [1, 3]
    nothing = {"a": np.array([np.inf, 1.0]), "b": np.array([1.0, np.inf])}
    assert [index for index, _ in choose_images(nothing, 4, higher_is_better=True)] == [0, 1]


def test_images_whose_class_changes_in_most_rows_are_chosen_too() -> None:
    first = {"image": np.arange(5).repeat(2), "repeat": np.tile((0, 1), 5)}
    clean = np.array([0, 1, 2, 0, 1])

    def row(denoised: list[int]) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
        columns = zip(class_columns("kept"), (clean, np.array(denoised)), strict=True)
        # Of the second repeat, every class is another one.
        return first | {
            name: np.stack((values, values + place), 1).ravel() for place, (name, values) in enumerate(columns)
        }

    rows = [row([0, 1, 2, 1, 2]), row([0, 0, 2, 1, 1]), row([0, 0, 2, 1, 1])]
    asked = metric("kept")
    assert most_changed(rows, asked, [], 2) == {3: "KEPT: changed in 3 of 3 rows", 1: "KEPT: changed in 2 of 3 rows"}
    assert [*most_changed(rows, asked, [3], 9)] == [1, 4]
    assert (
        most_changed(rows, asked, [], 0) == most_changed([first], asked, [], 2) == most_changed([], asked, [], 2) == {}
    )


def test_a_crop_shows_detail_and_not_the_sky_in_the_centre() -> None:
    photograph = np.full((300, 500), 0.5, dtype=np.float32)
    photograph[200:290, 20:110] = np.random.default_rng(0).random((90, 90), dtype=np.float32)
    top, left = crop_corner(photograph)
    assert 194 <= top <= 200
    assert 14 <= left <= 20
    assert crop_corner(photograph[:50, :40]) == (0, 0)
    assert crop_corner(photograph[:PICTURE_SIDE]) == (0, 0)
    assert crop_corner(photograph[190:250])[0] == 0
    assert 14 <= crop_corner(photograph[190:250])[1] <= 20


def mse(store: RunStore, noise: str, key: str) -> dict[int, float]:
    inputs, pictures = store.previews(noise_key(noise))
    denoised = store.previews(key)[1]["denoised"]
    pairs = zip(pictures["clean"], denoised, strict=True)
    return {
        int(image): float(np.square(one - other).mean())
        for image, (one, other) in zip(inputs["image"], pairs, strict=True)
    }


@pytest.mark.slow
def test_pictures_have_the_stored_scores(benchbox: Command, tmp_path: Path) -> None:
    benchbox("run", *ASKED)
    store = RunStore.open(find_run(tmp_path / "results"))
    for cell in store.record.cells:
        scored = store.scores(cell.key)["mse"]
        shown = mse(store, cell.noise, cell.key)
        assert len(shown) == 4
        for image, value in shown.items():
            # Half precision keeps eleven bits of a pixel.
            assert value == pytest.approx(float(scored[image]), rel=2e-3)
    noisy = store.previews(noise_key("gaussian:0.1"))
    first = store.scores(store.record.cells[0].key)["noisy_mse"]
    for image, one, other in zip(noisy[0]["image"], noisy[1]["noisy"], noisy[1]["clean"], strict=True):
        assert float(np.square(one - other).mean()) == pytest.approx(float(first[image]), rel=5e-3)


@pytest.mark.slow
def test_resume_makes_the_missing_pictures_and_no_others(benchbox: Command, tmp_path: Path) -> None:
    benchbox("run", *ASKED, "--repeats", "2", "--previews", "2")
    run = find_run(tmp_path / "results")
    files = {file: file.read_bytes() for file in (run / "previews").iterdir()}
    assert len(files) == 8
    gone = sorted(files)[::3]
    times = {file: file.stat().st_mtime_ns for file in files if file not in gone}
    for file in gone:
        file.unlink()
    result = benchbox("run", "--resume", run)
    assert "set aside" not in result.stderr
    assert {file: file.read_bytes() for file in (run / "previews").iterdir()} == files
    assert times == {file: file.stat().st_mtime_ns for file in times}
    assert RunStore.open(run).previews(noise_key("poisson:30"))[0]["repeat"].tolist() == [0, 1, 0, 1]


@pytest.mark.slow
def test_a_denoiser_that_fails_on_the_second_look_fails_no_run(
    benchbox: Command, plugin: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file = plugin("moody", "if len(noisy) < 9:\n    raise ValueError('too few')\nreturn noisy")
    benchbox("run", "moody", "identity", "--plugin", file, "--limit", "9", "--no-timing")
    store = RunStore.open(find_run(tmp_path / "results"))
    assert all(store.previews(cell.key)[0] for cell in store.record.cells)  # of the images that were scored
    for cell in store.record.cells:
        (store.folder / "previews" / f"{cell.key}.parquet").unlink()
    benchbox("run", "--resume", store.folder)
    kept = {cell.denoiser: bool(store.previews(cell.key)[0]) for cell in store.record.cells}
    assert kept == {"moody": False, "identity": True}
    assert "too few" in store.log_file("moody", "previews").read_text(encoding="utf-8")


@pytest.mark.slow
def test_large_images_of_several_sizes_are_cut(benchbox: Command, tmp_path: Path) -> None:
    import cv2

    (tmp_path / "photographs").mkdir()
    for number, shape in enumerate([(120, 40), (200, 300), (64, 64)]):
        picture = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
        if number == 1:
            picture[:, :190] //= 4  # as noisy as the rest, but darker
        cv2.imwrite(str(tmp_path / "photographs" / f"{number}.png"), picture)
    benchbox("run", "identity", "--data", tmp_path / "photographs", "--no-timing")
    store = RunStore.open(find_run(tmp_path / "results"))
    columns, pictures = store.previews(noise_key("gaussian:0.1"))
    shapes = {int(image): one.shape for image, one in zip(columns["image"], pictures["clean"], strict=True)}
    assert shapes == {0: (PICTURE_SIDE, 40), 1: (PICTURE_SIDE, PICTURE_SIDE), 2: (64, 64)}
    whole = cv2.imread(str(tmp_path / "photographs" / "1.png"), cv2.IMREAD_GRAYSCALE)
    assert whole is not None
    place = columns["image"].tolist().index(1)
    top, left = int(columns["top"][place]), int(columns["left"][place])
    assert (top, left) == crop_corner(whole.astype(np.float32) / 255)
    assert left >= 190
    np.testing.assert_allclose(
        pictures["clean"][place], whole[top : top + PICTURE_SIDE, left : left + PICTURE_SIDE] / 255, atol=5e-4
    )
    (cell,) = store.record.cells
    for noisy, unchanged in zip(pictures["noisy"], store.previews(cell.key)[1]["denoised"], strict=True):
        np.testing.assert_array_equal(np.clip(noisy, 0, 1), unchanged)
    board = build_leaderboard(store)
    page = write_html(store, board).read_text(encoding="utf-8")
    words = "Large images are cropped to where they have most detail; their scores cover the whole image."
    assert page.count(words) == 1
    assert "Based on the stored pictures of only 3 images" in page
    assert "Large images are cropped to where they have most detail; the leaderboard scores the whole image." in page
    assert words in benchbox("show").stdout
    assert words in draw_grid(read_shown(store, board, "", "")).texts[0].get_text().replace("\n", " ")


@pytest.mark.slow
@pytest.mark.parametrize("save_images", [False, True])
def test_large_images_are_not_denoised_again(
    save_images: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = np.random.default_rng(0).random((3, 150, 200), dtype=np.float32)
    np.save(tmp_path / "photographs.npy", photographs)
    pictures = {}
    for name, most in (("again", 0), ("kept", 2 * 3 * (150 * 200 if save_images else PICTURE_SIDE**2))):
        monkeypatch.setattr("benchbox.engine.scoring.MOST_KEPT_PIXELS", most)
        said: list[Event] = []
        results = str(tmp_path / name)
        options = RunOptions(
            denoisers=("identity", "wiener"), data=str(tmp_path / "photographs.npy"), results=results, timing=False
        )
        store = execute(replace(options, save_images=save_images), said.append)
        stages = [event.name for event in said if isinstance(event, StageStarted)]
        assert ("making pictures for the report" in stages) == (name == "again")
        pictures[name] = [np.asarray(store.previews(cell.key)[1]["denoised"]) for cell in store.record.cells]
    np.testing.assert_allclose(pictures["kept"], pictures["again"], atol=5e-4)
    assert np.shape(pictures["kept"]) == (2, 3, PICTURE_SIDE, PICTURE_SIDE)
