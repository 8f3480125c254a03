"""Files that a denoiser depends on, such as weights, are a part of its identity: scores of two contents never mix."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchbox import BenchboxError
from benchbox.engine.plan import plan_denoisers
from benchbox.records.run import DenoiserRecord
from benchbox.registry import load_registry
from benchbox.store import RunStore, find_run, list_runs

Command = Callable[..., subprocess.CompletedProcess[str]]

PLUGIN = """
from pathlib import Path
import numpy as np
from benchbox import Denoiser, hookimpl
class Gain(Denoiser):
    name = "gain"
    summary = "times a number that a file holds"
    def __init__(self, *, weights: str = "", spoil: bool = False):
        self.weights, self.spoil = weights, spoil
    def files(self):
        return [Path(self.weights)]
    def setup(self, shape):
        if self.spoil:
            Path(self.weights).write_text("0.25")
        self.gain = np.float32(Path(self.weights).read_text())
    def denoise(self, noisy, sigma):
        return noisy * self.gain
@hookimpl
def benchbox_denoisers():
    return [Gain]
"""


@pytest.fixture
def gain(tmp_path: Path) -> tuple[Path, Path]:
    """The plugin and its weights."""
    plugin, weights = tmp_path / "gain.py", tmp_path / "gain.txt"
    plugin.write_text(PLUGIN)
    weights.write_text("0.9")
    return plugin, weights


def planned(text: str, *files: Path) -> DenoiserRecord:
    (record,) = plan_denoisers([text], load_registry(files))
    return record


@pytest.mark.slow
def test_weights_that_change_are_named_and_never_mixed(
    benchbox: Command, gain: tuple[Path, Path], tmp_path: Path
) -> None:
    plugin, weights = gain
    asked = ("run", f"gain:weights={weights}", "identity", "--plugin", plugin, "--no-timing", "--limit", "8")
    benchbox(*asked)
    first = find_run(tmp_path / "results")
    assert "bit-identical" in benchbox("replay", first.name).stdout
    outcomes = sorted((first / "outcomes").iterdir())
    outcomes[0].unlink()
    weights.write_text("0.8")
    refused = benchbox("run", "--resume", first.name, code=2).stderr
    assert f"'gain:weights={weights}' differs from when run {first.name} began" in refused
    assert "weights, have changed" in refused
    weights.write_text("0.9")
    benchbox("run", "--resume", first.name)

    weights.write_text("0.8")
    replayed = benchbox("replay", first.name, code=1).stdout
    assert "weights, have changed" in replayed
    assert "1 of 2 cells bit-identical" in replayed
    benchbox(*asked)
    second = list_runs(tmp_path / "results")[1]
    keys = [{cell.denoiser: cell.key for cell in RunStore.open(run).record.cells} for run in (first, second)]
    assert keys[0]["identity"] == keys[1]["identity"]
    assert keys[0][f"gain:weights={weights}"] != keys[1][f"gain:weights={weights}"]
    compared = benchbox("compare", first.name, second.name).stdout.replace("\n  ", " ")
    assert f"files such as weights changed between the runs: gain:weights={weights}" in compared
    assert "had other files, such as weights" in benchbox("merge", first.name, second.name, code=2).stderr


@pytest.mark.slow
def test_weights_that_change_during_a_run_fail_the_row(
    benchbox: Command, gain: tuple[Path, Path], tmp_path: Path
) -> None:
    plugin, weights = gain
    row = f"gain:weights={weights},spoil=true"
    benchbox("run", row, "identity", "--plugin", plugin, "--no-timing", "--limit", "8", code=1)
    store = RunStore.open(find_run(tmp_path / "results"))
    outcomes = {cell.denoiser: store.outcomes()[cell.key] for cell in store.record.cells}
    assert outcomes["identity"].status == "ok"
    assert outcomes[row].status == "failed"
    assert "(its weights) have changed since the run began" in outcomes[row].reason


@pytest.mark.process
def test_a_file_that_is_not_there_is_said_before_anything_runs(gain: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BenchboxError, match=r"gain: cannot read the files it depends on: FileNotFoundError"):
        planned(f"gain:weights={tmp_path}/nothing", gain[0])
    assert planned("gain", gain[0]).plugin.content == "", "what fails without any option gets a row"


def test_the_bundled_denoisers_name_their_files(tmp_path: Path) -> None:
    for label in ("unet", "unet:weights=mixed", "ffdnet"):
        assert planned(label).plugin.content
    assert planned("unet").plugin.content != planned("unet:weights=mixed").plugin.content
    assert planned("median").plugin.content == ""
    for name, ending in (("keras", "keras"), ("onnx", "onnx"), ("litert", "tflite")):
        model = tmp_path / f"model.{ending}"
        contents = set()
        for text in ("one", "two", "one"):
            model.write_text(text)
            contents.add(planned(f"{name}:path={model}").plugin.content)
        assert len(contents) == 2
    script = tmp_path / "denoise.sh"
    contents = set()
    for text in ("cp $1 $2", "cat $1 > $2"):
        script.write_text(text)
        contents.add(planned(f'command:run="sh {script} {{in}} {{out}}"').plugin.content)
    assert len(contents) == 2
