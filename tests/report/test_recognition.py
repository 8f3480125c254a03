"""What a classifier recognises: shares by class, which for which, what is worse than noise, and what predicts it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_records import PSNR, make_record, metric
from numpy.typing import NDArray
from scipy.stats import kendalltau

from benchbox.records.run import DataRecord, RunRecord
from benchbox.report.columns import recognition_columns
from benchbox.report.recognition import Recognition, recognition_notes, recognition_title, recognitions
from benchbox.stats.ranking import kendall_tau
from benchbox.store import class_columns

NAMES = "happy", "sad", "fear"
KEPT = replace(metric("kept"), proportion=True, class_names=NAMES)
ROWS = "good", "fair", "bad", "identity"
CLEAN, DENOISED = class_columns("kept")
IMAGES = 300


def record_of(images: int = IMAGES, label_names: tuple[str, ...] = (*NAMES, "other")) -> RunRecord:
    data = DataRecord("faces", "test", images, "48x48", "0123456789abcdef", label_names={"mood": label_names})
    return make_record(ROWS, metrics=(PSNR, KEPT), images=images, data=data)


def drawn(repeats: int = 1) -> tuple[dict[str, dict[str, NDArray[np.generic]]], NDArray[np.int64]]:
    """Scores of rows that change 10, 30, 60 and 40 % of the classes, and labels of which every fifth is wrong."""
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 3, (IMAGES, 1)).repeat(repeats, axis=1)
    rows = {}
    for place, (name, share) in enumerate(zip(ROWS, (0.1, 0.3, 0.6, 0.4), strict=True)):
        changed = rng.random(clean.shape) < share
        seen = np.where(changed, (clean + rng.integers(1, 3, clean.shape)) % 3, clean)
        kept = (seen == clean).mean(axis=1)
        rows[name] = {CLEAN: clean, DENOISED: seen, "kept": kept, "psnr": np.full(IMAGES, 30.0 - place)}
    labels = np.where(rng.random(IMAGES) < 0.2, (clean[:, 0] + 1) % 3, clean[:, 0])
    return rows, labels


def found(repeats: int = 1) -> Recognition:
    rows, labels = drawn(repeats)
    (recognition,) = recognitions(record_of(), rows, {"label_mood": labels}, None)
    return recognition


@pytest.mark.parametrize("repeats", [1, 3])
def test_shares_are_those_counted_by_hand(repeats: int) -> None:
    (rows, labels), recognition = drawn(repeats), found(repeats)
    assert recognition.label == "mood"
    assert [row.denoiser for row in recognition.rows] == ["clean", "good", "fair", "identity", "bad"]
    assert recognition.ceiling is not None
    assert recognition.ceiling.right == pytest.approx(np.mean(rows["good"][CLEAN][:, 0] == labels))
    assert recognition.images == tuple(np.bincount(labels).tolist())
    for row in recognition.rows[1:]:
        clean, seen = rows[row.denoiser][CLEAN], rows[row.denoiser][DENOISED]
        right = seen == labels[:, np.newaxis]
        assert row.kept == pytest.approx(rows[row.denoiser]["kept"].mean())
        assert row.right == pytest.approx(right.mean())
        assert row.by_class == pytest.approx([right[labels == number].mean() for number in range(3)])
        confusion = np.array(row.confusion)
        assert confusion.sum() == IMAGES * repeats
        assert confusion[0, 1] == ((clean == 0) & (seen == 1)).sum()


def test_only_rows_that_lose_more_than_the_noise_are_below_it() -> None:
    recognition = found()
    assert [row.denoiser for row in recognition.rows if row.below_floor] == ["bad"]
    notes = " | ".join(recognition_notes(recognition))
    assert "KEPT: most by good, " in notes
    assert "significantly less than on the noisy images with bad" in notes
    assert recognition.tau == {"PSNR": pytest.approx(4 / 6)}


def test_the_best_row_of_each_class_is_marked_but_neither_ceiling_nor_floor() -> None:
    marked = {row.denoiser: row.best for row in found().rows}
    assert {"kept", "right", "class_0", "class_1", "class_2"} <= set(marked["good"])
    assert marked["clean"] == marked["identity"] == ()


def test_a_class_that_no_row_recognises_has_no_best_row() -> None:
    rows, labels = drawn()
    for columns in rows.values():
        columns[DENOISED][labels == 2] = 0
    (recognition,) = recognitions(record_of(), rows, {"label_mood": labels}, None)
    assert all("class_2" not in row.best for row in recognition.rows)
    assert any("class_1" in row.best for row in recognition.rows)


def test_images_with_another_label_and_without_a_class_count_for_neither() -> None:
    rows, labels = drawn()
    labels[:50] = 3  # other
    for columns in rows.values():
        columns[CLEAN][50:80] = columns[DENOISED][50:80] = -1  # of another size
    (recognition,) = recognitions(record_of(), rows, {"label_mood": labels}, None)
    good = recognition.rows[1]
    seen = rows["good"][DENOISED][:, 0]
    assert good.right == pytest.approx((seen[80:] == labels[80:]).mean())
    assert sum(recognition.images) == IMAGES - 80
    assert np.sum(good.confusion) == IMAGES - 30


def test_without_fitting_labels_images_are_grouped_by_the_class_of_the_clean_one() -> None:
    rows, labels = drawn()
    for images, names in (({}, NAMES), ({"label_mood": labels}, ("red", "green", "blue"))):
        (recognition,) = recognitions(record_of(label_names=names), rows, images, None)
        assert recognition.label == ""
        assert recognition.ceiling is None
        clean, kept = rows["good"][CLEAN][:, 0], rows["good"]["kept"]
        assert recognition.rows[0].by_class == pytest.approx([kept[clean == number].mean() for number in range(3)])
        assert math.isnan(recognition.rows[0].right)
        assert "right" not in [column.key for column in recognition_columns(recognition)]
        assert "as in the clean image, by class" in recognition_title(recognition)


def test_unnamed_classes_get_numbers_and_very_many_are_left_out() -> None:
    rows, _ = drawn()
    unnamed = replace(record_of(), metrics=(PSNR, replace(KEPT, class_names=())))
    assert recognitions(unnamed, rows, {}, None)[0].classes == ("0", "1", "2")
    many = {name: columns | {DENOISED: columns[DENOISED] + 20} for name, columns in rows.items()}
    assert recognitions(unnamed, many, {}, None) == ()
    assert recognitions(record_of(), many, {}, None) == ()  # more classes than names


def test_columns_of_a_foreign_run_that_are_no_classes_are_ignored() -> None:
    rows, _ = drawn()
    unnamed = replace(record_of(), metrics=(PSNR, replace(KEPT, class_names=())))
    for record in (record_of(), unnamed):
        for wrong in (np.full((IMAGES, 1), 2**31 - 1), np.full((IMAGES, 1), -7)):
            assert recognitions(record, {**rows, "bad": rows["bad"] | {DENOISED: wrong}}, {}, None) == ()
        floats = rows["bad"] | {CLEAN: np.full((IMAGES, 1), np.nan)}
        (recognition,) = recognitions(record, {**rows, "bad": floats}, {}, None)
        assert "bad" not in [row.denoiser for row in recognition.rows]


def test_rows_without_classes_are_left_out() -> None:
    rows, labels = drawn()
    without = {name: {"psnr": columns["psnr"], "kept": columns["kept"]} for name, columns in rows.items()}
    assert recognitions(record_of(), without, {"label_mood": labels}, None) == ()
    (recognition,) = recognitions(record_of(), {**rows, "bad": {}}, {"label_mood": labels}, None)
    assert [row.denoiser for row in recognition.rows] == ["clean", "good", "fair", "identity"]
    assert recognition.tau == {}  # three rows are too few


def test_kendalls_tau_is_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    for size in (2, 5, 14):
        first, second = rng.integers(0, 6, size).astype(float), rng.random(size)
        second[: size // 3] = 0.5
        expected = kendalltau(first, second).statistic
        assert kendall_tau(first, second) == pytest.approx(expected, nan_ok=True)
    assert math.isnan(kendall_tau(np.ones(4), np.arange(4.0)))
