"""Cells computed again: identical where nothing changed, and by how much not where something did."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchbox.engine.replay import ScoresReplayed, compare_scores
from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_a_replay_finds_what_is_the_same_and_what_is_not(
    benchbox: Command, plugin: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file = plugin("mine", "return noisy * np.float32(0.9)")
    words = ["--no-timing", "--previews", "0", "--limit", "8", "--repeats", "2", "--sigma-error", "0.5"]
    benchbox("run", "wiener", "mine", "--plugin", file, "--noise", "gaussian:0.1", "--noise", "poisson:30", *words)
    folder = find_run(tmp_path / "results")
    store = RunStore.open(folder)
    before = {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()}
    same = benchbox("replay", folder.name).stdout
    assert "wiener @ gaussian:0.1 given 0.5 sigma: identical, 8 images" in same
    assert same.endswith(f"run {folder.name}: 6 of 6 cells bit-identical\n")
    assert {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()} == before

    # A stored score that is not what is computed, a plugin of another content, a cell that failed.
    wiener, mine, failed = (
        next(cell for cell in store.record.cells if (cell.denoiser, cell.noise) == pair)
        for pair in (("wiener", "gaussian:0.1"), ("mine", "gaussian:0.1"), ("mine", "poisson:30"))
    )
    scores = store.scores(wiener.key)
    scores["psnr"][5] += 0.5
    for shard in (folder / "scores" / wiener.key).iterdir():
        shard.unlink()
    store.write_shard(wiener.key, 0, len(scores["psnr"]), scores)
    file.write_text(file.read_text().replace("0.9", "0.8"))
    store.write_outcome(failed.key, replace(store.outcomes()[failed.key], status="died", reason="gone"))
    shown = json.loads(benchbox("replay", folder.name, "--format", "json", code=1).stdout)
    assert not shown["identical"]
    (warning,) = shown["warnings"]
    assert warning.startswith("'mine' was ")
    cells = {(one["denoiser"], one["noise"], one["sigma_factor"]): one for one in shown["cells"]}
    one = cells["wiener", "gaussian:0.1", 1.0]
    assert one["status"] == "different"
    assert one["scores"]["psnr"] == {
        "images": 8,
        "different": 1,
        "largest": pytest.approx(0.5),
        "mean": pytest.approx(0.5 / 16),
    }
    assert {label for label, found in one["scores"].items() if found["different"]} == {"psnr"}
    changed = cells[mine.denoiser, mine.noise, 1.0]["scores"]
    assert (changed["noisy_mse"]["different"], changed["mse"]["different"]) == (0, 8)
    assert cells["mine", "poisson:30", 1.0]["status"] == "not replayed"
    assert cells["mine", "poisson:30", 1.0]["reason"] == "died: gone"
    assert {one["status"] for key, one in cells.items() if key[2] == 0.5} == {"identical"}

    # One cell alone, in other words than those of the run; then images that are not what they were.
    said = benchbox("replay", folder.name, "--cell", "wiener@gaussian:25.5/255", code=1).stdout
    assert "psnr: 1 of 8 images differ, by at most 0.5 (mean 0.0312)" in said
    assert said.endswith("1 of 2 cells bit-identical\n")
    assert "has no scores to replay" in benchbox("replay", folder.name, "--cell", "mine@poisson:30", code=2).stderr
    assert "did you mean" in benchbox("replay", folder.name, "--cell", "median@gaussian:0.1", code=2).stderr
    record = (folder / "run.json").read_text()
    (folder / "run.json").write_text(record.replace(store.record.data.fingerprint, "0" * 16))
    assert "have changed since run" in benchbox("replay", folder.name, code=2).stderr


def test_scores_are_compared_bit_by_bit() -> None:
    images = np.array([0, 0, 1, 1, 2], dtype=np.int32)
    before = np.array([1.0, np.nan, np.inf, 0.0, 2.0])
    assert compare_scores(images, before, before.copy()) == ScoresReplayed(3, 0, 0.0, 0.0)
    after = np.array([1.0, np.nan, np.inf, -0.0, 2.5])
    assert compare_scores(images, before, after) == ScoresReplayed(3, 2, 0.5, 0.1)
    assert compare_scores(images, before, np.array([1.0, 3.0, np.inf, 0.0, 2.0])) == ScoresReplayed(
        3, 1, np.inf, np.inf
    )


@pytest.mark.slow
def test_a_run_on_the_data_of_a_plugin_is_taken_up_with_its_file(benchbox: Command, tmp_path: Path) -> None:
    (tmp_path / "squares.py").write_text(
        "import numpy as np\n"
        "from benchbox import Dataset, ImageSet, hookimpl\n\n\n"
        "class Squares(Dataset):\n"
        "    name, summary = 'squares', 'two grey squares'\n\n"
        "    def recognises(self, path):\n        return False\n\n"
        "    def load(self, path, *, split='', skip_bad=False):\n"
        "        pixels = np.full((2, 16, 16), 0.5, np.float32)\n"
        "        shapes = np.full((2, 2), 16)\n"
        "        return ImageSet(self.name, split, ('a', 'b'), shapes, 'f' * 32, lambda places: pixels[places])\n\n\n"
        "@hookimpl\ndef benchbox_datasets():\n    return [Squares]\n"
    )
    benchbox("run", "identity", "--plugin", "squares.py", "--dataset", "squares", "--no-timing", "--previews", "0")
    folder = find_run(tmp_path / "results")
    for file in (folder / "outcomes").iterdir():
        file.unlink()
    assert "unknown data set" in benchbox("run", "--resume", folder.name, code=2).stderr
    benchbox("run", "--resume", folder.name, "--plugin", "squares.py")
    assert "1 of 1 cells bit-identical" in benchbox("replay", folder.name, "--plugin", "squares.py").stdout
