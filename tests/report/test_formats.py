"""Leaderboards as text: terminals of every width, markdown, LaTeX, csv and JSON; every field is documented."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from made_boards import DENOISERS, METRICS, make_record, make_run, rows_of, scores_of, shown, write_cell
from markdown_it import MarkdownIt

from benchbox.api.errors import BenchboxError
from benchbox.records.run import (
    Calibration,
    Cell,
    DataRecord,
    DenoiserRecord,
    Outcome,
    Provider,
    RunOptions,
    RunRecord,
)
from benchbox.report import render, write_leaderboard
from benchbox.report.across import render_paper
from benchbox.report.board import Leaderboard
from benchbox.report.build import build_leaderboard
from benchbox.report.export import escape_latex
from benchbox.report.words import score, three_digits
from benchbox.system.text import printable


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_the_table_fits_its_terminal_and_keeps_names_whole(tmp_path: Path, width: int) -> None:
    board = build_leaderboard(make_run(tmp_path))
    lines = shown(board, width).splitlines()
    assert max(map(len, lines)) <= width
    rows = lines[next(place for place, line in enumerate(lines) if "denoiser" in line) :]
    names = "".join(part[1] for line in rows if (part := re.match(r" *(?:[0-9]+ +)?(\S+)", line)))
    assert all(label in names for label in DENOISERS)
    assert all(f"{row.scores['psnr'].mean:.2f}" in "".join(rows) for row in board.blocks[0].rows)


def test_eighty_columns_show_what_matters_most(tmp_path: Path) -> None:
    board = build_leaderboard(make_run(tmp_path))
    lines = shown(board, 80, verbose=False).splitlines()
    title = next(place for place, line in enumerate(lines) if line.startswith("gaussian:0.1"))
    assert " ".join(lines[title + 1 : title + 3]).split() == (
        ["PSNR", "95", "%", "latency", "#", "denoiser", "dB", "dB", "SSIM", "ms", "images/s", "sigma"]
    )
    assert len([line for line in lines[: title + 1] if line]) <= 4
    last = max(place for place, line in enumerate(lines) if "given" in line or "blind" in line)
    below = [line for line in lines[last + 1 :] if line]
    assert len(below) <= 6
    assert below[0] == "# is the range of possible ranks (95 % confidence for all rows, 40 images)"
    assert "trained on fer2013 Training: unet" in below
    assert all(len(line) <= 80 for line in lines)


def test_the_first_note_is_about_a_row_that_failed(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    store.write_outcome(store.record.cells[1].key, Outcome("died", reason="out of memory"))
    name = store.record.denoiser_label(store.record.cells[1].denoiser)
    notes = [line for line in shown(build_leaderboard(store), 160, verbose=False).splitlines() if "note" in line]
    assert len(notes) == 1
    assert f"{name}: died: out of memory" in notes[0]


def test_verbose_says_all_that_the_short_form_leaves_out(tmp_path: Path) -> None:
    board = build_leaderboard(make_run(tmp_path))
    text = shown(board, 80)
    assert "hidden at this width: Δ to best, MSE, p90, p99," in text
    assert "- oracle (best row for each image)" in text
    assert "machine" in text


def test_wide_terminals_show_every_column(tmp_path: Path) -> None:
    text = shown(build_leaderboard(make_run(tmp_path)), 180)
    for word in ("p90", "p99", "cold start", "memory", "threads", "trained on", "tuned on", "Δ to best"):
        assert word in text
    assert "hidden at this width" not in shown(build_leaderboard(make_run(tmp_path / "other")), 200)


def test_piped_tables_are_plain_and_never_fold_a_name(tmp_path: Path) -> None:
    text = shown(build_leaderboard(make_run(tmp_path)), 40, terminal=False)
    assert text.replace("Δ", "").replace("±", "").isascii()
    assert "\x1b" not in text
    assert "nl_means:patch=5,distance=11,strength=0.8 " in text


def test_best_is_marked_without_colour(tmp_path: Path) -> None:
    board = build_leaderboard(make_run(tmp_path))
    mean = f"{rows_of(board)['unet'].scores['psnr'].mean:.2f}"
    assert f"{mean}*" in shown(board, 80)
    assert f"{mean}*" in shown(board, 80, color="truecolor")
    assert f"**{mean}**" in render(board, "markdown")
    assert f"\\textbf{{{mean}}}" in render(board, "latex")


EVIL = "evil[bold]|a`b*c_d\x1b[31m\x1b]8;;http://x\x07$\\x{y}%&#\u202e\r\n=1+1"


@pytest.fixture
def evil(tmp_path: Path) -> Leaderboard:
    record = make_record(("identity", EVIL))
    return build_leaderboard(make_run(tmp_path, replace(record, command=f"run ```{EVIL}")))


def test_names_cannot_write_to_the_terminal(evil: Leaderboard) -> None:
    text = shown(evil, 200)
    assert "evil[bold]|a`b*c_d$\\x{y}%&#?" in text
    assert not set(text) & {"\x1b", "\x07", "\r", "\u202e"}


def test_names_cannot_break_markdown(evil: Leaderboard) -> None:
    text = render(evil, "markdown")
    table = [line for line in text.splitlines() if line.startswith("|")]
    bars = [line.replace("\\|", "").count("|") for line in table]
    assert bars[:4] == [9] * 4, "eight columns, then all of them, folded"
    assert len(set(bars[4:])) == 1
    assert len(table) == 8
    assert "evil\\[bold\\]\\|a\\`b\\*c\\_d\\$" in text
    fences = [line for line in text.splitlines() if line.startswith("```")]
    assert fences == ["````sh", "````"]


def test_markdown_renders_names_as_they_are(evil: Leaderboard) -> None:
    # GitHub's tables, parsed by a library that is not ours.
    page = MarkdownIt("commonmark").enable("table").parse(render(evil, "markdown"))
    texts = ["".join(child.content for child in token.children or ()) for token in page if token.type == "inline"]
    assert printable(EVIL) in texts
    assert sum(token.type == "table_open" for token in page) == 2


def paper_runs(tmp_path: Path) -> list[Leaderboard]:
    """Two runs of two noises: one on FER2013, one on a folder, without the U-Net."""
    noises = ("gaussian:25/255", "poisson:30")
    record = make_record(noises=noises)
    small = make_record(("identity", "median:size=5"), noises=noises)
    small = replace(small, data=replace(small.data, folder="Set_12"))
    return [build_leaderboard(make_run(tmp_path / name, one)) for name, one in (("a", record), ("b", small))]


def test_white_gaussian_noise_of_any_plugin_is_its_level_in_the_table_of_a_paper(tmp_path: Path) -> None:
    record = make_record(("identity", "unet"), ("gaussian:sigma=25/255", "mine:0.1", "poisson:30,width=2"))
    noises = tuple(replace(noise, gaussian=noise.label != "poisson:30,width=2") for noise in record.noises)
    paper = render_paper([build_leaderboard(make_run(tmp_path, replace(record, noises=noises)))])
    assert r"Method & $\sigma = 25/255$ & $\sigma = 0.1$ & poisson:30,width=2 \\" in paper


def test_the_table_of_a_paper_has_methods_down_and_settings_across(tmp_path: Path) -> None:
    boards = paper_runs(tmp_path)
    lines = render_paper(boards).splitlines()
    assert r"    & \multicolumn{2}{c}{fer2013 PublicTest} & \multicolumn{2}{c}{Set\_12 PublicTest} \\" in lines
    assert r"    Method & $\sigma = 25/255$ & poisson:30 & $\sigma = 25/255$ & poisson:30 \\" in lines
    body = lines[lines.index("    \\midrule") + 1 : lines.index("    \\bottomrule")]
    cells = {name.strip(): rest for name, *rest in (line.removesuffix(r" \\").split(" & ") for line in body)}
    assert next(iter(cells)) == "identity"
    assert set(cells) == {escape_latex(name) for name in (*DENOISERS, "median:size=5")}
    assert cells["unet"][2:] == ["--", "--"]
    for column, block in enumerate(boards[0].blocks):
        ranked = sorted((row for row in block.rows if not row.is_floor), key=lambda row: -row.scores["psnr"].mean)
        for row, mark in zip(ranked, (r"\textbf{{{}}}", r"\underline{{{}}}", "{}"), strict=False):
            psnr = mark.format(f"{row.scores['psnr'].mean:.2f}")
            assert cells[escape_latex(row.denoiser)][column].startswith(f"{psnr}/")
    assert sum(line.startswith("% benchbox 0.") for line in lines) == 2
    assert r"  \label{tab:denoising}" in lines


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="TeX is not installed")
def test_both_layouts_compile(evil: Leaderboard, tmp_path: Path) -> None:
    tables = [render(evil, "latex").replace("\u202e", ""), render_paper([evil]), render_paper(paper_runs(tmp_path))]
    packages = r"\usepackage{booktabs}\usepackage[T1]{fontenc}\usepackage{textcomp}"
    body = "\n".join(tables).replace("Δ", "d").replace("±", r"\textpm ")
    (tmp_path / "t.tex").write_text(rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "undefined" not in done.stdout.lower()


def test_names_cannot_break_latex(evil: Leaderboard) -> None:
    row = next(line for line in render(evil, "latex").splitlines() if "evil" in line and "&" in line)
    assert r"evil[bold]\textbar{}a`b*c\_d\$\textbackslash{}x\{y\}\%\&\#?" in row


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-2", "@SUM(A1)", " =1"])
def test_csv_cells_are_no_formulas(tmp_path: Path, name: str) -> None:
    board = build_leaderboard(make_run(tmp_path, make_record(("identity", name))))
    cells = {row["denoiser"] for row in csv.DictReader(io.StringIO(render(board, "csv")))}
    assert cells == {"identity", f"'{name}"}


def test_csv_keeps_full_precision(tmp_path: Path) -> None:
    board = build_leaderboard(make_run(tmp_path, make_record(noises=("gaussian:0.1", "poisson:30"))))
    lines = list(csv.DictReader(io.StringIO(render(board, "csv"))))
    assert len(lines) == 2 * len(DENOISERS)
    for line in lines:
        row = rows_of(board, block=0 if line["noise"] == "gaussian:0.1" else 1)[line["denoiser"]]
        assert float(line["psnr"]) == row.scores["psnr"].mean
        assert row.speed is not None
        assert float(line["throughput"]) == row.speed.throughput
        assert line["split"] == "PublicTest"


def test_json_reads_back_as_what_it_was_made_from(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    cell = next(cell for cell in store.record.cells if cell.denoiser == "median")
    columns = scores_of(DENOISERS["median"])
    columns["psnr"][:] = np.inf
    columns["ssim"][:] = np.nan
    write_cell(store, cell, columns)
    board = build_leaderboard(store)
    values = json.loads(render(board, "json"))
    assert values["header"]["run_id"] == store.record.run_id
    rows = {row["denoiser"]: row for row in values["blocks"][0]["rows"]}
    assert rows["median"]["scores"]["psnr"]["mean"] == 100
    assert rows["median"]["scores"]["ssim"]["mean"] is None
    assert rows["unet"]["scores"]["psnr"]["mean"] == rows_of(board)["unet"].scores["psnr"].mean


def test_markdown_says_what_was_measured_and_how(tmp_path: Path) -> None:
    store = make_run(tmp_path, make_record(noises=("gaussian:0.1", "poisson:30")))
    path = write_leaderboard(store, build_leaderboard(store))
    text = path.read_text(encoding="utf-8")
    assert path == store.folder / "leaderboard.md"
    for words in (
        "fer2013 PublicTest, 40 images, 48x48",
        "noise unclipped, not rounded, sigma given; seed 7",
        "Example CPU, 2 cores, 24.0 GiB, Linux",
        "python 3.11.7, numpy 2.4.6",
        store.record.command,
        "## gaussian:0.1, noisy images 20.00 dB, ranked by PSNR",
        "## poisson:30",
    ):
        assert words in text.replace("\\", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00012345, "0.000123"),
        (0.00001, "1.00e-05"),
        (0.9996, "1.00"),
        (9.999, "10.0"),
        (99.96, "100"),
        (1234.5, "1,234"),
        (999_999.0, "1.00M"),
        (4e8, "400M"),
        (-0.05, "-0.0500"),
        (float("inf"), "inf"),
        (float("nan"), "-"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_a_difference_that_rounds_to_zero_has_no_minus() -> None:
    fixed = replace(METRICS[0], digits=4)
    assert [score(value, fixed, signed=True) for value in (-0.0, -1e-9, -0.001)] == ["0.0000", "0.0000", "-0.0010"]


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchboxError, match="unknown format 'markdwn'"):
        render(build_leaderboard(make_run(tmp_path)), "markdwn")


FORMAT_PAGE = Path(__file__).parents[2] / "docs" / "results-format.md"


def documented() -> set[str]:
    """Every word that the page on the file format puts into code."""
    page = re.sub(r"```.*?```", "", FORMAT_PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", page))))


@pytest.mark.parametrize(
    "kind", [RunRecord, RunOptions, DataRecord, DenoiserRecord, Provider, Cell, Outcome, Calibration]
)
def test_every_stored_field_is_documented(kind: type) -> None:
    assert {field.name for field in fields(kind)} <= documented()


def test_every_stored_column_and_timing_field_is_documented(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    stored = set(store.scores(store.record.cells[0].key)) | set(
        json.loads(next(store.folder.glob("timing/*.json")).read_text())
    )
    assert stored <= documented() | {"psnr", "ssim", "mse"}


def test_every_field_of_csv_and_json_is_documented(tmp_path: Path) -> None:
    board = build_leaderboard(make_run(tmp_path, make_record(noises=("gaussian:0.1", "poisson:30"))))
    names = set(next(csv.reader(io.StringIO(render(board, "csv")))))

    def keys(value: object) -> None:
        if isinstance(value, dict):
            names.update(value)
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            keys(item)

    keys(json.loads(render(board, "json")))
    foreign = {f"{metric.spec}{part}" for metric in METRICS for part in ("", "_low", "_high")} | {"python", "numpy"}
    assert names - foreign <= documented()
