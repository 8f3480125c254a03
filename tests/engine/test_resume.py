"""A run that was interrupted goes on: nothing lost, nothing doubled, nothing different."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchbox import BenchboxError
from benchbox.cli.run import Shown, _finish
from benchbox.store import RunStore, find_run, list_runs

Command = Callable[..., subprocess.CompletedProcess[str]]

ASKED = ("identity", "median", "wiener", "--noise", "gaussian:0.1", "--noise", "poisson:30", "--no-timing")


def all_scores(folder: Path) -> dict[tuple[str, str], dict[str, NDArray[Any]]]:
    store = RunStore.open(folder)
    return {(cell.denoiser, cell.noise): store.scores(cell.key) for cell in store.record.cells}


def assert_same(one: Path, other: Path) -> None:
    left, right = all_scores(one), all_scores(other)
    assert left.keys() == right.keys()
    for cell, columns in left.items():
        assert columns["image"].tolist() == list(range(len(columns["image"])))
        assert columns.keys() == right[cell].keys()
        for name, values in columns.items():
            np.testing.assert_array_equal(values, right[cell][name])
    statuses = [
        {(cell.denoiser, cell.noise): store.outcomes()[cell.key] for cell in store.record.cells}
        for store in (RunStore.open(one), RunStore.open(other))
    ]
    assert statuses[0] == statuses[1]


@pytest.fixture
def whole(finished_run: Path) -> Path:
    """A run that nobody interrupted: what `ASKED` asks for."""
    return finished_run


def copy_of(run: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copies" / run.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    return folder


@pytest.mark.slow
def test_what_is_missing_is_computed_and_nothing_else(benchbox: Command, whole: Path, tmp_path: Path) -> None:
    copy = copy_of(whole, tmp_path)
    store = RunStore.open(copy)
    first, second, *_, last = store.record.cells
    shutil.rmtree(copy / "scores" / first.key)
    for cell in (first, second, last):
        (copy / "outcomes" / f"{cell.key}.json").unlink()
    kept = {file: file.stat().st_mtime_ns for file in (copy / "scores").rglob("*.parquet")}
    benchbox("run", "--resume", copy)
    assert_same(copy, whole)
    recomputed = [file for file, before in kept.items() if file.stat().st_mtime_ns != before]
    # A cell whose every score is on disk but whose end is not does one shard again, to learn what the denoiser knew.
    assert {file.parent.name for file in recomputed} == {second.key, last.key}


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(benchbox: Command, whole: Path) -> None:
    before = {file: file.read_bytes() for file in (whole / "scores").rglob("*.parquet")}
    board = benchbox("run", "--resume", whole.name).stdout
    assert {file: file.read_bytes() for file in (whole / "scores").rglob("*.parquet")} == before
    assert board == benchbox("leaderboard", whole.name).stdout


@pytest.mark.slow
def test_a_run_can_be_finished_without_timing(benchbox: Command, tmp_path: Path) -> None:
    benchbox("run", "identity", "median", "--limit", "8")
    copy = find_run(tmp_path / "results")
    store = RunStore.open(copy)
    for file in (copy / "timing").glob("median-*"):
        file.unlink()
    (copy / "outcomes" / f"{store.record.cells[1].key}.json").unlink()
    board = benchbox("run", "--resume", copy, "--no-timing", "--verbose").stdout
    assert "median: no timing: not yet" in board
    assert all(outcome.status == "ok" for outcome in store.outcomes().values())
    assert list(store.timings()) == ["identity"]
    benchbox("run", "--resume", copy)
    assert list(store.timings()) == ["identity", "median"]


@pytest.mark.slow
def test_a_run_without_timing_stays_one(benchbox: Command, whole: Path) -> None:
    error = benchbox("run", "--resume", whole, "--timing", code=2).stderr
    assert "was made with --no-timing" in error
    assert "start it again with the same options" in error


@pytest.mark.slow
def test_torn_and_foreign_files_are_named_and_set_aside(benchbox: Command, whole: Path, tmp_path: Path) -> None:
    copy = copy_of(whole, tmp_path)
    cell = RunStore.open(copy).record.cells[0]
    (torn,) = (copy / "scores" / cell.key).iterdir()
    torn.write_bytes(torn.read_bytes()[:100])
    (copy / "outcomes" / f"{cell.key}.json").unlink()
    (copy / "notes.txt").write_text("mine")
    (copy / "scores" / cell.key / ".x.part").write_text("half")
    stderr = benchbox("run", "--resume", copy).stderr
    for name in (torn.relative_to(copy).as_posix(), "notes.txt", ".x.part"):
        assert name in stderr
    assert (copy / "set-aside" / "notes.txt").read_text() == "mine"
    assert_same(copy, whole)


@pytest.mark.slow
def test_what_is_set_aside_replaces_nothing_and_leaves_no_folder_of_yours(
    benchbox: Command, whole: Path, tmp_path: Path
) -> None:
    """A run's folder that somebody else made: where strangers go may be a link to a folder of yours."""
    copy, mine = copy_of(whole, tmp_path), tmp_path / "mine"
    mine.mkdir()
    (mine / "keys").write_text("dear")
    (copy / "set-aside").symlink_to(mine)
    (copy / "keys").write_text("evil")
    benchbox("run", "--resume", copy)
    assert [(file.name, file.read_text()) for file in mine.iterdir()] == [("keys", "dear")]
    assert (copy / "set-aside").is_dir() and not (copy / "set-aside").is_symlink()
    (copy / "keys").write_text("more of it")
    benchbox("run", "--resume", copy)
    assert [(copy / "set-aside" / name).read_text() for name in ("keys", "keys.2")] == ["evil", "more of it"]
    shutil.rmtree(copy / "set-aside")
    (copy / "set-aside").write_text("no folder")
    benchbox("run", "--resume", copy)
    assert (copy / "set-aside" / "set-aside-found").read_text() == "no folder"


