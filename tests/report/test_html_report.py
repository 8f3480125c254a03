"""The report as a web page: its numbers are those of the store, and nothing foreign runs."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_boards import make_run
from made_page import HOSTILE, LIMIT, NOISES, Page, leaderboards
from made_records import make_record, metric
from numpy.typing import NDArray

from benchbox.records.run import Cell, DataRecord, Outcome, RunOptions, Timing, digest
from benchbox.report.board import Row
from benchbox.report.build import build_leaderboard
from benchbox.report.figures.axes import looks_of
from benchbox.report.figures.charts import spectrum_chart
from benchbox.report.figures.error_analysis import BANDS, frequencies
from benchbox.report.figures.overview import noise_families
from benchbox.report.html.page import answer_of, write_html
from benchbox.report.html.tables import group_table, groups_of, summary_table, with_label_names
from benchbox.stats.summaries import Mean
from benchbox.store import RunStore, noise_key

if TYPE_CHECKING:
    pass


def test_every_number_of_the_leaderboards_is_the_mean_of_the_stored_scores(store: RunStore, parsed: Page) -> None:
    tables = leaderboards(parsed)
    assert len(tables) == len(NOISES)
    for noise, (head, *rows) in zip(NOISES, tables, strict=True):
        cells = {cell.denoiser: cell for cell in store.record.cells if cell.noise == noise and cell.sigma_factor == 1}
        assert {row[1][1] for row in rows} == set(cells)
        for title, name in (("PSNR dB", "psnr"), ("SSIM", "ssim"), ("MSE", "mse")):
            column = [text.strip() for text, _ in head].index(title)
            for row in rows:
                mean = store.scores(cells[row[1][1] or ""].key)[name].mean()
                assert float(row[column][1] or "nan") == pytest.approx(mean, rel=1e-12)
                assert float(row[column][0].rstrip("*")) == pytest.approx(mean, rel=5e-3)


def test_whatever_is_shown_has_a_value_to_sort_by(parsed: Page) -> None:
    shown = {head[0] for table in leaderboards(parsed) for head in table[0]}
    assert {"#", "PSNR dB", "95 % dB", "latency ms", "p50 normalised", "images/s", "threads", "sigma"} <= shown
    sortable = [table for table in parsed.tables if all(value is not None for row in table[1:] for _, value in row)]
    # Leaderboard, mismatch, causes and groups of each noise; the summary and the speed.
    assert len(sortable) == 2 * 4 + 2
    for head, *rows in sortable:
        for row in rows:
            for (title, _), (text, value) in zip(head, row, strict=True):
                assert (text.strip() in ("", "-")) or value, f"{title} of {row[1][0]}"


def test_images_that_are_shown_whole_need_no_word_of_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8").lower()
    assert "large image" not in text


def test_a_hostile_name_is_text_everywhere(page: Path, parsed: Page) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("<script>") == 1
    assert not any("onerror" in attributes for _, attributes in parsed.tags)
    assert all(
        (image["src"] or "").startswith("data:image/png;base64,") for image in parsed.of("img") if "src" in image
    )
    assert HOSTILE in {row[1][1] for table in leaderboards(parsed) for row in table[1:]}


def test_the_policy_lets_only_the_pages_own_script_run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode("utf-8")).digest()).decode("ascii")
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in text


@pytest.mark.slow
def test_the_page_is_the_same_each_time(store: RunStore, page: Path) -> None:
    first = page.read_bytes()
    assert write_html(store, build_leaderboard(store)).read_bytes() == first


def test_pictures_have_words_and_tables_have_heads(parsed: Page) -> None:
    pictures = [image for image in parsed.of("img") if "src" in image]
    # Clean; noisy and four denoisers with their error maps: for four images of two noises.
    assert len(pictures) == 8 * (1 + 2 * 5)
    assert all(image["alt"] for image in pictures)
    assert all(head.get("scope") in ("col", "row") for head in parsed.of("th"))
    charts = parsed.of("svg")
    # Front, differences, mismatch and spectrum of each noise; front of the mean, levels and latency.
    assert len(charts) == 2 * 4 + 3
    assert all(chart["role"] == "img" and len(chart["aria-label"] or "") > 40 for chart in charts)
    names = Counter(attributes["id"] for _, attributes in parsed.tags if "id" in attributes)
    assert max(names.values()) == 1


def test_pictures_of_the_page_are_those_of_the_store(store: RunStore, parsed: Page) -> None:
    from PIL import Image

    pictures = [image for image in parsed.of("img") if image.get("class") == "picture"]
    columns, stored = store.previews(noise_key(NOISES[0]))
    clean = [image for image in pictures if image["data-name"] == "clean"]
    for shown, kept in zip(clean[:4], stored["clean"], strict=True):
        png = base64.b64decode((shown["src"] or "").partition(",")[2])
        pixels = np.asarray(Image.open(io.BytesIO(png)))
        np.testing.assert_array_equal(pixels, np.rint(kept * 255).astype(np.uint8))
    assert len(set(columns["image"].tolist())) == 4


def test_each_picture_carries_its_own_scores(store: RunStore, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    cell = next(cell for cell in store.record.cells if cell.denoiser == "wiener" and cell.sigma_factor == 1)
    scores = store.scores(cell.key)
    for image in store.previews(noise_key(NOISES[0]))[0]["image"]:
        assert f'<span class="score">{scores["psnr"][image]:.2f} dB</span>' in text
        assert f'<span class="score">SSIM {scores["ssim"][image]:.4f}</span>' in text


def test_charts_carry_their_details_as_tooltips(store: RunStore, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    board = build_leaderboard(store)
    for row in board.blocks[0].rows:
        if row.denoiser not in ("identity", HOSTILE) and row.speed:
            mean, latency = row.scores["psnr"].mean, row.speed.latency_p50_ms
            assert re.search(rf"<title>{row.denoiser}: PSNR {mean:.2f} dB, p50 {latency:.2f} ms, rank {row.rank}", text)
    floor = next(row for row in board.blocks[1].rows if row.is_floor)
    assert f">identity: {floor.scores['psnr'].mean:.2f}, not shown</text>" in text


def test_a_curve_over_the_level_joins_noises_of_one_kind_alone(store: RunStore) -> None:
    board = build_leaderboard(store)
    noises = (
        "gaussian:0.15",
        "gaussian:0.05",
        "gaussian:0.05+salt-pepper:0.1",
        "gaussian:0.1+salt-pepper:0.1",
        "correlated:0.1,width=1.5",
        "correlated:0.1,width=3",
        "correlated:0.2,width=3",
        "poisson:30",
    )
    levels = (0.15, 0.05, 0.2, 0.25, 0.1, 0.1, 0.2, 0.1)
    blocks = tuple(
        replace(board.blocks[0], noise=noise, spec=noise, noisy_psnr=Mean(-20 * np.log10(level), 12))
        for noise, level in zip(noises, levels, strict=True)
    )
    found = {kind: [block.noise for block in blocks] for kind, blocks in noise_families(replace(board, blocks=blocks))}
    assert found == {
        "gaussian": ["gaussian:0.05", "gaussian:0.15"],
        "gaussian+salt-pepper": ["gaussian:0.05+salt-pepper:0.1", "gaussian:0.1+salt-pepper:0.1"],
        "correlated (width=3)": ["correlated:0.1,width=3", "correlated:0.2,width=3"],
    }


def test_the_page_opens_with_the_answer(store: RunStore, page: Path, parsed: Page) -> None:
    text = page.read_text(encoding="utf-8")
    board = build_leaderboard(store)
    assert board.summary is not None
    first, second, *_ = board.summary.rows
    apart = first.mean - second.mean
    begin = f'<p class="answer">Over 2 noises, {first.denoiser} leads'
    assert begin in text
    assert f"{apart:.2f} dB" in text[text.index(begin) :].partition("</p>")[0]
    parts = [
        'class="answer"',
        'id="all-columns"',
        'id="summary"',
        "-front-",
        'id="trust"',
        'id="environment"',
        "Gallery",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    folded = re.findall(r"<details[^>]*>\s*<summary><h2 id=\"(\w+)\"", text)
    assert {"trust", "environment"} <= set(folded)
    # Rows by noises: the mean of each, coloured by the distance to the best row.
    head, *rows = parsed.tables[0]
    assert [title for title, _ in head[3:5]] == list(NOISES)
    for row in rows:
        for (_, value), block in zip(row[3:5], board.blocks, strict=True):
            mean = next(one for one in block.rows if one.denoiser == row[1][1]).scores["psnr"].mean
            assert float(value or "nan") == mean
    table = summary_table(board, board.summary)
    for place in (3, 4):
        heats = [cells[place].heat for cells in table.rows]
        scores = [float(cells[place].value) for cells in table.rows]
        assert max(heats) == heats[int(np.argmax(scores))] == 1
        assert min(heats) == heats[int(np.argmin(scores))]


def test_the_answer_says_who_leads_and_what_is_nearly_as_good(tmp_path: Path) -> None:
    store = make_run(tmp_path)
    board = build_leaderboard(store)
    (block,) = board.blocks
    best, second, third, *rest = block.rows
    first = best.scores["psnr"].mean

    def answer(*rows: Row, **changes: Any) -> str:
        return answer_of(replace(board, blocks=(replace(block, rows=rows),), **changes))

    def behind(row: Row, difference: float, latency_ms: float, rank: int = 2) -> Row:
        assert row.speed is not None
        mean = replace(row.scores["psnr"], mean=first - difference)
        speed = replace(row.speed, latency_p50_ms=latency_ms)
        return replace(row, rank=rank, rank_to=rank + 1, scores=row.scores | {"psnr": mean}, speed=speed)

    best = behind(best, 0, 100, rank=1)
    near, far = behind(second, 0.31, 2.5), behind(third, 0.62, 0.1)
    assert answer(best, near, far) == (
        f"{best.denoiser} leads by 0.31 dB; fastest within 0.5 dB: {near.denoiser} (2.50 ms instead of 100)."
    )
    assert answer(best, far) == f"{best.denoiser} leads by 0.62 dB; no other row is within 0.5 dB."
    assert answer(best, behind(second, 0.31, 200)).endswith("; no row within 0.5 dB is faster.")
    tied = answer(best, replace(near, rank=1, speed=None))
    assert tied.startswith(f"{best.denoiser} leads, but {near.denoiser}, 0.31 dB behind, may be as good;")
    few = answer(*(replace(row, rank_to=None) for row in (best, near)), header=replace(board.header, images=5))
    assert few.startswith(f"{best.denoiser} leads by 0.31 dB, but 5 images are too few to test that; fastest")
    assert answer(*(replace(row, speed=None) for row in (best, near))) == f"{best.denoiser} leads by 0.31 dB."
    assert answer(best) == f"{best.denoiser} is the only ranked row, with {first:.2f} dB."
    assert answer(*(replace(row, rank=None) for row in (best, *rest))) == "No denoiser has a rank."


def test_names_break_between_their_words() -> None:
    from benchbox.report.html.page import breakable

    assert breakable("nl_means:size=5,patch_distance=9") == "nl_means:<wbr>size=5,<wbr>patch_<wbr>distance=<wbr>9"
    assert breakable("median leads by 0.62 dB: <b>, 3/4") == "median leads by 0.62 dB: &lt;b&gt;, 3/<wbr>4"
    assert breakable("my_network-v2") == "my_<wbr>network-<wbr>v2"


def test_a_spectrum_has_at_most_six_lines(store: RunStore) -> None:
    board = build_leaderboard(store)
    names = [f"d{number}" for number in range(9)]
    spectrum = spectrum_chart(board.blocks[0], frequencies(), dict.fromkeys(names, np.zeros(BANDS)), looks_of(names))
    assert [title.partition(":")[0] for title in spectrum.titles.values()] == names[:6]
    assert spectrum.title.endswith("; the best 6 of 9 rows")


def test_axes_are_labelled_with_plain_numbers(page: Path) -> None:
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", page.read_text(encoding="utf-8"))
    assert len(labels) > 100
    assert not any("mathdefault" in label for label in labels)


def test_sections_without_data_say_so(store: RunStore, tmp_path: Path) -> None:
    bare = tmp_path / store.folder.name
    shutil.copytree(store.folder, bare)
    shutil.rmtree(bare / "previews")
    shutil.rmtree(bare / "timing")
    values = json.loads((bare / "run.json").read_text(encoding="utf-8"))
    values["cells"] = [one for one in values["cells"] if one["noise"] == NOISES[0] and one["sigma_factor"] == 1]
    del values["noises"][1]
    (bare / "run.json").write_text(json.dumps(values), encoding="utf-8")
    poor = RunStore.open(bare)
    failed = poor.record.cells[-1]
    poor.write_outcome(failed.key, Outcome("failed", "ValueError: <b>no</b>"), "traceback")
    text = write_html(poor, build_leaderboard(poor)).read_text(encoding="utf-8")
    for words in ("This run was not timed", "No pictures of this noise", "ValueError: &lt;b&gt;no&lt;/b&gt;"):
        assert words in text
    for words in ("Gallery", "Error analysis", "Noise level</h2>", "Given a wrong", "All noises"):
        assert words not in text


def test_a_page_stays_below_eight_megabytes(store: RunStore, tmp_path: Path) -> None:
    """The largest pictures that a run keeps, more of them than fit: some are left out, and the page says so."""
    big = tmp_path / store.folder.name
    shutil.copytree(store.folder, big)
    large = RunStore.open(big)
    random = np.random.default_rng(0)
    columns = {"image": np.arange(LIMIT, dtype=np.int32), "repeat": np.zeros(LIMIT, dtype=np.int32)}
    pictures = random.random((LIMIT, 96, 96), dtype=np.float32)
    for noise in NOISES:
        why = np.array(["a rule"] * LIMIT, dtype=object)
        large.write_previews(
            noise_key(noise), columns | {"why": why}, {"clean": list(pictures), "noisy": list(pictures)}
        )
    board = build_leaderboard(large)
    from benchbox.report.figures.gallery import make_gallery, read_pictures

    for cell in large.record.cells:
        if cell.sigma_factor == 1:
            denoised = list(random.random((LIMIT, 96, 96), dtype=np.float32))
            large.write_previews(cell.key, columns, {"denoised": denoised})
    stored = read_pictures(large, board.blocks[0])
    assert stored is not None
    gallery = make_gallery(large, board.blocks[0], stored, 500_000)
    taken = sum(len(tile.address) + len(tile.error) for row in gallery.rows for tile in row.tiles)
    assert taken <= 500_000
    assert len(gallery.rows) + gallery.left_out == LIMIT
    assert gallery.left_out > 0


@pytest.mark.slow
def test_a_page_of_twelve_denoisers_and_six_noises_stays_below_eight_megabytes(tmp_path: Path) -> None:
    """All that a page can hold: the full PublicTest split, labels, timing, a wrong level, pictures that do not pack."""
    images, kept = 3589, 8
    random = np.random.default_rng(0)
    noises = [f"gaussian:{sigma}" for sigma in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)]
    denoisers = ["identity", *(f"denoiser_{place}:size={place},strength=0.123" for place in range(11))]
    names = ("psnr", "ssim", "mse", "mae", "gmsd", "accuracy")
    cells = [(denoiser, noise, factor) for denoiser in denoisers for noise in noises for factor in (0.5, 1.0, 2.0)]
    record = make_record(
        denoisers,
        noises,
        [metric(name, digits=2) for name in names],
        options=RunOptions(dataset="fer2013", previews=kept),
        data=DataRecord("fer2013", "PublicTest", images, "96x96", "ab" * 16),
        cells=tuple(Cell(digest(cell), cell[0], cell[1], sigma_factor=cell[2]) for cell in cells),
    )
    ids = np.array([f"PublicTest/{number:05d}" for number in range(images)])
    store = RunStore.create(tmp_path, record, {"id": ids, "label_emotion": random.integers(0, 7, images)})
    rows = {"image": np.arange(kept, dtype=np.int32), "repeat": np.zeros(kept, dtype=np.int32)}

    def pictures() -> list[NDArray[np.float32]]:
        return list(random.random((kept, 96, 96), dtype=np.float32))

    for cell in record.cells:
        columns = {name: random.normal(25, 2, images) for name in (*names, "clean_mean")}
        columns |= {"image": np.arange(images, dtype=np.int32), "repeat": np.zeros(images, np.int32)}
        columns |= {"noisy_mse": np.full(images, 0.01)}
        columns |= {"sigma_true": np.full(images, 0.1, dtype=np.float32)}
        store.write_shard(cell.key, 0, images, columns)
        store.write_outcome(cell.key, Outcome("ok", noise_level="given", images=images))
        if cell.sigma_factor == 1:
            store.write_previews(cell.key, rows, {"denoised": pictures()})
    for noise in noises:
        why = np.array(["a rule"] * kept, dtype=object)
        store.write_previews(noise_key(noise), rows | {"why": why}, {"clean": pictures(), "noisy": pictures()})
    for denoiser in denoisers:
        samples = {1: random.normal(2, 0.1, 1000).tolist(), 64: random.normal(50, 1, 100).tolist()}
        store.write_timing(denoiser, Timing("ok", "", (96, 96), noises[0], 1, 64, samples_ms=samples))
    store = RunStore.open(store.folder)
    page = write_html(store, build_leaderboard(store))
    assert 4_000_000 < page.stat().st_size < 8_000_000
    parsed = Page(page.read_text(encoding="utf-8"))
    assert len(leaderboards(parsed)) == 6
    assert "more images of this run are omitted to limit the size of the page" in page.read_text(encoding="utf-8")


def test_groups_count_their_images_and_average_their_scores() -> None:
    labels = {"emotion": np.array([3, 3, 0, 3]), "same": np.zeros(4), "each": np.arange(4)}
    (emotion, each) = groups_of(labels, None, {"a": np.array([1.0, 2.0, 5.0, np.inf])})
    assert (emotion.names, emotion.counts, emotion.means["a"]) == (("0", "3"), (1, 3), (5.0, 1.5))
    assert each.names == ("0", "1", "2", "3")
    brightness = np.linspace(0.1, 0.9, 9)
    (quarters,) = groups_of({}, brightness, {"a": brightness})
    assert sum(quarters.counts) == 9
    assert list(quarters.means["a"]) == sorted(quarters.means["a"])
    assert groups_of({}, np.full(9, 0.5), {"a": brightness}) == []


def test_a_group_marks_the_best_of_the_ranked_rows(store: RunStore, page: Path) -> None:
    board = build_leaderboard(store)
    block = board.blocks[0]
    best, *_, last = [row.denoiser for row in block.rows]
    scores = {row.denoiser: np.array([place, place], dtype=float) for place, row in enumerate(block.rows)}
    (groups,) = groups_of({"label": np.array([0, 1])}, None, scores)

    def marked(rows: tuple[Row, ...]) -> list[str]:
        table = group_table(board, replace(block, rows=rows), groups)
        return [cells[0].text for cells in table.rows if any(cell.best for cell in cells)]

    assert "best ranked row in the column" in page.read_text(encoding="utf-8")
    assert marked(block.rows) == [last]
    assert marked(tuple(replace(row, rank=None if row.denoiser != best else 1) for row in block.rows)) == [best]
    assert marked(tuple(replace(row, rank=None) for row in block.rows)) == [last]


def test_labels_take_their_names_where_each_has_one() -> None:
    values = np.array([2, 0], dtype=np.uint8)
    assert with_label_names(values, ("a", "b", "c")).tolist() == ["c", "a"]
    assert with_label_names(values, ("a", "b")).tolist() == [2, 0]
    assert with_label_names(np.array(["x"]), ("a",)).tolist() == ["x"]
