"""`benchbox data`: what it says of real files, as words and as JSON, and the picture it draws."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from benchbox import BenchboxError
from benchbox.builtin.datasets.sample import Sample
from benchbox.cli.main import cli
from benchbox.report.figures.gallery import GROUPS, THUMB, write_contact_sheet

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHBOX_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiles() -> NDArray[np.uint8]:
    images = Sample().load(None)
    return np.rint(images.stack(np.arange(1, 31)) * 255).astype(np.uint8)


@pytest.fixture
def csv(tmp_path: Path, tiles: NDArray[np.uint8]) -> Path:
    """Training 00002 and 00007 are identical; PublicTest 00003 is Training 00004 mirrored; 00004 repeats 00001."""
    training = [*tiles[:7], tiles[2]]
    test = [tiles[20], tiles[21], tiles[22], tiles[4][:, ::-1], (tiles[21] * 0.8).astype(np.uint8)]
    rows = [("Training", one) for one in training] + [("PublicTest", one) for one in test]
    lines = [f"{n % 7},{' '.join(map(str, one.ravel().tolist()))},{usage}" for n, (usage, one) in enumerate(rows)]
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join(["emotion,pixels,Usage", *lines, ""]), encoding="ascii")
    return path


def data(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["data", *map(str, arguments)], catch_exceptions=False)


def said(*arguments: str | Path) -> str:
    result = data(*arguments)
    assert result.exit_code == 0
    return result.stdout


def test_info_names_splits_sizes_labels_and_what_is_missing(csv: Path) -> None:
    text = said("info", csv)
    assert text.startswith("fer2013  48x48 grey faces")
    assert "Training  8 images, 48x48\n" in text
    assert "emotion: angry 2, disgust 1, fear 1, happy 1, sad 1, surprise 1, neutral 1\n" in text
    assert f"PrivateTest: not available ({csv} has no faces in split PrivateTest)" in text
    assert text.endswith(f"Example: benchbox run --data {csv} --split PublicTest\n")
    values = json.loads(said("info", csv, "--format", "json"))
    assert [(one["split"], one["images"], one["sizes"]) for one in values["splits"]] == [
        ("Training", 8, "48x48"),
        ("PublicTest", 5, "48x48"),
    ]
    assert values["splits"][1]["labels"] == {"emotion": {"disgust": 1, "fear": 1, "happy": 1, "sad": 1, "surprise": 1}}
    assert values["splits"][0]["fingerprint"] in text


def test_info_of_a_folder_and_of_the_sample(tmp_path: Path, tiles: NDArray[np.uint8]) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), tiles[0])
    cv2.imwrite(str(folder / "b.png"), np.stack([tile[:20] for tile in tiles[1:4]], axis=2))
    text = said("info", folder)
    assert "all images  2 images, 2 sizes from 20x48 to 48x48" in text
    assert "note: colour: 1 of 2 images" in text
    assert text.endswith(f"Example: benchbox run --data {folder}\n")
    assert said("info").endswith("Example: benchbox run\n")


def test_audit_counts_lists_and_says_what_to_do(csv: Path) -> None:
    text = said("audit", csv)
    assert text.startswith("fer2013: 13 images compared\n")
    assert "Training  8 images, 3 with duplicates, 1 that repeat an earlier image\n" in text
    assert (
        "PublicTest  5 images, 3 with duplicates, 1 with a duplicate in Training, 1 more that repeat an earlier image; "
        "a run leaves out 0\n" in text
    )
    assert "3 groups: 1 of identical images, 2 of near duplicates" in text
    assert "  2 identical: Training/00002, Training/00007\n" in text
    assert re.search(r"  2 near, (1\.00|0\.9\d) mirrored: Training/00004, PublicTest/00003\n", text)


def test_audit_of_one_split_shows_its_groups_first_names_first(csv: Path) -> None:
    text = said("audit", csv, "--split", "PublicTest")
    assert "2 groups with an image of PublicTest" in text
    assert "PublicTest/00003, Training/00004" in text
    assert "identical:" not in text
    with pytest.raises(BenchboxError, match="has no split 'PublicTset'") as caught:
        data("audit", csv, "--split", "PublicTset")
    assert "PublicTest" in caught.value.hint


def test_audit_as_json_has_every_group(csv: Path) -> None:
    values = json.loads(said("audit", csv, "--format", "json"))
    assert values["splits"][1] == {
        "split": "PublicTest",
        "images": 5,
        "in_groups": 3,
        "in_training": 1,
        "repeated": 1,
        "left_out": 0,
    }
    found = {tuple(image["id"] for image in one["images"]): (one["kind"], one["mirrored"]) for one in values["groups"]}
    assert found == {
        ("Training/00002", "Training/00007"): ("identical", False),
        ("Training/00004", "PublicTest/00003"): ("near", True),
        ("PublicTest/00001", "PublicTest/00004"): ("near", False),
    }


def test_audit_without_duplicates_says_so(tmp_path: Path, tiles: NDArray[np.uint8]) -> None:
    for place in range(3):
        cv2.imwrite(str(tmp_path / f"{place}.png"), tiles[place])
    text = said("audit", tmp_path)
    assert "all images  3 images, 0 with duplicates, 0 that repeat an earlier image\n" in text
    assert text.endswith("no duplicates\n")


def test_the_picture_shows_each_group_the_least_alike_first(csv: Path, tiles: NDArray[np.uint8]) -> None:
    picture = csv.with_name("duplicates.png")
    result = data("audit", csv, "--picture", picture)
    assert f"picture: {picture}, 3 of 3 groups, the least similar first" in result.stderr
    sheet = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    assert sheet is not None
    thumbs = [sheet[12 : 12 + THUMB, left : left + THUMB] for left in (0, THUMB)]
    last = 2 * (2 * THUMB + 6)
    identical = [sheet[12 : 12 + THUMB, left : left + THUMB] for left in (last, last + THUMB)]
    np.testing.assert_array_equal(identical[0], identical[1])
    expected = cv2.resize(tiles[2].astype(np.float32), (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    assert np.abs(identical[0] - expected).max() <= 1
    assert (thumbs[0] != thumbs[1]).any()
    with pytest.raises(BenchboxError, match="cannot write"):
        data("audit", csv, "--picture", csv.parent / "missing" / "sheet.png")


def test_the_picture_shows_colour(tmp_path: Path) -> None:
    images = Sample("rgb").load(None)
    write_contact_sheet(tmp_path / "sheet.png", [images], [("two", [3, 4])])
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    expected = cv2.resize(images.stack(np.array([4]))[0], (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    found = sheet[12 : 12 + THUMB, THUMB : 2 * THUMB, ::-1]
    assert np.abs(found - 255 * expected).max() <= 0.51


def test_a_contact_sheet_is_bounded(tmp_path: Path) -> None:
    groups = [(f"{place}", [0, 1]) for place in range(GROUPS + 5)]
    assert write_contact_sheet(tmp_path / "sheet.png", [Sample().load(None)], groups) == GROUPS


def test_the_command_is_listed_and_help_has_examples(benchbox: Command) -> None:
    assert "Describe a data set" in benchbox("--help").stdout
    for name in ("info", "audit"):
        assert f"benchbox data {name} fer2013.csv" in benchbox("data", name, "--help").stdout
