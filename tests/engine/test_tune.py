"""The search over options: it finds the best setting and keeps to its budget."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchbox import BenchboxError
from benchbox.cli.train import tune as command
from benchbox.engine.events import Event
from benchbox.engine.tune import Budget, Pace, Trial, TuneConfig, make_candidates, parse_space, search, tune
from benchbox.records.run import RunOptions
from benchbox.records.tuned import TunedOptions
from benchbox.registry import load_registry
from benchbox.store import RunStore

pytestmark = pytest.mark.process

FRAGILE = """
import os
from benchbox import Capabilities, Denoiser, hookimpl

class Fragile(Denoiser):
    name = "fragile"
    summary = "moves every pixel by a shift and fails at some"
    capabilities = Capabilities()

    def __init__(self, *, shift: float = 0.3) -> None:
        self.shift = shift

    def denoise(self, noisy, sigma):
        if self.shift == 0.1:
            raise RuntimeError("not this one")
        return noisy + self.shift


@hookimpl
def benchbox_denoisers():
    return [Fragile]
"""


def quiet(event: Event) -> None:
    pass


def asked(tmp_path: Path, **options: Any) -> RunOptions:
    return RunOptions(**{"metrics": ("psnr",), "results": str(tmp_path / "results")} | options)


class Rounds:
    """Scores candidates by a table and counts the time that it would take: a second for a hundred images."""

    def __init__(self, truth: dict[str, float], failing: Sequence[str] = (), start_s: float = 0.0) -> None:
        self.truth = truth
        self.failing = failing
        self.pace = Pace(start_s, 0.01)
        self.seconds = 0.0
        self.asked: list[tuple[tuple[str, ...], int]] = []

    def __call__(self, labels: Sequence[str], images: int) -> list[Trial]:
        self.asked.append((tuple(labels), images))
        self.seconds += len(labels) * (self.pace.start_s + images * self.pace.image_s)
        return [
            Trial(label, float("nan"), images, "broken")
            if label in self.failing
            else Trial(label, self.truth[label], images)
            for label in labels
        ]

    def search(self, budget_s: float, told: Pace | None = None, total: int = 900) -> list[Trial]:
        """Search with a budget; `told` is what the probe says, where that is wrong."""
        budget = Budget(budget_s, lambda: self.seconds, 1, lambda labels: told or self.pace)
        return search(list(self.truth), total, self, True, budget)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [(len(labels), images) for labels, images in self.asked]


TRUTH = {f"c{index}": float(-abs(index - 11)) for index in range(27)}


def test_without_a_budget_the_whole_grid_is_scored_once() -> None:
    rounds = Rounds(TRUTH)
    trials = search(list(TRUTH), 900, rounds, True, None)
    assert rounds.asked == [(tuple(TRUTH), 900)]
    assert trials[0] == Trial("c11", 0.0, 900)
    assert [trial.score for trial in trials] == sorted(TRUTH.values(), reverse=True)


def test_lower_may_be_better() -> None:
    assert search(list(TRUTH), 900, Rounds(TRUTH), False, None)[0].label == "c26"


def test_a_short_budget_halves() -> None:
    """The grid would take 243 s; each round takes a third of what is left, and keeps a third and the start."""
    rounds = Rounds(TRUTH)
    trials = rounds.search(110.0)
    assert rounds.sizes == [(27, 135), (10, 245), (5, 900)]
    assert trials[0] == Trial("c11", 0.0, 900)
    assert all("c0" in labels for labels, _ in rounds.asked)
    assert sorted(trial.label for trial in trials) == sorted(TRUTH)
    assert rounds.seconds <= 110


def test_a_budget_that_allows_it_takes_all_to_the_end() -> None:
    rounds = Rounds(TRUTH)
    rounds.search(244.0)
    assert rounds.sizes == [(27, 900)]


@pytest.mark.parametrize("start_s", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("budget_s", [1.0, 5.0, 15.0, 40.0, 100.0, 200.0])
def test_a_budget_is_kept(budget_s: float, start_s: float) -> None:
    """All but the first image of each candidate, without which there is no ranking."""
    rounds = Rounds(TRUTH, start_s=start_s)
    trials = rounds.search(budget_s)
    assert rounds.seconds <= max(budget_s, 27 * (start_s + 0.01))
    assert {trial.label for trial in trials if trial.images == rounds.asked[-1][1]} == set(rounds.asked[-1][0])
    assert trials[0].label == "c11"
    assert sorted(trial.label for trial in trials) == sorted(TRUTH)


def test_a_spent_budget_ends_with_the_round_just_done() -> None:
    """The probe met images that were four times as fast."""
    rounds = Rounds(TRUTH)
    trials = rounds.search(30.0, Pace(0.0, 0.0025))
    assert rounds.sizes == [(27, 148)]
    assert {trial.images for trial in trials} == {148}
    assert trials[0].label == "c11"


@pytest.mark.parametrize("told", [Pace(0.0, 0.01), Pace(0.5, 0.01), Pace(1.0, 0.01), Pace(2.0, 0.01), Pace(0.5, 0.007)])
@pytest.mark.parametrize("budget_s", [40.0, 100.0, 230.0, 400.0, 1000.0])
def test_a_wrong_probe_is_corrected(budget_s: float, told: Pace) -> None:
    """A round may start faster than the probe did; its images must not count as free for that."""
    rounds = Rounds(TRUTH, start_s=0.5)
    rounds.search(budget_s, told, total=10**6)
    assert rounds.seconds < 1.5 * budget_s


def test_nobody_is_dropped_where_a_part_of_the_time_would_hardly_start_them() -> None:
    rounds = Rounds(TRUTH, start_s=1.0)
    rounds.search(90.0)
    assert rounds.sizes == [(27, 233)]


def test_workers_share_the_candidates() -> None:
    told: list[Sequence[str]] = []

    def probe(labels: Sequence[str]) -> Pace:
        told.append(labels)
        return Pace(0.0, 0.01)

    rounds = Rounds(TRUTH)
    search(list(TRUTH), 900, rounds, True, Budget(18.0, lambda: 0.0, 14, probe))
    assert rounds.sizes == [(27, 900)]
    assert told == [list(TRUTH)]


def test_failures_come_last_and_are_not_asked_again() -> None:
    rounds = Rounds(TRUTH, failing=["c11", "c0"])
    trials = rounds.search(30.0)
    assert trials[0].label in {"c10", "c12"}
    assert {trial.label for trial in trials if trial.reason} == {"c11", "c0"}
    assert all("c11" not in labels for labels, _ in rounds.asked[1:])
    assert len(rounds.asked) > 1
    assert len(trials) == len(TRUTH)


def test_when_all_fail_the_search_ends() -> None:
    rounds = Rounds(TRUTH, failing=list(TRUTH))
    assert all(trial.reason for trial in rounds.search(30.0))
    assert len(rounds.asked) == 1


def test_candidates_are_all_combinations_and_the_start() -> None:
    found = make_candidates("median", (("size", ("3", "5")), ("passes", ("1", "2"))), load_registry())
    assert list(found) == [
        "median",
        "median:size=3",
        "median:size=3,passes=2",
        "median:size=5",
        "median:size=5,passes=2",
    ]
    assert found["median"] == {}
    assert found["median:size=5,passes=2"] == {"size": "5", "passes": "2"}


def test_fixed_options_stay_and_a_default_in_the_space_is_the_start() -> None:
    found = make_candidates("wiener:strength=1.5", (("window_sigma", ("none", "1/2")),), load_registry())
    assert found == {
        "wiener:strength=1.5": {"strength": "1.5"},
        "wiener:window_sigma=0.5,strength=1.5": {"strength": "1.5", "window_sigma": "0.5"},
    }


@pytest.mark.parametrize(
    ("denoiser", "space", "words"),
    [
        ("median", ("size", ("3", "4")), "size must be odd"),
        ("median", ("sze", ("3",)), "no option 'sze'"),
        ("median", ("size", ("x",)), "size=x is not a whole number"),
        ("median:size=3", ("size", ("5",)), "set twice"),
        ("medan", ("size", ("5",)), "medan"),
    ],
)
def test_a_wrong_space_is_refused_before_anything_runs(
    denoiser: str, space: tuple[str, tuple[str, ...]], words: str
) -> None:
    with pytest.raises(BenchboxError, match=words):
        make_candidates(denoiser, (space,), load_registry())


def test_a_space_is_read() -> None:
    assert parse_space("size=3, 5,7") == ("size", ("3", "5", "7"))
    for text in ("size", "size=", "=3", "size=3,,5", "size=3,3"):
        with pytest.raises(BenchboxError, match="--space"):
            parse_space(text)


@pytest.mark.slow
def test_the_best_setting_of_a_real_search_is_the_best_of_its_run(tmp_path: Path) -> None:
    """The scores are those of a run that anyone can look at again."""
    config = TuneConfig(
        "gaussian_blur",
        (("blur_sigma", ("0.5", "0.8", "1.1", "2.5")),),
        asked(tmp_path, noise=("gaussian:0.05", "gaussian:0.2"), limit=40, jobs=2),
        command="benchbox tune ...",
    )
    result = tune(config, quiet)
    assert result.start == "gaussian_blur"
    assert len(result.trials) == 5
    store = RunStore.open(result.runs[0])
    for trial in result.trials:
        cells = [cell for cell in store.record.cells if cell.denoiser == trial.label]
        assert [cell.noise for cell in cells] == ["gaussian:0.05", "gaussian:0.2"]
        assert trial.score == pytest.approx(np.mean([store.scores(cell.key)["psnr"].mean() for cell in cells]))
    assert result.trials[0].score == max(trial.score for trial in result.trials)
    best = result.best
    assert (best.dataset, best.images, best.candidates, best.run) == ("sample", 40, 5, store.record.run_id)
    assert best.score is not None and best.start_score is not None
    assert best.score >= best.start_score
    assert next(trial.score for trial in result.trials if trial.label == result.start) == best.start_score
    # A single width cannot follow two noise levels, the default does.
    assert best.options == {}


@pytest.mark.slow
def test_a_setting_that_fails_is_a_trial_with_its_reason(tmp_path: Path) -> None:
    plugin = tmp_path / "fragile.py"
    plugin.write_text(FRAGILE, encoding="utf-8")
    config = TuneConfig(
        "fragile",
        (("shift", ("0.1", "0.02")),),
        asked(tmp_path, limit=10, plugins=(str(plugin),)),
    )
    result = tune(config, quiet)
    assert [trial.label for trial in result.trials] == ["fragile:shift=0.02", "fragile", "fragile:shift=0.1"]
    assert "not this one" in result.trials[-1].reason
    assert result.best.options == {"shift": "0.02"}
    nothing = TuneConfig("fragile:shift=0.1", (), config.options)
    with pytest.raises(BenchboxError, match=r"no setting of fragile:shift=0\.1 could be scored: .*not this one"):
        tune(nothing, quiet)


WAITING = """
import time
from benchbox import Denoiser, hookimpl


