"""What planning learns by constructing plugins: their faults, and the content of the files that identify them."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from made_models import BOX, save_onnx

from benchbox import BenchboxError
from benchbox.engine.construction import construct
from benchbox.engine.plan import plan_denoisers, plan_metrics, plan_noises
from benchbox.engine.tune import make_candidates
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
    contents = set()
    for factor in (1, 2, 1):
        model = save_onnx(tmp_path / "model.onnx", kernel=factor * BOX)
        contents.add(planned(f"onnx:path={model}").plugin.content)
    assert len(contents) == 2
    contents = set()
    for weights in (b"one", b"two", b"one"):
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:  # as Keras saves a model
            archive.writestr(zipfile.ZipInfo("config.json"), "{}")
            archive.writestr(zipfile.ZipInfo("model.weights.h5"), weights)
        contents.add(planned(f"keras:path={tmp_path / 'model.keras'}").plugin.content)
    assert len(contents) == 2
    script = tmp_path / "denoise.sh"
    contents = set()
    for commands in ("cp $1 $2", "cat $1 > $2"):
        script.write_text(commands)
        contents.add(planned(f'command:run="sh {script} {{in}} {{out}}"').plugin.content)
    assert len(contents) == 2


CONSTRUCTORS = """
import os, signal, subprocess
from benchbox import Denoiser, hookimpl
class Base(Denoiser):
    summary = "has a fault in its constructor"
    def denoise(self, noisy, sigma):
        return noisy
def denoiser(name, fault):
    def __init__(self, *, size: int = 3):
        if size > 3:
            fault(self)
    return type(name, (Base,), {"name": name, "__init__": __init__})
def loop(self):
    while True: pass
def leave(self):
    subprocess.Popen(["sleep", "4249"], start_new_session=True)
def refuse(self):
    raise ValueError("size is at most 3")
def break_down(self):
    raise RuntimeError("no licence")
@hookimpl
def benchbox_denoisers():
    return [
        denoiser("loops", loop),
        denoiser("exits", lambda self: os._exit(3)),
        denoiser("killed", lambda self: os.kill(os.getpid(), signal.SIGKILL)),
        denoiser("leaves", leave),
        denoiser("refuses", refuse),
        denoiser("breaks", break_down),
    ]
"""


@pytest.fixture
def constructors(tmp_path: Path) -> Path:
    """A plugin whose denoisers have a fault in their constructors, where they get an option."""
    plugin = tmp_path / "constructors.py"
    plugin.write_text(CONSTRUCTORS)
    return plugin


@pytest.mark.slow
@pytest.mark.process
def test_a_constructor_that_hangs_or_exits_costs_itself_alone(constructors: Path) -> None:
    registry = load_registry([constructors])
    names = ("loops", "exits", "killed", "leaves", "breaks")
    made = construct([registry.denoiser(f"{name}:5") for name in names], timeout_s=4)
    assert [one.fault for one in made] == [
        "constructing it took longer than 4 s",
        "while constructing it, its process ended with exit code 3",
        "while constructing it, its process was ended by SIGKILL",
        "",
        "RuntimeError: no licence",
    ]
    assert [process for process in psutil.process_iter(["cmdline"]) if "4249" in (process.info["cmdline"] or ())] == []
    # Planning goes on: the worker that repeats it gives the row its status.
    planned = plan_denoisers(["exits:5", "breaks:5", "identity"], registry)
    assert [row.plugin.content for row in planned] == ["", "", ""]
    with pytest.raises(BenchboxError, match="refuses: size is at most 3"):
        plan_denoisers(["exits:5", "refuses:5"], registry)
    with pytest.raises(BenchboxError, match="refuses: size is at most 3"):
        make_candidates("refuses", (("size", ("3", "5")),), registry)


@pytest.mark.slow
@pytest.mark.process
def test_a_constructor_that_hangs_costs_its_time_once(constructors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = load_registry([constructors]).denoiser("loops:7")
    first = construct([entry], timeout_s=1)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert construct([entry], timeout_s=1) == first
    assert construct([load_registry().denoiser("median:5")], timeout_s=1)[0].fault == "", "bundled ones are trusted"


@pytest.mark.process
def test_a_metric_or_noise_that_cannot_be_constructed_is_an_error(tmp_path: Path) -> None:
    plugin = tmp_path / "rulers.py"
    plugin.write_text(
        "import os\nfrom dataclasses import dataclass\nfrom benchbox import Metric, NoiseModel, hookimpl\n"
        "class Lost(Metric):\n    name, title, summary = 'lost', 'Lost', 'exits'\n"
        "    def __init__(self): os._exit(3)\n    def __call__(self, clean, denoised): pass\n"
        "@dataclass(frozen=True)\nclass Loud(NoiseModel):\n    name, summary, formula = 'loud', 'exits', 'x'\n"
        "    level: float = 0.1\n"
        "    def __post_init__(self): os._exit(4)\n    def apply(self, clean, rng): return clean\n"
        "@hookimpl\ndef benchbox_metrics(): return [Lost]\n@hookimpl\ndef benchbox_noise_models(): return [Loud]\n"
    )
    registry = load_registry([plugin])
    with pytest.raises(BenchboxError, match=r"lost of .*rulers.py: while constructing it, .* exit code 3"):
        plan_metrics(["psnr", "lost"], registry)
    with pytest.raises(BenchboxError, match=r"loud:0.2 of .*rulers.py: while constructing it, .* exit code 4"):
        plan_noises(["gaussian:0.1+loud:0.2"], registry)