@pytest.mark.slow
def test_scores_that_are_missing_are_computed_again_whatever_the_outcome_says(
    benchbox: Command, whole: Path, tmp_path: Path
) -> None:
    copy = copy_of(whole, tmp_path)
    junk, gone, swapped, more, *_ = (copy / "scores" / cell.key for cell in RunStore.open(copy).record.cells)
    name = next(gone.iterdir()).name
    (junk / name).write_bytes(b"junk")
    (gone / name).unlink()
    shutil.copy(more / name, swapped / name)
    shutil.copy(more / name, more / "00000142-00000284.parquet")
    assert benchbox("leaderboard", copy, code=None).returncode == 2, "another cell's scores went unnoticed"
    (copy / "images.parquet").write_bytes(b"junk")
    stderr = benchbox("run", "--resume", copy).stderr.replace("\n", " ")
    for strange in (junk / name, swapped / name, more / "00000142-00000284.parquet", copy / "images.parquet"):
        assert strange.relative_to(copy).as_posix() in stderr
    assert_same(copy, whole)
    assert (copy / "images.parquet").read_bytes() == (whole / "images.parquet").read_bytes()
    assert "set aside" not in benchbox("run", "--resume", copy).stderr


def test_a_row_without_its_scores_fails_the_run(whole: Path, tmp_path: Path) -> None:
    copy = copy_of(whole, tmp_path)
    store = RunStore.open(copy)
    for folder, code in ((whole, 0), (copy, 1)):
        shutil.rmtree(copy / "scores" / store.record.cells[0].key, ignore_errors=True)
        with pytest.raises(SystemExit) as ended:
            _finish([partial(RunStore.open, folder)], Shown("psnr"))
        assert ended.value.code == code


