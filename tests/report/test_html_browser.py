"""The report in a real browser: nothing foreign is loaded, and tables, filters and pictures react."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_page import HOSTILE

from benchbox.report.build import build_leaderboard
from benchbox.report.html.page import render_page
from benchbox.store import RunStore

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def opened(browser: Chrome, page: Path, width: int = 1280) -> Chrome:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    return browser


def rows_of(browser: Chrome, table: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = browser.execute_script(
        "return [...document.querySelectorAll('table.leaderboard')[arguments[0]].tBodies[0].rows]"
        ".filter((row) => !row.hidden).map((row) => ({denoiser: row.dataset.denoiser,"
        " noise_level: row.dataset.noiseLevel, front: row.dataset.front, psnr: Number(row.cells[2].dataset.value)}))",
        table,
    )
    return found


def press(browser: Chrome, selector: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


@pytest.mark.slow
def test_nothing_leaves_the_file_and_nothing_is_complained_about(browser: Chrome, page: Path) -> None:
    browser.get("about:blank")
    browser.get_log("performance")  # the browser's own first page asks for its parts
    opened(browser, page)
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in asked
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    assert browser.title.startswith("Denoisers on sample")
    assert HOSTILE in [row["denoiser"] for row in rows_of(browser)]


@pytest.mark.slow
def test_a_click_on_a_head_sorts_by_it(browser: Chrome, store: RunStore, page: Path) -> None:
    opened(browser, page)
    head = "table.leaderboard thead th:nth-child(3) button"
    best = [row.scores["psnr"].mean for row in build_leaderboard(store).blocks[0].rows]
    press(browser, head)
    assert [row["psnr"] for row in rows_of(browser)] == sorted(best, reverse=True)
    press(browser, head)
    assert [row["psnr"] for row in rows_of(browser)] == sorted(best)
    press(browser, "table.leaderboard thead th:nth-child(2) button")
    names = [row["denoiser"] for row in rows_of(browser)]
    assert names.index("gaussian_blur") < names.index("identity") < names.index("wiener")
    sorted_by = browser.execute_script(
        "return [...document.querySelectorAll('table.leaderboard')[0].querySelectorAll('th[aria-sort]')]"
        ".map((head) => head.textContent.trim())"
    )
    assert sorted_by == ["denoiser"]


@pytest.mark.slow
def test_filters_hide_rows_of_every_leaderboard(browser: Chrome, page: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    opened(browser, page)
    everything = rows_of(browser)
    press(browser, "#filter-fold summary")
    browser.find_element(By.ID, "filter-text").send_keys("WIEN")
    left = "return [...document.querySelectorAll('#summary tbody tr')].filter((row) => !row.hidden).length"
    assert browser.execute_script(left) == 1
    assert [row["denoiser"] for row in rows_of(browser)] == ["wiener"]
    assert [row["denoiser"] for row in rows_of(browser, 1)] == ["wiener"]
    assert browser.find_element(By.ID, "filter-count").text == "2 of 8 rows"
    browser.find_element(By.ID, "filter-text").clear()
    Select(browser.find_element(By.ID, "filter-noise-level")).select_by_value("blind")
    assert rows_of(browser) == [row for row in everything if row["noise_level"] == "blind"]
    Select(browser.find_element(By.ID, "filter-noise-level")).select_by_value("")
    press(browser, "#filter-front")
    assert rows_of(browser) == [row for row in everything if row["front"] == "yes"]
    assert 0 < len(rows_of(browser)) < len(everything)


@pytest.mark.slow
def test_a_picture_opens_over_the_clean_or_the_noisy_one(browser: Chrome, page: Path) -> None:
    opened(browser, page)
    press(browser, ".gallery .picture[data-name=wiener]")
    state = browser.execute_script(
        "const byId = (id) => document.getElementById(id);"
        "const before = byId('zoom-over').style.clipPath;"
        "byId('zoom-slider').value = 80; byId('zoom-slider').dispatchEvent(new Event('input'));"
        "const tile = (name) => document.querySelector(`.gallery .picture[data-name=${name}]`);"
        "const over = byId('zoom-over'), clean = byId('zoom-under').src === tile('clean').src;"
        "byId('zoom-with').value = 'noisy'; byId('zoom-with').dispatchEvent(new Event('change'));"
        "return {open: byId('zoom').open, before, after: over.style.clipPath, width: over.clientWidth,"
        " clean, noisy: byId('zoom-under').src === tile('noisy').src, scores: byId('zoom-scores').textContent,"
        " rendering: getComputedStyle(over).imageRendering}"
    )
    assert state["open"]
    assert state["clean"]
    assert state["noisy"]
    assert (state["before"], state["after"]) == ("inset(0px 0px 0px 50%)", "inset(0px 0px 0px 80%)")
    assert state["rendering"] == "pixelated"
    assert state["width"] > 300
    assert "dB" in state["scores"]
    press(browser, "#zoom-close")
    assert not browser.execute_script("return document.getElementById('zoom').open")


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_is_no_wider_than_the_window(browser: Chrome, page: Path, width: int) -> None:
    opened(browser, page, width)
    inner, needed = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
    assert inner == width
    assert needed <= width


@pytest.mark.slow
def test_the_table_of_a_colour_run_shows_every_column_beside_the_chart(
    browser: Chrome, store: RunStore, tmp_path: Path
) -> None:
    board = build_leaderboard(store)
    titles = {"psnr": "PSNR RGB", "ssim": "SSIM RGB mean"}
    blocks = tuple(
        replace(block, rows=tuple(replace(row, channels="per channel") for row in block.rows)) for block in board.blocks
    )
    metrics = tuple(replace(metric, title=titles.get(metric.spec, metric.title)) for metric in board.metrics)
    board = replace(board, blocks=blocks, metrics=metrics, header=replace(board.header, colour=True))
    page = tmp_path / "colour.html"
    page.write_text(render_page(store, board), encoding="utf-8")
    opened(browser, page)
    seen, whole, heads = browser.execute_script(
        "const scroll = document.querySelector('table.leaderboard').closest('.scroll');"
        "for (const name of scroll.querySelectorAll('tbody th')) { name.textContent = 'unet:weights=mixed';"
        " name.className = ''; }"
        "const heads = [...scroll.querySelectorAll('thead th')].filter((head) => head.offsetWidth);"
        "return [scroll.clientWidth, scroll.scrollWidth, heads.map((head) => head.textContent.trim())]"
    )
    assert "SSIM RGB mean" in heads and "colour" in heads and len(heads) == 8
    assert whole <= seen


@pytest.mark.slow
def test_a_switch_shows_all_columns_and_names_stay_whole(browser: Chrome, page: Path) -> None:
    opened(browser, page, 400)
    visible = (
        "return [...document.querySelectorAll('table.leaderboard')[0].tHead.rows[0].cells]"
        ".filter((head) => head.offsetWidth).map((head) => head.textContent.trim())"
    )
    assert browser.execute_script(visible) == [
        "#", "denoiser", "PSNR dB", "95 % dB", "sigma", "SSIM", "latency ms", "images/s",
    ]  # fmt: skip
    press(browser, "#all-columns")
    assert {"cold start s", "MSE", "Δ to best dB"} <= set(browser.execute_script(visible))
    left, height = browser.execute_script(
        "const name = document.querySelector('table.leaderboard tr[data-denoiser=gaussian_blur] th');"
        "const scroll = name.closest('.scroll');"
        "scroll.scrollLeft = 300;"
        "return [name.getBoundingClientRect().left - scroll.getBoundingClientRect().left, name.clientHeight]"
    )
    assert left == 0
    assert height < 40
    broken = browser.execute_script(
        "const words = [];"
        "for (const head of document.querySelectorAll('th')) {"
        "  const nodes = document.createTreeWalker(head, NodeFilter.SHOW_TEXT);"
        "  for (let node = nodes.nextNode(); node; node = nodes.nextNode()) {"
        "    const range = document.createRange();"
        "    range.selectNodeContents(node);"
        "    if (!/[\\s-]/.test(node.data.trim()) && range.getClientRects().length > 1) words.push(node.data);"
        "  }"
        "}"
        "return words"
    )
    assert [word for word in broken if word not in HOSTILE] == []


@pytest.mark.slow
def test_text_stands_out_in_dark_mode(browser: Chrome, page: Path) -> None:
    opened(browser, page)
    found = {}
    for scheme in ("light", "dark"):
        feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
        found[scheme] = browser.execute_script(
            "const style = getComputedStyle(document.body);"
            "const labels = [...document.querySelectorAll('.chart svg text')];"
            "return [style.color, style.backgroundColor, [...new Set(labels.map((one) => getComputedStyle(one).fill))]]"
        )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    for ink, paper, chart in found.values():
        assert contrast(ink, paper) > 7
        assert chart == [ink]
    assert found["light"] != found["dark"]


@pytest.mark.slow
def test_without_scripts_tables_and_pictures_are_there(browser: Chrome, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened(browser, page)
        tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    roles = Counter(node.get("role", {}).get("value") for node in tree if not node["ignored"])
    assert roles["table"] >= 2 * 4 + 2
    assert roles["image"] >= 88 + 10
    assert roles["searchbox"] == 0


def contrast(one: str, other: str) -> float:
    """Contrast of two colours as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = np.array([float(part) / 255 for part in re.findall(r"[0-9.]+", colour)[:3]])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
