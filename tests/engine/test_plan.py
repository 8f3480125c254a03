"""A user's words become cells and shards."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchbox import BenchboxError, ImageSet
from benchbox.engine.engines import engine_of
from benchbox.engine.plan import SHARD_PIXELS, make_plan, make_shards, plan_denoisers
from benchbox.records.options import RECORDED, RunOptions
from benchbox.registry import load_registry


def images(shapes: list[tuple[int, int]]) -> ImageSet:
    return ImageSet(
        dataset="made",
        split="",
        ids=tuple(f"image-{index}" for index in range(len(shapes))),
        shapes=np.array(shapes, dtype=np.int64),
        fingerprint="f" * 32,
        read=lambda indices: np.zeros((len(indices), *shapes[int(indices[0])]), dtype=np.float32),
    )


def test_shards_hold_every_image_once_and_one_size_each() -> None:
    shapes = np.array([(48, 48), (2000, 3000), (48, 48), (48, 64)] * 300)
    shards = make_shards(shapes)
    assert sorted(np.concatenate([shard.indices for shard in shards]).tolist()) == list(range(1200))
    assert [shard.start for shard in shards] == [0, *(shard.stop for shard in shards[:-1])]
    for shard in shards:
        assert (shapes[shard.indices] == shard.size).all()
        assert len(shard.indices) == 1 or len(shard.indices) * shard.size[0] * shard.size[1] <= SHARD_PIXELS


def test_cells_are_denoisers_times_noises() -> None:
    config = RunOptions(("identity", "median:5"), ("gaussian:25/255", "poisson:30+gaussian:0.01"))
    plan = make_plan(config, load_registry(), images([(48, 48)] * 3))
    assert [denoiser.label for denoiser in plan.denoisers] == ["identity", "median:5"]
    assert [one.level_title for one in plan.noises] == [
        "noise standard deviation",
        "peak photons and noise standard deviation",
    ]
    assert [denoiser.spec for denoiser in plan.denoisers] == ["identity", "median:size=5"]
    assert [noise.label for noise in plan.noises] == ["gaussian:25/255", "poisson:30+gaussian:0.01"]
    assert [noise.spec for noise in plan.noises] == [f"gaussian:{25 / 255!r}", "poisson:30+gaussian:0.01"]
    assert len({cell.key for cell in plan.cells}) == len(plan.cells) == 4


def test_images_too_small_for_a_denoiser_are_counted() -> None:
    options = RunOptions(("identity", "dct"), ("gaussian:0.1",))
    for shapes, reason in (
        ([(48, 7), (8, 8)], "needs images of at least 8 pixels a side, but 1 of 2 images is smaller"),
        ([(48, 7), (7, 48), (8, 8)], "needs images of at least 8 pixels a side, but 2 of 3 images are smaller"),
        ([(8, 48), (48, 8)], ""),
    ):
        plan = make_plan(options, load_registry(), images(shapes))
        assert [cell.skipped for cell in plan.cells] == ["", reason]


def test_images_too_small_for_a_metric_are_noted() -> None:
    plan = make_plan(RunOptions(("identity",)), load_registry(), images([(48, 10), (5, 48), (11, 11)]))
    assert plan.notes == (
        "SSIM: no score for images smaller than 11 pixels a side (2 of 3)",
        "GMSD: no score for images smaller than 6 pixels a side (1 of 3)",
    )
    assert not make_plan(RunOptions(("identity",)), load_registry(), images([(11, 12)])).notes


def test_headings_on_colour_images_name_the_variant() -> None:
    options = RunOptions(("identity",), metrics=("psnr", "ssim", "psnr_y", "psnr_y:full", "ssim_3d", "accuracy:4"))
    plan = make_plan(options, load_registry(), replace(images([(48, 48)]), channels=3))
    headings = ["PSNR RGB", "SSIM RGB mean", "PSNR Y", "PSNR Y:full", "SSIM 3D", "accuracy RGB:4"]
    assert [metric.title for metric in plan.metrics] == headings
    assert [metric.spec for metric in plan.metrics[2:4]] == ["psnr_y", "psnr_y:range=full"]


WORST = """
import numpy as np
from benchbox import Metric, hookimpl

class Worst(Metric):
    name = "worst"
    by_default = True

    def __call__(self, clean, denoised):
        return np.abs(clean - denoised).reshape(len(clean), -1).max(axis=1).astype(np.float64)

class WorstColour(Worst):
    name = "worst_colour"
    channels = "rgb"

@hookimpl
def benchbox_metrics():
    return [WorstColour, Worst]
"""


def test_a_run_computes_the_metrics_that_say_so_also_those_of_plugins(tmp_path: Path) -> None:
    plugin = tmp_path / "worst.py"
    plugin.write_text(WORST)
    registry, grey = load_registry([plugin]), images([(48, 48)])

    def metrics(chosen: ImageSet) -> list[str]:
        return [metric.spec for metric in make_plan(RunOptions(("identity",)), registry, chosen).metrics]

    built_in = ["psnr", "ssim", "mse", "mae", "gmsd", "accuracy"]
    assert [name.partition(":")[0] for name in metrics(grey)] == [*built_in, "worst"]
    assert metrics(replace(grey, channels=3))[-2:] == ["worst_colour", "worst"]
    noisy = RunOptions(("identity",), (RECORDED,))
    (metric,) = make_plan(noisy, registry, replace(grey, read_noisy=grey.read), has_clean=False).metrics
    assert metric.spec == "psnr_sure"


LABELLED = """
import numpy as np
from benchbox import LabelMetric, Metric, hookimpl

class Right(LabelMetric):
    name = "right"
    label = "emotion"

    def against(self, labels, denoised):
        return (labels == 3).astype(np.float64)