@pytest.mark.slow
def test_a_merged_run_keeps_its_scores(benchbox: Command, whole: Path, tmp_path: Path) -> None:
    benchbox("run", "gaussian_blur", *ASKED[3:])
    benchbox("merge", whole.name, find_run(tmp_path / "results").name)
    merged = find_run(tmp_path / "results")
    before = all_scores(merged)
    assert "set aside" not in benchbox("run", "--resume", merged.name).stderr
    assert all_scores(merged).keys() == before.keys()
    cell = RunStore.open(merged).record.cells[0]
    shutil.rmtree(merged / "scores" / cell.key)
    benchbox("run", "--resume", merged.name)
    for key, columns in all_scores(merged).items():
        np.testing.assert_array_equal(columns["psnr"], before[key]["psnr"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"), [('"clip": false', '"clip": true'), ('"sigma_factor": 1.0', '"sigma_factor": 2.0')]
)
def test_the_record_must_be_the_one_that_the_cells_were_planned_with(
    before: str, after: str, benchbox: Command, whole: Path, tmp_path: Path
) -> None:
    copy = copy_of(whole, tmp_path)
    shutil.rmtree(copy / "outcomes")
    text = (copy / "run.json").read_text()
    assert before in text
    (copy / "run.json").write_text(text.replace(before, after))
    assert "has changed since run" in benchbox("run", "--resume", copy, code=2).stderr.replace("\n", " ")


@pytest.mark.slow
def test_folders_in_place_of_files_are_set_aside_and_missing_ones_made(
    benchbox: Command, whole: Path, tmp_path: Path
) -> None:
    copy = copy_of(whole, tmp_path)
    cell = RunStore.open(copy).record.cells[0]
    names = (f"outcomes/{cell.key}.json", "leaderboard.md", "images.parquet", "mine")
    for name in names:
        (copy / name).unlink(missing_ok=True)
        (copy / name).mkdir()
        (copy / name / "in it.txt").write_text("mine")
    for name in ("logs", "timing"):
        shutil.rmtree(copy / name)
    (copy / "logs").write_text("no folder")
    (copy / "run.json").rename(tmp_path / "run.json")
    (copy / "run.json").symlink_to(tmp_path / "run.json")
    (copy / "scores" / cell.key / b"\xff.txt".decode("utf-8", "surrogateescape")).write_text("no text")
    stderr = benchbox("run", "--resume", copy).stderr
    assert "\\xff.txt" in stderr
    assert all(name in stderr for name in names)
    assert (copy / "set-aside" / "mine" / "in it.txt").read_text() == "mine"
    assert (copy / "run.json").read_bytes() == (tmp_path / "run.json").read_bytes()
    assert_same(copy, whole)


@pytest.mark.slow
def test_data_and_plugins_must_be_what_they_were(benchbox: Command, tmp_path: Path, plugin: Any) -> None:
    file = plugin("mine", "return noisy")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    import cv2

    cv2.imwrite(str(photographs / "a.png"), np.arange(64 * 64, dtype=np.uint8).reshape(64, 64))
    benchbox("run", "mine", "--plugin", file, "--data", photographs, "--no-timing")
    cv2.imwrite(str(photographs / "a.png"), np.zeros((64, 64), dtype=np.uint8))
    assert (
        "have changed since run" in benchbox("run", "--resume", list_runs(tmp_path / "results")[0].name, code=2).stderr
    )
    file.write_text(file.read_text() + "\n# changed\n")
    refused = benchbox("run", "--resume", list_runs(tmp_path / "results")[0].name, code=2).stderr
    assert "'mine' was" in refused


@pytest.mark.slow
def test_resume_takes_nothing_else(benchbox: Command, whole: Path) -> None:
    assert "omit --seed" in benchbox("run", "--resume", whole.name, "--seed", "1", code=2).stderr


@pytest.mark.slow
def test_only_one_process_works_on_a_run(whole: Path) -> None:
    store = RunStore.open(whole)
    with store.locked(), pytest.raises(BenchboxError, match="another process"), store.locked():
        pass
    with store.locked():
        pass


@pytest.mark.slow
def test_two_runs_at_once_never_mix(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("benchbox")), "run", *ASKED]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    one, other = list_runs(tmp_path / "results")
    assert_same(one, other)


@pytest.mark.slow
def test_thirty_deaths_lose_nothing(process: Command, whole: Path, tmp_path: Path) -> None:
    """Kill a run by SIGKILL at 30 random moments, resume each time, and compare with the run nobody interrupted."""
    draw = random.Random(7)
    results = tmp_path / "killed"
    command = [str(Path(sys.executable).with_name("benchbox")), "run", "--results", str(results)]
    begun = time.monotonic()
    process("run", *ASKED, "--fresh")
    takes_s = time.monotonic() - begun
    torn = 0
    for _ in range(30):
        runs = list_runs(results)
        arguments = ["--resume", runs[0].name] if runs else list(ASKED)
        one = subprocess.Popen(
            [*command, *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not list_runs(results) and one.poll() is None:  # there is nothing to lose before there is a run
            time.sleep(0.01)
        time.sleep(draw.uniform(0.2 * takes_s, 0.8 * takes_s))
        torn += one.poll() is None
        one.send_signal(signal.SIGKILL)
        one.wait()
        runs = list_runs(results)
        if runs and len(RunStore.open(runs[0]).outcomes()) == len(RunStore.open(runs[0]).record.cells):
            # All is done: all but one cell begin anew, so that there is work left to lose.
            for cell in RunStore.open(runs[0]).record.cells[1:]:
                shutil.rmtree(runs[0] / "scores" / cell.key)
                (runs[0] / "outcomes" / f"{cell.key}.json").unlink()
    assert torn >= 10, "many of the runs were still at work when they were killed"
    (killed,) = list_runs(results)
    process("run", "--results", results, "--resume", killed.name)
    assert_same(killed, whole)
