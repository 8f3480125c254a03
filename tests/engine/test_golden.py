"""Golden vectors: a model that no longer returns its stored result is refused before a run starts."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_models import DELTA, save_onnx

Command = Callable[..., subprocess.CompletedProcess[str]]

pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_a_changed_result_is_refused_before_the_run(tmp_path: Path, benchbox: Command) -> None:
    model = save_onnx(tmp_path / "m.onnx")
    shown = benchbox("plugins", "check", "onnx:path=m.onnx", "--freeze")
    golden = tmp_path / "m.onnx.golden.npy"
    assert str(golden) in shown.stderr
    assert np.load(golden).shape == (2, 1, 32, 32, 3)  # noisy, denoised
    benchbox("run", "onnx:path=m.onnx", "--limit", "2", "--no-timing")
    refused = benchbox("run", "onnx:path=m.onnx,residual=true,range=1", "--limit", "2", code=2).stderr
    assert "no longer returns the result in m.onnx.golden.npy: a pixel differs by" in refused
    assert "plugins check" in refused
    save_onnx(model, kernel=DELTA / 2 + np.full((1, 1, 3, 3), 1 / 18, np.float32))
    assert "no longer returns the result" in benchbox("run", "onnx:path=m.onnx", "--limit", "2", code=2).stderr
    golden.unlink()
    benchbox("run", "onnx:path=m.onnx", "--limit", "2", "--no-timing")


def npy(array: object) -> bytes:
    content = io.BytesIO()
    np.save(content, np.asarray(array))
    return content.getvalue()


WHOLE = npy(np.zeros((2, 1, 32, 32, 3), np.float32))


@pytest.mark.parametrize(
    "content",
    [
        b"text",
        b"",
        WHOLE[:1000],
        npy(np.zeros((2, 3), np.float32)),
        npy(np.full((2, 1, 32, 32, 3), np.float32(np.nan))),
    ],
    ids=["text", "empty", "cut", "shape", "nan"],
)
def test_a_damaged_vector_is_named(content: bytes, tmp_path: Path, benchbox: Command) -> None:
    save_onnx(tmp_path / "m.onnx")
    (tmp_path / "m.onnx.golden.npy").write_bytes(content)
    refused = benchbox("run", "onnx:path=m.onnx", "--limit", "2", code=2).stderr
    assert "m.onnx.golden.npy is no golden vector" in refused


@pytest.mark.slow
def test_only_a_model_file_can_be_frozen(tmp_path: Path, benchbox: Command) -> None:
    refused = benchbox("plugins", "check", "identity", "--freeze", code=2).stderr
    assert "--freeze: identity names no model file" in refused