class Face(Metric):
    name = "face"
    image_size = (48, 48)

    def __call__(self, clean, denoised):
        return np.ones(len(clean))

@hookimpl
def benchbox_metrics():
    return [Right, Face]
"""


def test_a_metric_that_cannot_score_the_images_is_skipped_with_the_reason(tmp_path: Path) -> None:
    plugin = tmp_path / "labelled.py"
    plugin.write_text(LABELLED)
    registry, large = load_registry([plugin]), images([(50, 48), (40, 40)])
    plan = make_plan(RunOptions(("identity",), metrics=("psnr", "right", "face")), registry, large)
    assert [metric.spec for metric in plan.metrics] == ["psnr"]
    assert plan.notes == (
        "right: skipped, because these images of 'made' have no label 'emotion'",
        "face: skipped, because it takes images of 48 x 48 pixels only",
    )
    for metric, reason in (("right", "have no label 'emotion'"), ("face", "48 x 48 pixels only")):
        with pytest.raises(BenchboxError, match=reason):
            make_plan(RunOptions(("identity",), metrics=(metric,)), registry, large)
    mixed = replace(images([(48, 48), (40, 40)]), labels={"emotion": np.array([3, 4])})
    plan = make_plan(RunOptions(("identity",), metrics=("right", "face")), registry, mixed)
    assert [metric.spec for metric in plan.metrics] == ["right", "face"]
    assert plan.notes == ("face: no score for images that are not 48 x 48 pixels (1 of 2)",)


@pytest.mark.parametrize("metric", ["psnr_y", "ssim_3d"])
def test_a_metric_for_colour_is_refused_on_grey_images(metric: str) -> None:
    with pytest.raises(BenchboxError, match=f"{metric} scores colour images, but these are grey") as caught:
        make_plan(RunOptions(("identity",), metrics=("psnr", metric)), load_registry(), images([(48, 48)]))
    assert caught.value.hint == f"omit {metric}, or use colour images with --color rgb"


def test_a_cell_is_known_by_its_content_and_never_by_order() -> None:
    registry = load_registry()
    one = make_plan(RunOptions(("identity", "median"), ("gaussian:0.1", "poisson:30")), registry, images([(48, 48)]))
    other = make_plan(RunOptions(("median", "identity"), ("poisson:30", "gaussian:0.1")), registry, images([(48, 48)]))
    assert {cell.key for cell in one.cells} == {cell.key for cell in other.cells}
    median = RunOptions(("median",), ("gaussian:0.1",))
    for options in (
        replace(median, seed=1),
        replace(median, clip=True),
        replace(median, quantize=True),
        replace(median, sigma="none"),
    ):
        changed = make_plan(options, registry, images([(48, 48)]))
        assert changed.cells[0].key not in {cell.key for cell in one.cells}


def test_a_bare_run_takes_every_denoiser() -> None:
    registry = load_registry()
    plan = make_plan(RunOptions(), registry, images([(48, 48)]))
    unasked = {name for name, entry in registry.denoisers.items() if entry.cls.default_rows == ()}
    assert {denoiser.label.partition(":")[0] for denoiser in plan.denoisers} == set(registry.denoisers) - unasked
    assert {"identity", "bm3d_lite", "unet"} & unasked == set()
    assert "command" in unasked, "a program that nobody named cannot be run"


def test_two_spellings_of_a_thing_are_one_that_keeps_the_first() -> None:
    config = RunOptions(("median:3", "median:size=3", "median:3"), ("gaussian:1/10", "gaussian:0.1", "gaussian"))
    plan = make_plan(replace(config, metrics=("accuracy:8", "accuracy")), load_registry(), images([(48, 48)]))
    assert [(one.label, one.spec) for one in plan.denoisers] == [("median:3", "median:size=3")]
    assert [(one.label, one.spec) for one in plan.noises] == [("gaussian:1/10", "gaussian:0.1")]
    assert [(one.label, one.spec) for one in plan.metrics] == [("accuracy:8", "accuracy")]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RunOptions(("medain",)), "no denoiser 'medain'"),
        (RunOptions(("median",), ("gausian:0.1",)), "no noise model 'gausian'"),
        (RunOptions(("median",), ("gaussian:-1",)), "sigma"),
        (RunOptions(("median",), metrics=("psrn",)), "no metric 'psrn'"),
        (RunOptions(("median:size=four",)), "size=four is not a whole number"),
        (RunOptions(("median:size=-1",)), "size"),
    ],
)
def test_a_mistake_is_found_before_anything_runs(config: RunOptions, message: str) -> None:
    with pytest.raises(BenchboxError, match=message):
        make_plan(config, load_registry(), images([(48, 48)]))


def test_the_options_of_a_row_may_narrow_what_its_class_declares() -> None:
    specs = ('command:run="cp {in} {out}"', 'command:run="denoise {in} {out} {sigma}"')
    records = plan_denoisers(specs, load_registry())
    assert [record.sigma_use for record in records] == ["unused", "optional"]
    assert all(record.starts_programs for record in records)
    assert not plan_denoisers(("median",), load_registry())[0].starts_programs


def test_a_missing_engine_is_installed_from_its_own_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "benchbox_tide-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: benchbox-tide\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[benchbox.engines]\ntide = no_such_package:Engine\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "benchbox.engine.cluster.dask_engine", None)
    for name, needed in (("tide", "benchbox-tide"), ("dask", '"benchbox-denoise[dask]"')):
        with pytest.raises(BenchboxError, match=f"engine '{name}' cannot be imported") as caught:
            engine_of(RunOptions(engine=name))
        assert caught.value.hint == f"install what it needs: pip install {needed}"
