"""The folder of a training: resumed, left alone if it has other files, and its curves and faces read back."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchbox import BenchboxError
from benchbox.training import BatchDone, EpochDone, Event, TrainConfig, TrainResult, train
from benchbox.training.checkpoint import curves, faces


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


ORANGE = (0xD5, 0x5E, 0x00)


def epochs(losses: list[float]) -> list[EpochDone]:
    return [
        EpochDone(
            number, 100, 1e-3, loss, 0.5, loss, -10 * np.log10(loss), 0.5, 50.0, 1.0, loss <= min(losses[:number])
        )
        for number, loss in enumerate(losses, start=1)
    ]


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def where(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[int, int]:
    """First and last row that show a colour outside of the legend."""
    seen = (picture == colour).all(axis=2)
    seen[:100, 600:] = False
    rows = np.nonzero(seen)[0]
    return int(rows.min()), int(rows.max())


@pytest.mark.parametrize("count", [1, 2, 40])
def test_curves_of_any_length_are_drawn(count: int) -> None:
    picture = pixels(curves(epochs([0.01 * 0.9**k for k in range(count)])))
    assert picture.shape == (720, 900, 3)


def test_losses_fall_in_the_upper_half_and_fill_it() -> None:
    picture = pixels(curves(epochs([0.01 * 0.8**k for k in range(30)])))
    top, bottom = where(picture, ORANGE)
    assert top < 60
    assert 280 < bottom < 360


def test_faces_are_three_rows_of_tiles() -> None:
    generator = np.random.default_rng(0)
    clean, noisy, denoised = generator.random((3, 4, 10, 12)).astype(np.float32)
    noisy += 0.5
    picture = pixels(faces(clean, noisy, denoised, scale=2))[..., 0]
    assert picture.shape == (2 * (3 * 12 + 2), 2 * (4 * 14 + 2))
    for row, stack in enumerate((clean, noisy, denoised)):
        for column, image in enumerate(stack):
            top, left = 2 * (2 + 12 * row), 2 * (2 + 14 * column)
            tile = picture[top : top + 20 : 2, left : left + 24 : 2]
            np.testing.assert_array_equal(tile, np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))
