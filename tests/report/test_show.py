"""Pictures of a run in a terminal and for papers: they are the stored ones, and fit the width."""

from __future__ import annotations

import io
import itertools
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from rich.console import Console

from benchbox import BenchboxError
from benchbox.engine.run import execute
from benchbox.records.run import RunOptions
from benchbox.report.board import Leaderboard
from benchbox.report.build import build_leaderboard
from benchbox.report.show import TerminalGallery, draw_grid, read_shown, shrink, write_charts, write_pictures
from benchbox.store import RunStore, noise_key

pytestmark = pytest.mark.process

Command = Callable[..., subprocess.CompletedProcess[str]]
NOISES = ("gaussian:0.1", "salt-pepper:0.05")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    config = RunOptions(
        denoisers=("identity", "median", "wiener", "gaussian_blur"),
        noise=NOISES,
        limit=10,
        previews=3,
        timing=False,
        results=str(tmp_path_factory.mktemp("results")),
    )
    return execute(config, lambda event: None)


@pytest.fixture(scope="module")
def board(store: RunStore) -> Leaderboard:
    return build_leaderboard(store)


def printed(
    store: RunStore,
    board: Leaderboard,
    width: int,
    *,
    image: str = "",
    colour: bool = False,
    no_colour: bool = False,
) -> str:
    sink = io.StringIO()
    system: Literal["truecolor"] | None = "truecolor" if colour else None
    console = Console(file=sink, width=width, force_terminal=colour, color_system=system, no_color=no_colour)
    console.print(TerminalGallery(read_shown(store, board, NOISES[0], image)), crop=False)
    return sink.getvalue()


def test_a_terminal_that_is_told_to_use_no_colour_gets_characters(store: RunStore, board: Leaderboard) -> None:
    told = printed(store, board, 80, colour=True, no_colour=True)
    assert "▀" not in told
    assert re.sub(r"\x1b\[[0-9;]*m", "", told) == printed(store, board, 80)


def first_id(store: RunStore) -> str:
    image = store.previews(noise_key(NOISES[0]))[0]["image"][0]
    return str(store.images()["id"][image])


@pytest.mark.parametrize("width", [30, 80, 120, 300])
def test_nothing_is_wider_than_the_terminal(store: RunStore, board: Leaderboard, width: int) -> None:
    lines = printed(store, board, width).splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    assert "large image" not in text
    assert "clean" in text
    assert ("hidden at this width" in text) == (width < 6 * 24 + 5 * 2)


def test_one_image_is_shown_pixel_by_pixel_with_all_denoisers(store: RunStore, board: Leaderboard) -> None:
    text = printed(store, board, 120, image=first_id(store), colour=True)
    clean = store.previews(noise_key(NOISES[0]))[1]["clean"][0]
    levels = np.rint(clean * 255).astype(int)
    upper, lower = levels[0, 0], levels[1, 0]
    assert f"38;2;{upper};{upper};{upper};48;2;{lower};{lower};{lower}m▀" in text
    assert text.count("▀") == 6 * 24 * 48
    for title in ("clean", "noisy", "identity", "median", "wiener", "gaussian_blur"):
        assert title in text
    assert "not shown" not in text


def test_captions_are_the_stored_scores(store: RunStore, board: Leaderboard) -> None:
    text = printed(store, board, 300)
    for cell in store.record.cells[:2]:
        if cell.noise != NOISES[0]:
            continue
        scores = store.scores(cell.key)
        for image in store.previews(noise_key(NOISES[0]))[0]["image"]:
            assert f"{scores['psnr'][image]:.2f} dB, SSIM {scores['ssim'][image]:.3f}" in text


def test_the_figure_shows_the_pictures_and_their_errors(store: RunStore, board: Leaderboard) -> None:
    shown = read_shown(store, board, NOISES[1], "")
    axes = np.array(draw_grid(shown).axes).reshape(2 * 3, 2 + 4)
    made = shown.pictures[0][3]
    np.testing.assert_array_equal(axes[0, 3].images[0].get_array(), made)
    np.testing.assert_array_equal(axes[1, 3].images[0].get_array(), np.abs(made - shown.pictures[0][0]))
    scales = {axis.images[0].get_clim() for axis in axes[1::2, 1:].ravel()}
    assert scales == {(0, shown.largest)}
    assert not axes[1, 0].images


