"""A run whose every foreign text attacks what it is printed to: no format lets it through or loses a name."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_boards import METRICS, make_record, make_run, shown
from markdown_it import MarkdownIt
from rich.console import Console

from benchbox.records.run import Environment, Outcome, RunRecord
from benchbox.report import render
from benchbox.report.board import Leaderboard
from benchbox.report.build import build_leaderboard
from benchbox.report.compare import compare_runs
from benchbox.report.compare_export import TerminalComparison, render_comparison
from benchbox.report.html.page import write_html
from benchbox.report.show import TerminalGallery, read_shown, write_charts, write_pictures
from benchbox.store import RunStore, noise_key
from benchbox.system.text import printable

# Colours, a title and a link for terminals, C1 controls, marks that turn the direction of writing, lone surrogates,
# lines that look like others, and what markdown, LaTeX, HTML and spreadsheets would obey.
POISON = (
    "=cmd()\x1b[31mred\x1b[2J\x1b]0;title\x07\x1b]8;;http://x\x1b\\\x1b]\x9b2J\x00\u202e\u2066\u200b\ufeff\r\n\u2028"
    "# head | cell & amp \\input{x} $1_2^3$ %~ `code` **bold** [link](javascript:alert(1)) ![x](http://x)"
    "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>]]>--><!--"
)
UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
NAMES = ("identity", "median", f"first{POISON}", f"{POISON}second", "unet")
NOISES = (f"noise{POISON}", f"{POISON}:0.2")
IMAGES = 40


def poisoned_record() -> RunRecord:
    metrics = tuple(
        replace(one, title=f"t{POISON}", unit=f"unit{POISON}", summary=POISON) if one.unit == "" else one
        for one in METRICS
    )
    record = make_record(NAMES, NOISES, IMAGES)
    return replace(
        record,
        command=f"benchbox run ```{POISON}",
        data=replace(
            record.data, dataset=f"{POISON}data", split=POISON, sizes=POISON, fingerprint=POISON, notes=(POISON, "note")
        ),
        metrics=metrics,
        denoisers=tuple(
            replace(row, summary=POISON, tuned_on=f"tuned{POISON}", notice=POISON) for row in record.denoisers
        ),
        environment=Environment(POISON, 2, 24.0, POISON, POISON, {f"numpy{POISON}": POISON}, 0.1),
    )


def poison(folder: Path) -> RunStore:
    """Write the run, with a failed cell, poisoned names of images and labels, and pictures."""
    store = make_run(folder, poisoned_record())
    store.keep_images(
        {
            "id": np.array([f"{POISON}{number}" for number in range(IMAGES)]),
            "label_emotion": np.array([f"{POISON}{number % 3}" for number in range(IMAGES)]),
        }
    )
    failed = next(cell for cell in store.record.cells if cell.denoiser == "median" and cell.noise == NOISES[1])
    store.write_outcome(failed.key, Outcome("failed", f"reason{POISON}"), POISON)
    rows = {"image": np.array([3, 5], np.int32), "repeat": np.zeros(2, np.int32)}
    clean = list(np.random.default_rng(0).random((2, 12, 12)).astype(np.float32))
    why = np.array([f"why{POISON}", POISON], dtype=object)
    store.write_previews(noise_key(NOISES[0]), rows | {"why": why}, {"clean": clean, "noisy": clean[::-1]})
    for cell in store.record.cells:
        if cell.noise == NOISES[0]:
            store.write_previews(cell.key, rows, {"denoised": clean[::-1]})
    return RunStore.open(store.folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return poison(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def board(store: RunStore) -> Leaderboard:
    return build_leaderboard(store)


def printed(what: object) -> str:
    sink = io.StringIO()
    Console(file=sink, width=220, force_terminal=True, color_system=None).print(what, crop=False)
    return sink.getvalue()


def assert_markdown_is_safe(text: str) -> None:
    assert not UNSAFE.search(text)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    found = [token.type for token in tokens] + [child.type for token in tokens for child in token.children or ()]
    assert not {"html_inline", "link_open", "image", "code_inline", "em_open"} & set(found)
    folded = [token.content for token in tokens if token.type == "html_block"]
    fold = ["<details>\n<summary>All columns, facts and notes</summary>", "</details>"]
    assert [text.strip() for text in folded] in ([], fold)
    heads = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    assert not any(head.startswith("head") for head in heads)
    columns = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("| ")}
    assert len(columns) <= 3  # those of the table of a noise, short and whole, and of the summary


def test_the_poison_works(tmp_path: Path) -> None:
    """Each check fails where the text comes through as it is."""
    assert UNSAFE.search(POISON)
    with pytest.raises(AssertionError):
        assert_markdown_is_safe(printable(POISON))
    assert Page(f"<p>{printable(POISON)}</p>").scripts == 1


@pytest.mark.parametrize("opened", ["\x1b]0;", "\x1b[", "\x1b]8;;", "\x1b[38;2;"])
def test_a_name_cannot_hide_what_is_said_after_it(opened: str) -> None:
    assert printable(f"failed: {opened}, median\x07: wrong shape").endswith(", median?: wrong shape")


@pytest.mark.parametrize("width", [60, 100, 220])
@pytest.mark.parametrize("terminal", [True, False])
def test_terminal(board: Leaderboard, width: int, terminal: bool) -> None:
    text = shown(board, width, terminal=terminal)
    assert not UNSAFE.search(text)
    assert "first=cmd()red" in text.replace("\n", "")


@pytest.mark.slow
def test_gallery(store: RunStore, board: Leaderboard, tmp_path: Path) -> None:
    text = printed(TerminalGallery(read_shown(store, board, NOISES[0], "")))
    assert not UNSAFE.search(text)
    assert "why=cmd()red" in text
    assert write_pictures(read_shown(store, board, "", ""), tmp_path, "png").stat().st_size > 1000


def test_markdown(board: Leaderboard) -> None:
    text = render(board, "markdown")
    assert_markdown_is_safe(text)
    assert "first=cmd()red" in text


def test_latex(board: Leaderboard) -> None:
    text = render(board, "latex")
    assert not UNSAFE.search(text)
    assert "first=cmd()red" in text
    known = {
        "begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule", "textbf", "textbackslash",
        "textasciicircum", "textasciitilde", "textless", "textgreater", "textbar", "textquotedbl", "usepackage",
    }  # fmt: skip
    assert set(re.findall(r"\\([A-Za-z]+)", text)) <= known
    body = text.partition("\n")[2].replace(r"\\", "")
    assert not re.search(r"(?<!\\)[$#%_]|[\^~<>|\"]", body)
    separators = {len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines()}
    assert len(separators - {0}) == 1


def test_csv(board: Leaderboard) -> None:
    text = render(board, "csv")
    assert not UNSAFE.search(text)
    rows = list(csv.reader(io.StringIO(text)))
    assert len(rows) == 1 + len(NAMES) * len(NOISES)
    assert len({len(row) for row in rows}) == 1
    for cell in (cell for row in rows for cell in row):
        assert re.fullmatch(r"-?[0-9.e+-]+|-?inf", cell) or not cell.lstrip().startswith(("=", "+", "-", "@"))


def test_json_is_safe_and_keeps_everything(board: Leaderboard) -> None:
    text = render(board, "json")
    assert text.isascii()
    assert not UNSAFE.search(text)
    names = {row["denoiser"] for block in json.loads(text)["blocks"] for row in block["rows"]}
    assert names == set(NAMES)


class Page(HTMLParser):
    """Counts the scripts of a page, and collects the names of its elements and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts = 0
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]


def test_html_and_its_charts(store: RunStore, board: Leaderboard) -> None:
    text = write_html(store, board).read_text(encoding="utf-8")
    assert not UNSAFE.search(text)
    assert "first=cmd()red" in text
    page = Page(text)
    assert page.scripts == 1
    assert {"svg", "table", "img"} <= page.elements
    assert not {name for name in page.attributes if name.startswith("on")}
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["svg", "pdf"])
def test_charts_as_files(store: RunStore, board: Leaderboard, form: str, tmp_path: Path) -> None:
    files = write_charts(store, board, tmp_path, form)
    assert len(files) >= 4
    for file in files:
        if form == "svg":
            text = file.read_text(encoding="utf-8")
            assert not UNSAFE.search(text)
            tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
            assert not tags & {"script", "image", "foreignObject", "a"}


def test_comparison(store: RunStore, tmp_path: Path) -> None:
    other = poison(tmp_path)
    comparison = compare_runs(store, other)
    assert not UNSAFE.search(printed(TerminalComparison(comparison)))
    assert_markdown_is_safe(render_comparison(comparison, [], "markdown"))
    text = render_comparison(comparison, [], "json")
    assert text.isascii()
    assert not UNSAFE.search(text)
