"""What the user typed is what every output shows, and a metric of anybody's is a column like any other."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from made_boards import make_record, make_run

from benchbox.engine.merge import merge_runs
from benchbox.notebook import load_run
from benchbox.report.build import build_leaderboard
from benchbox.store import RunStore, find_run

Command = Callable[..., CompletedProcess[str]]
TYPED = "gaussian:50/255"
CANONICAL = f"gaussian:{50 / 255!r}"
LPIPS = """
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from benchbox import Metric, hookimpl


@dataclass(frozen=True)
class Lpips(Metric):
    name: ClassVar[str] = "lpips"
    summary: ClassVar[str] = "stands in for the learned similarity"
    title: ClassVar[str] = "LPIPS (Alex)"
    digits: ClassVar[int] = 5
    higher_is_better: ClassVar[bool] = False

    def __call__(self, clean, denoised):
        return np.abs(clean - denoised).max(axis=(1, 2)).astype(np.float64)


@hookimpl
def benchbox_metrics():
    return [Lpips]
"""


@pytest.fixture
def run(benchbox: Command, tmp_path: Path) -> Path:
    (tmp_path / "lpips.py").write_text(LPIPS)
    done = benchbox(
        *("run", "identity", "median:3", "median:size=3", "median:5", "--plugin", "lpips.py", "--metric", "psnr"),
        *("--metric", "lpips", "--noise", TYPED, "--no-timing", "--limit", "12", "--report"),
    )
    assert TYPED in done.stdout
    assert CANONICAL not in done.stdout + done.stderr
    return find_run(tmp_path / "results")


@pytest.mark.slow
def test_every_format_shows_what_was_typed_and_a_metric_of_a_plugin(
    run: Path, benchbox: Command, tmp_path: Path
) -> None:
    (tmp_path / "lpips.py").unlink()  # a report needs no plugin
    texts = {form: benchbox("leaderboard", "--format", form).stdout for form in ("table", "markdown", "latex", "csv")}
    texts["html"] = (run / "report.html").read_text(encoding="utf-8")
    for form, text in texts.items():
        assert TYPED in text, form
        assert CANONICAL not in text, form
        assert "median:5" in text, form
        assert "median:size=5" not in text, form
        if form != "csv":
            assert "LPIPS (Alex)" in text, form
    rows = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert [row["denoiser"] for row in rows].count("median:3") == 1
    board = json.loads(benchbox("leaderboard", "--format", "json").stdout)
    (block,) = board["blocks"]
    assert (block["noise"], block["spec"]) == (TYPED, CANONICAL)
    mean = next(float(row["lpips"]) for row in rows if row["denoiser"] == "median:5")
    assert f"{mean:.5f}" in texts["markdown"]
    assert f"{mean:.5f}" in texts["html"]
    first = benchbox("leaderboard", "--sort", "lpips", "--format", "markdown").stdout
    assert "ranked by LPIPS (Alex)" in first.replace("\\", "")
    frames = load_run(results=tmp_path / "results")
    assert set(frames.scores["noise"]) == {TYPED}
    assert set(frames.scores["denoiser"]) == {"identity", "median:3", "median:5"}


@pytest.mark.slow
def test_runs_are_compared_and_merged_by_what_was_meant(run: Path, benchbox: Command, tmp_path: Path) -> None:
    benchbox(
        *("run", "median:size=3", "median:size=5", "--plugin", "lpips.py", "--metric", "psnr", "--metric", "lpips"),
        *("--noise", CANONICAL, "--no-timing", "--limit", "12"),
    )
    later = find_run(tmp_path / "results")
    compared = json.loads(benchbox("compare", run.name, later.name, "--format", "json").stdout)
    shown = {(row["denoiser"], row["noise"]): row["reason"] for row in compared["rows"]}
    assert shown["median:3", TYPED] == shown["median:5", TYPED] == ""
    assert shown["identity", TYPED].startswith("not in run")
    merged = merge_runs([RunStore.open(later), RunStore.open(run)], tmp_path / "results", "")
    (block,) = build_leaderboard(merged).blocks
    assert block.noise == CANONICAL, "the first run spelt it out"
    assert {row.denoiser for row in block.rows} == {"median:size=3", "median:size=5", "identity"}
    replayed = benchbox("replay", run.name, "--cell", f"median:5@{TYPED}", "--plugin", "lpips.py").stdout
    assert f"median:5 @ {TYPED}: identical" in replayed


@pytest.mark.slow
def test_a_page_takes_the_names_of_labels_from_the_run_and_loads_no_plugin(tmp_path: Path) -> None:
    record = make_record(("identity", "median"))
    data = replace(record.data, label_names={"mood": ("very calm", "very cross")}, caveat="These faces are made up.")
    store = make_run(tmp_path, replace(record, data=data))
    ids = store.images()["id"]
    store.keep_images({"id": ids, "label_mood": np.arange(len(ids)) % 2})
    program = (
        "import sys; from pathlib import Path; from benchbox.report.build import build_leaderboard; "
        "from benchbox.report.html.page import write_html; from benchbox.store import RunStore; "
        "store = RunStore.open(Path(sys.argv[1])); write_html(store, build_leaderboard(store)); "
        "assert 'benchbox.registry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, store.folder], check=True)
    page = (store.folder / "report.html").read_text(encoding="utf-8")
    for words in ("very calm", "very cross", "These faces are made up."):
        assert words in page