@pytest.mark.parametrize("images", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_no_words_of_the_figure_cover_others_or_leave_it(store: RunStore, board: Leaderboard, images: int) -> None:
    shown = read_shown(store, board, NOISES[1], "")
    options = "patch_size=3,patch_distance=5,strength=0.9"
    titles: tuple[str, ...] = (
        "clean",
        "noisy",
        f"nl_means:{options}",
        f"nl_means:mode=fast,{options}",
        "unet:weights=mixed",
        "onnx:a_long_name_of_a_model",
    )
    few = slice(0, 3 if images == 1 else 6)
    shown = replace(
        shown,
        titles=titles[few],
        names=shown.names[:images],
        pictures=tuple(pictures[few] for pictures in shown.pictures[:images]),
        captions=tuple(captions[few] for captions in shown.captions[:images]),
    )
    figure = draw_grid(shown)
    figure.draw_without_rendering()
    words = [text for axes in figure.axes for text in (axes.title, *axes.texts) if text.get_text()] + figure.texts
    assert len(figure.texts) == 1
    boxes = [(text.get_text(), text.get_window_extent()) for text in words]
    for name, box in boxes:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, name
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, name
    for (name, one), (other_name, other) in itertools.combinations(boxes, 2):
        assert not one.overlaps(other), f"{name} and {other_name}"
    drawn = [axes.get_title().replace("\n", "") for axes in figure.axes if axes.get_title()]
    assert drawn == list(shown.titles)


@pytest.mark.slow
def test_files_for_papers(store: RunStore, board: Leaderboard, tmp_path: Path) -> None:
    from PIL import Image

    file = write_pictures(read_shown(store, board, "", ""), tmp_path, "png")
    assert file == tmp_path / "pictures.png"
    with Image.open(file) as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    svg = write_charts(store, board, tmp_path / "charts", "svg")
    # No timing: of each noise the differences and the spectrum; one level a kind of noise.
    assert [file.name for file in svg] == [f"{n}-{name}.svg" for n in (1, 2) for name in ("differences", "spectrum")]
    assert "gaussian_blur</text>" in svg[0].read_text(encoding="utf-8")
    pdf = write_charts(store, board, tmp_path / "charts", "pdf")
    assert pdf[0].read_bytes().startswith(b"%PDF")
    again = write_charts(store, board, tmp_path / "again", "pdf")
    assert [one.read_bytes() for one in pdf] == [one.read_bytes() for one in again]


def test_what_there_is_not_is_refused_with_what_there_is(store: RunStore, board: Leaderboard, tmp_path: Path) -> None:
    with pytest.raises(BenchboxError, match=r"no noise 'gaussian:0\.2'"):
        read_shown(store, board, "gaussian:0.2", "")
    with pytest.raises(BenchboxError, match="'nobody' matches 0 images") as error:
        read_shown(store, board, "", "nobody")
    assert first_id(store) in (error.value.hint or "")
    (tmp_path / "file").write_text("", encoding="ascii")
    with pytest.raises(BenchboxError, match="cannot write"):
        write_pictures(read_shown(store, board, "", ""), tmp_path / "file" / "folder", "png")


def test_shrinking_averages_and_never_enlarges() -> None:
    picture = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_allclose(shrink(picture, 2), [[2.5, 4.5], [10.5, 12.5]])
    assert shrink(picture, 9) is picture


@pytest.mark.slow
def test_the_commands(benchbox: Command, store: RunStore, tmp_path: Path) -> None:
    shown = benchbox("show", store.folder, "--noise", NOISES[1])
    assert shown.stdout.startswith("salt-pepper:0.05, images selected by score")
    for form in ("png", "svg", "pdf"):
        written = benchbox("show", store.folder, "--format", form, "-o", "drawn")
        assert len(list((tmp_path / "drawn").glob(f"*.{form}"))) == 5
        assert f"drawn/pictures.{form}\ndrawn/1-differences.{form}\n" in written.stdout
    refused = benchbox("show", store.folder, "-o", "nowhere", code=2)
    assert "hint: add --format png" in refused.stderr
    assert not (tmp_path / "nowhere").exists()
    page = benchbox("report", store.folder, "--sort", "ssim")
    assert Path(page.stdout.strip()) == store.folder / "report.html"
    assert "ranked by SSIM" in (store.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_run_without_pictures_says_how_to_get_some(benchbox: Command, tmp_path: Path) -> None:
    benchbox("run", "identity", "--limit", "2", "--no-timing", "--previews", "0", "--report")
    assert len(list((tmp_path / "results").glob("*/report.html"))) == 1
    assert not list((tmp_path / "results").glob("*/previews"))
    refused = benchbox("show", code=2)
    assert "has no pictures" in refused.stderr
    assert "--previews" in refused.stderr
