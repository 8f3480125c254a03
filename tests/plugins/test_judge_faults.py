"""Judges that die, fail or answer nonsense: the rows say so, and nothing is silently wrong."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from benchbox_judge.judge import WEIGHTS
from benchbox_judge.task import TaskAgreement

from benchbox.store import RunStore, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
PLUGIN = """
import os
import signal
import time

import numpy as np

from benchbox import AgreementMetric, hookimpl


class Judge(AgreementMetric):
    name, summary, channels = "broken", "a judge that is broken", "any"

    def seen(self, images):
        {body}


@hookimpl
def benchbox_metrics():
    return [Judge]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("raise RuntimeError('no judge today')", "failed", "metric broken: RuntimeError: no judge today"),
        ("raise SystemExit(3)", "failed", "metric broken: SystemExit: 3"),
        ("raise MemoryError", "failed", "metric broken: MemoryError"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "died", "metric broken: its process was ended by SIGKILL"),
        ("os._exit(3)", "died", "metric broken: its process ended with exit code 3"),
        ("return np.zeros((len(images), 7))", "failed", "seen() returned float64 of shape"),
        ("return np.zeros(1, int)", "failed", "seen() returned int64 of shape (1,) for 3 images"),
        ("return np.full(len(images), -1)", "failed", "seen() returned"),
        ("time.sleep(600)", "timeout", "metric broken: a shard took longer than 4 s"),
        ("self.all = np.ones(2**28); time.sleep(600)", "out of memory", "metric broken: its process held more"),
    ],
)
def test_a_broken_judge_costs_its_rows_and_says_why(
    process: Command, csv: Path, tmp_path: Path, body: str, status: str, reason: str
) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(PLUGIN.format(body=body), encoding="utf-8")
    words = ["--plugin", plugin, "--noise", "gaussian:0.1", "--metric", "psnr", "--metric", "broken", "--no-timing"]
    words += ["--timeout", "4"] if status == "timeout" else []
    words += ["--memory", "1.5"] if status == "out of memory" else []
    done = process("run", "identity", "--data", csv, *words, code=None)
    assert "Traceback" not in done.stderr
    store = RunStore.open(find_run(tmp_path / "results"))
    (outcome,) = store.outcomes().values()
    assert outcome.status == status
    assert reason in outcome.reason
    if reason.startswith("metric broken: "):
        assert outcome.reason.startswith("metric broken: ")
        assert outcome.reason.endswith("(the denoiser did not do it; leave out this metric)")


@pytest.mark.slow
@pytest.mark.parametrize("judge", ["bundled", "file"])
def test_a_judge_whose_runtime_dies_is_named_with_its_file(
    process: Command, csv: Path, tmp_path: Path, judge: str
) -> None:
    runtime = tmp_path / "broken" / "ai_edge_litert"
    runtime.mkdir(parents=True)
    (runtime / "__init__.py").touch()
    (runtime / "interpreter.py").write_text("import os\nos.abort()\n", encoding="ascii")
    words = ["--metric", "emotion_agreement:judge=robust"]
    if judge == "file":
        shutil.copy(WEIGHTS["default"], tmp_path / "mine.tflite")
        words = ["--judge", "litert:path=mine.tflite"]
    words += ["--noise", "gaussian:0.1", "--metric", "psnr", "--no-timing"]
    process("run", "identity", "--data", csv, *words, code=None, PYTHONPATH=str(runtime.parent))
    store = RunStore.open(find_run(tmp_path / "results"))
    (outcome,) = store.outcomes().values()
    which = "emotion_agreement:judge=robust" if judge == "bundled" else "mine.tflite"
    assert outcome.status == "died"
    assert outcome.reason.startswith("metric ")
    assert which in outcome.reason
    assert "its process was ended by SIGABRT" in outcome.reason
    assert outcome.reason.endswith("(the denoiser did not do it; use another judge, or leave out this metric)")


@pytest.mark.slow
def test_a_denoiser_that_dies_beside_a_judge_is_named_itself(process: Command, csv: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "deadly.py"
    plugin.write_text(
        "import os\nfrom benchbox import Denoiser, hookimpl\n\n\nclass Deadly(Denoiser):\n    name = 'deadly'\n\n"
        "    def denoise(self, noisy, sigma):\n        os.abort()\n\n\n@hookimpl\ndef benchbox_denoisers():\n"
        "    return [Deadly]\n",
        encoding="ascii",
    )
    words = ["--plugin", plugin, "--noise", "gaussian:0.1", "--metric", "emotion_agreement", "--no-timing"]
    process("run", "deadly", "--data", csv, *words, code=None)
    (outcome,) = RunStore.open(find_run(tmp_path / "results")).outcomes().values()
    assert (outcome.status, outcome.reason) == ("died", "its process was ended by SIGABRT")


def test_faces_that_are_constant_or_upside_down_are_judged_like_others(
    benchbox: Command, tmp_path: Path, csv: Path
) -> None:
    header, *rows = csv.read_text(encoding="ascii").splitlines()
    first = rows[0].split(",")
    flat = " ".join(["128"] * 48 * 48)
    turned = " ".join(reversed(first[1].split()))
    odd = [",".join((first[0], pixels, *first[2:])) for pixels in (flat, turned)]
    (tmp_path / "odd.csv").write_text("\n".join([header, *rows, *odd, ""]), encoding="ascii")
    words = ["--noise", "gaussian:0.1", "--metric", "emotion_agreement", "--metric", "emotion_kl", "--no-timing"]
    benchbox("run", "identity", "--data", tmp_path / "odd.csv", *words)
    store = RunStore.open(find_run(tmp_path / "results"))
    (cell,) = store.record.cells
    scores = store.scores(cell.key)
    assert all(np.isfinite(scores[name]).all() for name in ("emotion_agreement", "emotion_kl"))


@pytest.mark.slow
def test_a_keras_file_is_a_judge(process: Command, csv: Path, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((48, 48, 1)), layers.Conv2D(4, 5, strides=4), layers.Flatten(), layers.Dense(7)]
    )
    path = tmp_path / "judge.keras"
    model.save(path)
    stack = np.random.default_rng(0).random((40, 48, 48), np.float32)
    expected = np.asarray(model(stack[..., np.newaxis] * 2 - 1, training=False)).argmax(axis=1)
    np.testing.assert_array_equal(TaskAgreement(path=path, range="-1..1", classes=7).seen(stack), expected)
    judge = f"keras:path={path},range=-1..1,classes=7"
    process("run", "identity", "--data", csv, "--noise", "gaussian:0.1", "--judge", judge, "--no-timing")
    store = RunStore.open(find_run(tmp_path / "results"))
    (cell,) = store.record.cells
    assert np.isin(store.scores(cell.key)[store.record.metrics[-1].spec], (0, 1)).all()
