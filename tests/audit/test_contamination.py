"""What a row has seen of the scored images: by its training card, and by the audit of a run on real files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

from benchbox import notebook
from benchbox.api.denoiser import UNKNOWN, TrainingCard
from benchbox.audit.contamination import training_overlap
from benchbox.builtin.datasets.sample import Sample
from benchbox.records.run import DataRecord, Outcome
from benchbox.report.build import build_leaderboard, cautions_of
from benchbox.store import RunStore, noise_key

Command = Callable[..., CompletedProcess[str]]

DATA = DataRecord("fer2013", "PublicTest", 1000, "48x48", "ab" * 16, source="cd" * 16, fitted="Training")
CARD = TrainingCard("fer2013", "Training", "01" * 16, 900, "gaussian:0.1", 0, 20.0, "benchbox train")
FOLDER = replace(DATA, dataset="images", split="")
SEEN = "it was trained on images that are scored here: "


def outcome(card: TrainingCard | None = CARD, overlap: int | None = None) -> Outcome:
    return Outcome("ok", card=card, images=1000, overlap=overlap)


@pytest.mark.parametrize(
    ("data", "changes", "reason"),
    [
        (DATA, {}, ""),
        (DATA, {"split": "PublicTest"}, SEEN),
        (DATA, {"split": "PublicTest+PrivateTest"}, SEEN),
        (replace(DATA, split="PublicTest+PrivateTest"), {"split": "PrivateTest"}, SEEN),
        (DATA, {"dataset": "ck", "split": "PublicTest"}, ""),
        (DATA, {"fingerprint": DATA.fingerprint}, SEEN),
        (DATA, {"fingerprint": DATA.source}, SEEN),
        (DATA, {"dataset": "images", "split": "", "source": DATA.source}, SEEN),
        (FOLDER, {"dataset": "images", "split": ""}, ""),
        (FOLDER, {"dataset": "images", "split": "", "source": DATA.source}, SEEN),
        (replace(FOLDER, source="", fingerprint="", split=""), {"dataset": "images", "split": "", "source": ""}, ""),
    ],
)
def test_contamination_follows_from_split_and_fingerprints(
    data: DataRecord, changes: dict[str, Any], reason: str
) -> None:
    card = replace(CARD, **changes)
    assert training_overlap(data, outcome(card)) == (reason + card.label if reason else "")


def test_a_card_that_does_not_say_which_folder_counts_as_contamination() -> None:
    card = replace(CARD, dataset="images", split="", fingerprint="")
    assert training_overlap(FOLDER, outcome(card)).startswith("it may have been trained on images that are scored here")


def test_what_was_not_trained_has_seen_nothing() -> None:
    assert training_overlap(FOLDER, outcome(None)) == ""
    assert cautions_of(FOLDER, outcome(None)) == ()


@pytest.mark.parametrize("overlap", [1, 499, 1000])
def test_any_number_of_duplicates_is_contamination(overlap: int) -> None:
    one = outcome(overlap=overlap)
    words = f"{overlap:,} of 1,000 scored images have a duplicate in its training data, fer2013 Training"
    assert training_overlap(DATA, one) == words
    assert cautions_of(DATA, one) == ()


def test_no_duplicate_is_no_contamination() -> None:
    assert training_overlap(DATA, outcome(overlap=0)) == ""
    assert cautions_of(DATA, outcome(overlap=0)) == ()


def test_duplicates_that_were_not_counted_are_said() -> None:
    words = "it is unknown how many scored images have duplicates in its training data (fer2013 Training)"
    assert cautions_of(DATA, outcome()) == (words,)
    assert cautions_of(FOLDER, outcome()) == cautions_of(replace(DATA, split="Training"), outcome()) == ()
    assert cautions_of(DATA, replace(outcome(), status="failed")) == ()
    other = replace(DATA, split="evaluate", fitted="learn")
    assert cautions_of(other, outcome()) == ()
    assert len(cautions_of(other, outcome(replace(CARD, split="learn")))) == 1


def test_weights_of_unknown_training_are_said() -> None:
    words = "its training data are unknown, so it may have seen the scored images"
    assert cautions_of(DATA, outcome(replace(CARD, dataset=UNKNOWN))) == (words,)


@pytest.mark.parametrize(("split", "said"), [("PublicTest", True), ("PrivateTest", False), ("", False)])
def test_weights_that_the_scored_split_chose_are_said(split: str, said: bool) -> None:
    one = outcome(replace(CARD, validated_on=split), overlap=0)
    assert training_overlap(DATA, one) == ""
    words = f"weights chosen on {split}, which is scored here"
    assert cautions_of(DATA, one) == ((words,) if said else ())


PLUGIN = """
import numpy as np
from benchbox import Denoiser, TrainingCard, hookimpl


class Fitted(Denoiser):
    name = "fitted"
    summary = "says that it was trained"

    def __init__(self, *, split: str = "Training", validated_on: str = "") -> None:
        self.split, self.validated_on = split, validated_on

    def denoise(self, noisy, sigma):
        return noisy * np.float32(0.97)

    def card(self):
        return TrainingCard("fer2013", self.split, "0" * 32, 12, "gaussian:0.1", 0, 1.0, "by hand",
                            validated_on=self.validated_on)


