"""A training that is resumed, and files that are left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchbox import BenchboxError
from benchbox.training import (
    BatchDone,
    EpochDone,
    Event,
    TrainConfig,
    TrainResult,
    train,
)


def quiet(event: Event) -> None:
    pass


def factor(result: TrainResult) -> float:
    return float(np.load(result.weights))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["default", "once"])
def test_a_resumed_training_ends_where_an_unbroken_one_does(config: TrainConfig, tmp_path: Path, recipe: str) -> None:
    whole = train(replace(config, recipe=recipe), quiet)

    class Killed(Exception):
        pass

    def killer(event: Event) -> None:
        if isinstance(event, BatchDone) and event.epoch == 3:
            raise Killed

    broken = replace(config, recipe=recipe, out=tmp_path / "broken")
    with pytest.raises(Killed):
        train(broken, killer)
    resumed = train(replace(broken, resume=True), quiet)
    assert factor(resumed) == factor(whole)
    assert [row.loss for row in resumed.history] == [row.loss for row in whole.history]
    assert [row.val_loss for row in resumed.history] == [row.val_loss for row in whole.history]


@pytest.mark.slow
def test_resuming_another_training_is_refused(config: TrainConfig) -> None:
    train(config, quiet)
    with pytest.raises(BenchboxError, match="seed 3, not 4"):
        train(replace(config, resume=True, seed=4), quiet)
    with pytest.raises(BenchboxError, match="already contains a training"):
        train(config, quiet)


@pytest.mark.slow
def test_what_a_killed_training_left_half_written_is_cleared_away(config: TrainConfig) -> None:
    train(config, quiet)
    (config.out / ".weights-abc").mkdir()
    (config.out / ".weights-abc" / "weights.npy").touch()
    train(replace(config, resume=True, epochs=4), quiet)
    assert not list(config.out.glob(".weights-*"))


@pytest.mark.slow
def test_two_trainings_never_share_a_folder(config: TrainConfig) -> None:
    def second(event: Event) -> None:
        if isinstance(event, EpochDone) and event.epoch == 1:
            with pytest.raises(BenchboxError, match="another training is running"):
                train(replace(config, resume=True), quiet)

    assert len(train(config, second).history) == 3


def test_resuming_nothing_is_refused(config: TrainConfig) -> None:
    with pytest.raises(BenchboxError, match="no training to resume"):
        train(replace(config, resume=True), quiet)


@pytest.mark.slow
@pytest.mark.parametrize("facts", [None, "{}", "[1]", "{", '{"identity": [], "fingerprint": ""}'])
def test_a_damaged_state_is_refused(config: TrainConfig, facts: str | None) -> None:
    train(config, quiet)
    state = config.out / "state.npz"
    if facts is None:
        state.write_bytes(state.read_bytes()[:200])
    else:
        np.savez(state, facts=np.frombuffer(facts.encode(), np.uint8))
    with pytest.raises(BenchboxError, match=r"training state .*state\.npz is damaged: ") as caught:
        train(replace(config, resume=True), quiet)
    assert "choose another --output" in caught.value.hint


@pytest.mark.parametrize("name", ["weights.npz", "weights.json", "history.csv", "curves.png"])
def test_files_that_a_training_would_overwrite_are_left_alone(config: TrainConfig, name: str) -> None:
    config.out.mkdir()
    (config.out / name).write_text("mine", encoding="ascii")
    with pytest.raises(BenchboxError, match=f"training would overwrite {name}") as caught:
        train(config, quiet)
    assert "--output" in caught.value.hint
    assert (config.out / name).read_text(encoding="ascii") == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_how_to_go_on(config: TrainConfig, tmp_path: Path, number: signal.Signals) -> None:
    benchbox = str(Path(sys.executable).with_name("benchbox"))
    command = [
        benchbox,
        "train",
        "shrink",
        "--plugin",
        str(config.plugin_files[0]),
        "--output",
        "mine",
        "--epochs",
        "9999",
    ]
    with subprocess.Popen([*command, "--patience", "9999"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "epoch 2" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "interrupted; finished work is kept" in said
    typed = said.split("Continue with: ")[1].strip()
    assert typed.endswith("--output mine --epochs 9999 --patience 9999 --resume")
    epochs = (tmp_path / "mine" / "history.csv").read_text(encoding="utf-8").count("\n") - 1
    resumed = [*command[:-1], str(epochs + 1), "--resume"]
    assert subprocess.run(resumed, cwd=tmp_path, check=False).returncode == 0