class Waiting(Denoiser):
    name = "waiting"
    summary = "takes its time"

    def __init__(self, *, k: float = 0.5) -> None:
        self.k = k

    def denoise(self, noisy, sigma):
        time.sleep(0.2 * len(noisy))
        return self.k * noisy


@hookimpl
def benchbox_denoisers():
    return [Waiting]
"""


@pytest.mark.slow
def test_an_expensive_denoiser_keeps_to_the_budget(tmp_path: Path) -> None:
    """All 142 images of three candidates would take 85 s of sleep."""
    plugin = tmp_path / "waiting.py"
    plugin.write_text(WAITING, encoding="utf-8")
    config = TuneConfig(
        "waiting",
        (("k", ("0.2", "0.8")),),
        asked(tmp_path, plugins=(str(plugin),), jobs=2),
        budget_s=10.0,
    )
    found = tune(config, quiet)
    assert found.best.options == {"k": "0.8"}
    # Two workers sleep through 20 s of work in 10 s: 33 images of three candidates, 0.2 s each.
    assert 1 <= found.best.images <= 34
    assert {trial.images for trial in found.trials} == {found.best.images}
    assert f"the budget allowed {found.best.images} of 142 images in the last round" in found.notes
    # What was only timed is no run.
    assert [folder.name for folder in (tmp_path / "results").iterdir()] == [found.runs[0].name]


@pytest.mark.slow
def test_the_training_split_is_the_default(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["emotion,pixels,Usage"]
    for split in ("Training", "PublicTest"):
        lines += [f"0,{' '.join(map(str, rng.integers(0, 256, 2304)))},{split}" for _ in range(4)]
    table = tmp_path / "fer2013.csv"
    table.write_text("\n".join(lines) + "\n", encoding="ascii")
    space = (("size", ("3",)),)
    found = tune(TuneConfig("median", space, asked(tmp_path, data=str(table))), quiet)
    assert found.best.label == "fer2013 Training"
    assert found.best.images == 4
    found = tune(TuneConfig("median", space, asked(tmp_path, data=str(table), split="PublicTest")), quiet)
    assert found.best.label == "fer2013 PublicTest"


@pytest.mark.slow
def test_what_was_found_goes_into_a_run_whose_row_says_where(
    benchbox: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    conditions = ("--noise", "gaussian:0.1", "--limit", "12", "--results", tmp_path / "results")
    out = tmp_path / "best.json"
    said = benchbox("tune", "wiener:strength=1", "--space", "window_sigma=0.5,2", *conditions, "--output", out).stdout
    assert f"try: benchbox run wiener:@{out}" in said
    found = TunedOptions.load(out)
    assert found.options == {"strength": "1", "window_sigma": "2"}
    assert "tuned on" in benchbox("run", "wiener", f"wiener:@{out}", "--no-timing", "-v", *conditions).stdout
    table = benchbox("leaderboard", "--results", tmp_path / "results", "--format", "csv").stdout
    rows = {row["denoiser"]: row for row in csv.DictReader(table.splitlines())}
    assert rows["wiener"]["tuned_on"] == "FER2013 Training + scikit-image photographs"
    tuned = rows["wiener:window_sigma=2,strength=1"]
    assert tuned["tuned_on"] == "sample"
    # The run scores the images that the search scored.
    assert float(tuned["psnr"]) == pytest.approx(found.score, abs=1e-9)


def test_a_file_that_cannot_be_written_is_refused_before_the_search(
    benchbox: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    asked = ("tune", "median", "--space", "size=3", "--limit", "4", "--results", tmp_path / "results", "--output")
    said = benchbox(*asked, "nodir/tuned.json", code=2)
    assert "cannot write nodir/tuned.json: no such folder: nodir" in said.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_what_was_found_is_shown_even_where_it_cannot_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(found: TunedOptions, path: Path) -> None:
        raise BenchboxError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(TunedOptions, "save", full)
    arguments = ["median", "--space", "size=3", "--limit", "4", "--output", str(tmp_path / "tuned.json")]
    said = CliRunner().invoke(command, [*arguments, "--results", str(tmp_path / "results")])
    assert isinstance(said.exception, BenchboxError)
    assert "psnr" in said.stdout
    assert "median:size=3" in said.stdout
    assert "try:" not in said.stdout


@pytest.mark.slow
def test_a_metric_without_any_score_finds_no_best_setting(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "small.png")
    small = asked(tmp_path, data=str(tmp_path / "small.png"), metrics=("ssim",))
    with pytest.raises(BenchboxError, match="no setting of median could be scored: it has no image with a finite ssim"):
        tune(TuneConfig("median", (("size", ("3", "5")),), small), quiet)


@pytest.mark.slow
def test_a_start_without_a_score_is_written_as_null(tmp_path: Path) -> None:
    plugin = tmp_path / "fragile.py"
    plugin.write_text(FRAGILE.replace("shift: float = 0.3", "shift: float = 0.1"), encoding="utf-8")
    config = TuneConfig(
        "fragile",
        (("shift", ("0.02",)),),
        asked(tmp_path, limit=10, plugins=(str(plugin),)),
    )
    best = tune(config, quiet).best
    best.save(tmp_path / "tuned.json")
    assert json.loads((tmp_path / "tuned.json").read_text(), parse_constant=pytest.fail)["start_score"] is None
    assert TunedOptions.load(tmp_path / "tuned.json") == best


@pytest.mark.slow
def test_the_defaults_of_the_command_make_a_file_that_a_run_takes(
    benchbox: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    benchbox("tune", "median", "--space", "size=3,5", "--limit", "12", "-o", "tuned.json")
    tuned = TunedOptions.load(tmp_path / "tuned.json")
    assert (tuned.noises, tuned.protocol.sigma) == (("gaussian:0.1",), "given")
    assert "median" in benchbox("run", "median:@tuned.json", "--no-timing", "--limit", "12").stdout