@hookimpl
def benchbox_denoisers():
    return [Fitted]
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A csv in which 2 of 7 PublicTest faces agree with a hash of Training and one repeats; a plugin with a card.

    One tile of the sample agrees with a hash by chance, so it stands for a face of Training.
    """
    images = Sample().load(None)
    tiles = np.rint(images.stack(np.arange(1, 26)) * 255).astype(np.uint8)
    place = np.array([images.ids.index("camera/2/152-56")])
    seen = np.rint(images.stack(place)[0] * 255).astype(np.uint8)
    test = np.stack([*tiles[12:16], seen, np.ascontiguousarray(seen[:, ::-1]), tiles[13]])
    rows = [("Training", one) for one in tiles[:12]] + [("PublicTest", one) for one in test]
    lines = [f"0,{' '.join(map(str, one.ravel().tolist()))},{usage}" for usage, one in rows]
    csv = tmp_path / "fer2013.csv"
    csv.write_text("\n".join(["emotion,pixels,Usage", *lines, ""]), encoding="ascii")
    plugin = tmp_path / "fitted.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    return csv, plugin


def run(benchbox: Command, files: tuple[Path, Path], *arguments: str) -> tuple[str, RunStore]:
    csv, plugin = files
    cache = {"BENCHBOX_CACHE_DIR": str(csv.parent / "cache")}
    common = ("--plugin", plugin, "--data", csv, "--no-timing", "--jobs", "1", "--metric", "psnr", "--previews", "0")
    done = benchbox("run", *common, *arguments, "--verbose", COLUMNS="180", **cache)
    folder = Path(re.search(r"results: ([^\s;]+)", done.stderr)[1])  # type: ignore[index]
    return done.stdout, RunStore.open(csv.parent / folder)


@pytest.mark.slow
def test_a_row_that_has_seen_the_images_does_not_choose_those_that_are_shown(
    benchbox: Command, files: tuple[Path, Path]
) -> None:
    contaminated = "fitted:split=PublicTest"
    _, store = run(benchbox, files, "identity", contaminated, "--previews", "4")
    block = build_leaderboard(store).blocks[0]
    assert {row.denoiser: row.rank for row in block.rows} == {"identity": 1, contaminated: None}
    means = {row.denoiser: row.scores["psnr"].mean for row in block.rows}
    assert means[contaminated] > means["identity"]
    chosen = store.previews(noise_key(block.noise))[0]["why"].tolist()
    assert chosen == ["median of identity", "worst of identity", "best of identity", "50 % of identity"]
    assert all(store.previews(cell.key)[0] for cell in store.record.cells)
    _, alone = run(benchbox, files, contaminated, "--previews", "1")
    assert alone.previews(noise_key(block.noise))[0]["why"].tolist() == [f"median of {contaminated}"]


@pytest.mark.slow
def test_a_run_leaves_out_what_a_row_may_have_seen_and_ranks_every_row(
    benchbox: Command, files: tuple[Path, Path]
) -> None:
    rows = ("identity", "fitted", "fitted:split=PublicTest", "fitted:validated_on=PublicTest")
    text, store = run(benchbox, files, *rows)
    flat = " ".join(text.split())
    said = "fer2013 PublicTest, 5 of 7 images, 48x48; 2 left out: probable duplicates of training images"
    assert said in flat
    assert "PublicTest is scored, on which the networks' weights were chosen" in flat
    assert "have a duplicate in" not in flat
    assert "fitted:split=PublicTest: not ranked: it was trained on images that are scored here" in flat
    assert "fitted:validated_on=PublicTest: weights chosen on PublicTest" in flat
    assert (
        "check: not ranked, because they may have seen the scored images in training: fitted:split=PublicTest" in flat
    )
    assert ranked(benchbox, store) == {"identity", "fitted", "fitted:validated_on=PublicTest"}
    overlaps = {cell.denoiser: store.outcomes()[cell.key].overlap for cell in store.record.cells}
    assert overlaps == {
        "identity": None,
        "fitted": 0,
        "fitted:split=PublicTest": None,
        "fitted:validated_on=PublicTest": 0,
    }
    assert store.images()["id"].tolist() == [f"PublicTest/{place:05d}" for place in (0, 1, 2, 3, 6)]

    # The same faces without Training in the file: the same are left out.
    csv, plugin = files
    lines = [line for line in csv.read_text().splitlines() if not line.endswith("Training")]
    alone = csv.with_name("alone.csv")
    alone.write_text("\n".join([*lines, ""]), encoding="ascii")
    again, short = run(benchbox, (alone, plugin), *rows)
    assert said in " ".join(again.split())
    assert short.images()["id"].tolist() == store.images()["id"].tolist()
    assert short.record.data == store.record.data

    text, kept = run(benchbox, files, *rows, "--keep-duplicates")
    flat = " ".join(text.split())
    words = "2 of 7 scored images have a duplicate in its training data, fer2013 Training"
    assert f"fitted, fitted:validated_on=PublicTest: marked ! because {words}" in flat
    assert "fitted:split=PublicTest: marked ! because it was trained on images that are scored here" in flat
    assert ranked(benchbox, kept) == set(rows)
    assert kept.record.options.keep_duplicates
    assert kept.record.data.fingerprint == store.record.data.source
    arguments = ("run", "--resume", kept.record.run_id, "--verbose")
    resumed = benchbox(*arguments, BENCHBOX_CACHE_DIR=str(csv.parent / "cache"), COLUMNS="180").stdout
    assert "fitted:split=PublicTest: marked ! because" in " ".join(resumed.split())


@pytest.mark.slow
def test_python_leaves_duplicates_out_too(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(files[0].parent / "cache"))
    frames = notebook.run(["identity"], data=files[0], previews=2, timing=False, results=files[0].parent / "results")
    assert len(frames.scores) == 5
    assert (frames.store.record.data.source_images, frames.store.record.data.left_out) == (7, 2)
    (cell,) = frames.store.record.cells
    assert len(frames.store.previews(cell.key)[1]["denoised"]) == 2


def ranked(benchbox: Command, store: RunStore) -> set[str]:
    board = json.loads(benchbox("leaderboard", store.record.run_id, "--format", "json").stdout)
    return {row["denoiser"] for row in board["blocks"][0]["rows"] if row["rank"] is not None}
