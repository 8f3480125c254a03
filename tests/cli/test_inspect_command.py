"""`benchbox inspect`: what each kind of model file is said to be, and that nothing in it is run."""

from __future__ import annotations

import json
import pickle
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_models import save_keras, save_litert, save_onnx

Command = Callable[..., subprocess.CompletedProcess[str]]


def inspected(benchbox: Command, *files: str, code: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(benchbox("inspect", *files, "--format", "json", code=code).stdout)
    return found


def test_an_onnx_file(tmp_path: Path, benchbox: Command) -> None:
    save_onnx(tmp_path / "m.onnx")
    (found,) = inspected(benchbox, "m.onnx")
    assert found["spec"] == "onnx:path=m.onnx"
    assert (found["macs_per_pixel"], found["receptive_field"], found["channels"]) == (9, 3, "grey")
    assert found["parameters"] == 10  # the kernel and the floor
    shown = benchbox("inspect", "m.onnx").stdout
    assert "loading it runs no code from the file" in shown
    assert "benchbox run onnx:path=m.onnx" in shown


@pytest.mark.slow
def test_keras_and_litert_files_agree(tmp_path: Path, benchbox: Command) -> None:
    """A convolution, and a copy of it that is shrunk to a quarter and grown again."""
    save_keras(tmp_path / "m.keras", halves=2)
    save_litert(tmp_path / "m.tflite", halves=2)
    keras, litert = inspected(benchbox, "m.keras", "m.tflite")
    assert keras["parameters"] == 9
    assert 9 <= litert["parameters"] <= 11  # the converter adds factors
    for found in (keras, litert):
        assert (found["macs_per_pixel"], found["channels"]) == (9, "grey")
        assert 6 <= found["receptive_field"] <= 9


def test_a_checkpoint_is_recognised_without_torch(tmp_path: Path, benchbox: Command) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    from made_checkpoints import ffdnet_state

    torch.save({"params": ffdnet_state("kair", 3)}, tmp_path / "color.pth")
    (found,) = inspected(benchbox, "color.pth")
    assert found["architecture"].startswith("FFDNet, 12 layers")
    assert (found["channels"], found["sigma"], found["spec"]) == ("rgb", "vector", "torch:path=color.pth")
    assert "the weights are below params" in found["notes"]


def test_the_words_can_be_pasted(tmp_path: Path, benchbox: Command) -> None:
    save_onnx(tmp_path / "my model, v2.onnx")
    shown = benchbox("inspect", "my model, v2.onnx").stdout
    (line,) = (line for line in shown.splitlines() if line.strip().startswith("run "))
    words = shlex.split(line)[3:]
    assert benchbox("run", *words, "--limit", "1", "--no-timing", "--format", "json").stdout


def test_a_missing_file_is_named_before_any_is_read(tmp_path: Path, benchbox: Command) -> None:
    save_onnx(tmp_path / "m.onnx")
    refused = benchbox("inspect", "m.onnx", "missing.onnx", code=2)
    assert "missing.onnx: no such file" in refused.stderr
    assert not refused.stdout


def test_a_refused_checkpoint_still_says_what_network_it_holds(tmp_path: Path, benchbox: Command) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    import argparse

    from made_checkpoints import dncnn_state

    torch.save({"net": dncnn_state(), "args": argparse.Namespace(nb=3)}, tmp_path / "args.pth")
    (found,) = inspected(benchbox, "args.pth", code=1)
    assert "argparse.Namespace" in found["refused"]
    assert found["architecture"].startswith("DnCNN, 3 layers")
    assert found["parameters"] == 72


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.target), "w")


def test_what_is_not_loaded_says_why_and_what_to_do(tmp_path: Path, benchbox: Command) -> None:
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"weight": Bomb(tmp_path / "ran")}))
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "lfs.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    bomb, text, lfs = inspected(benchbox, "bomb.pth", "text.txt", "lfs.onnx", code=1)
    assert "open" in bomb["refused"]
    assert not (tmp_path / "ran").exists()
    assert text["refused"] == "no installed denoiser runs this kind of file"
    assert "git lfs pull" in lfs["refused"] + lfs["hint"]
    assert all(found["hint"] for found in (bomb, text))
    assert not any(found["spec"] for found in (bomb, text, lfs))
    assert "no such file" in benchbox("inspect", "missing.onnx", code=2).stderr
