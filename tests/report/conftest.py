"""A run of real denoisers, one with a hostile name, and its page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_page import HOSTILE, LIMIT, NOISES, Page

from benchbox.engine.run import execute
from benchbox.records.run import Calibration, RunOptions, Timing
from benchbox.report.build import build_leaderboard
from benchbox.report.html.page import write_html
from benchbox.store import RunStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run of real denoisers, one of which then takes a hostile name, with timings."""
    folder = tmp_path_factory.mktemp("results")
    config = RunOptions(
        denoisers=("identity", "median", "wiener", "gaussian_blur"),
        noise=NOISES,
        limit=LIMIT,
        previews=4,
        timing=False,
        results=str(folder),
        sigma_errors=(0.5, 2.0),
    )
    made = execute(config, lambda event: None)
    values = json.loads((made.folder / "run.json").read_text(encoding="utf-8"))
    for one in values["denoisers"]:
        if one["label"] == "median":
            one["label"] = one["plugin"]["spec"] = HOSTILE
    for one in values["cells"]:
        one["denoiser"] = HOSTILE if one["denoiser"] == "median" else one["denoiser"]
    values["options"]["timing"] = True
    (made.folder / "run.json").write_text(json.dumps(values), encoding="utf-8")
    store = RunStore.open(made.folder)
    for place, denoiser in enumerate(store.record.denoisers, start=1):
        samples = {1: np.linspace(place, 2 * place, 50).tolist(), 64: np.linspace(9 * place, 10 * place, 20).tolist()}
        kernel = Calibration(1, [0.5], [0.5])
        timing = Timing("ok", "", (48, 48), NOISES[0], 1, 64, 0.1, 0.2, 0.01 * place, 12.5 * place, 1, samples, kernel)
        store.write_timing(denoiser.spec, timing)
    return store


@pytest.fixture(scope="module")
def page(store: RunStore) -> Path:
    return write_html(store, build_leaderboard(store))


@pytest.fixture(scope="module")
def parsed(page: Path) -> Page:
    return Page(page.read_text(encoding="utf-8"))
