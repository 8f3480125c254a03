"""The calibration kernel: what it computes, that it is timed apart, and what becomes of a failure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import correlate

from benchbox.builtin.kernels.pixels import smooth
from benchbox.engine.environment import SAMPLES, calibrate
from benchbox.records.run import Calibration

pytestmark = pytest.mark.process


def test_the_stencil_is_a_binomial_window() -> None:
    first = np.random.default_rng(0).random((9, 14), dtype=np.float32)
    second, expected = first.copy(), first.astype(np.float64)
    window = np.outer([1, 2, 1], [1, 2, 1]) / 16
    for _ in range(4):
        expected[1:-1, 1:-1] = correlate(expected, window)[1:-1, 1:-1]
    smooth(first, second, 2)
    np.testing.assert_allclose(first, expected, atol=1e-6)


def test_it_is_timed_in_a_fresh_process_that_imports_nothing_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    calibration = calibrate(1, 600.0, tmp_path / "log")
    assert calibration is not None
    assert calibration.threads == 1
    assert len(calibration.stencil_ms) == len(calibration.product_ms) == SAMPLES
    assert min(*calibration.stencil_ms, *calibration.product_ms) > 0
    assert not (tmp_path / "log").exists()


def test_a_failure_is_told_in_the_log(tmp_path: Path) -> None:
    assert calibrate(1, 0.001, tmp_path / "log") is None
    assert "no answer within 0.001 s" in (tmp_path / "log").read_text()


def test_both_kinds_of_work_weigh_the_same() -> None:
    assert Calibration(1, [1.0, 2.0, 99.0], [8.0]).time_ms == pytest.approx(4.0)
    assert Calibration(1, [4.0], [4.0]).time_ms == Calibration(1, [2.0], [8.0]).time_ms == pytest.approx(4.0)
