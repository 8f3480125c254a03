"""Two runs side by side: what is paired, what is refused, and the gates."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from made_records import ENVIRONMENT, MSE, PSNR, changed, make_record
from numpy.typing import NDArray
from rich.console import Console

from benchbox.api.errors import BenchboxError
from benchbox.cli.reports import compare as command
from benchbox.engine.merge import merge_runs
from benchbox.records.run import Calibration, Cell, DataRecord, Outcome, PluginSpec, Provider, Timing
from benchbox.report.compare import ComparedRow, RunComparison, compare_runs
from benchbox.report.compare_export import TerminalComparison, render_comparison
from benchbox.report.gates import SPEED_FIGURES, check_gates, parse_gate
from benchbox.store import RunStore

IMAGES = 80
ROWS = {"image": np.arange(IMAGES, dtype=np.int32), "repeat": np.zeros(IMAGES, np.int32)}


def make_run(
    folder: Path,
    number: int,
    gains: dict[str, float],
    ids: range = range(IMAGES),
    speed: float = 1.0,
    jitter: float = 0.0,
    kernel_ms: float | None = None,
    **changes: Any,
) -> RunStore:
    """Make a run on disk; the scores of an image hang on its id alone and on the gain of the denoiser."""
    noise = "gaussian:0.1"
    record = make_record(
        gains,
        metrics=(PSNR, MSE),
        run_id=f"2026010{number}-030405-000abcd",
        data=DataRecord("fer2013", "PublicTest", len(ids), "48x48", f"{ids}"),
        cells=tuple(Cell(f"{number}{place:015x}", label, noise) for place, label in enumerate(gains)),
    )
    record = changed(record, **changes)
    store = RunStore.create(folder, record, {"id": np.array([f"i{number:05d}" for number in ids])})
    for cell in record.cells:
        for repeat in range(record.protocol.repeats):
            columns = scores_of(gains[cell.denoiser] + 0.1 * repeat, ids, jitter)
            columns["image"], columns["repeat"] = (
                np.arange(len(ids), dtype=np.int32),
                np.full(len(ids), repeat, np.int32),
            )
            store.write_shard(cell.key, repeat * len(ids), (repeat + 1) * len(ids), columns)
        store.write_outcome(cell.key, Outcome("ok", noise_level="blind", images=len(ids)))
    for label in gains:
        samples = {1: [2.0 * speed] * 40, 64: [50.0 * speed] * 20}
        kernel = Calibration(1, [kernel_ms / 4] * 9, [kernel_ms * 4] * 9) if kernel_ms else None
        timing = Timing("ok", "", (48, 48), noise, 1, 64, 0.1, 0.1, 0.1, 10.0, 1, samples, kernel)
        store.write_timing(label, timing)
    return RunStore.open(store.folder)


def scores_of(gain: float, ids: range, jitter: float = 0.0) -> dict[str, NDArray[Any]]:
    everything = np.random.default_rng(0).normal(22, 2, 1000)[list(ids)]
    noisy = np.random.default_rng(1).uniform(0.0099, 0.0101, 1000)[list(ids)]
    psnr = everything + gain + np.random.default_rng(2).normal(0, 1, 1000)[list(ids)] * jitter
    return {"psnr": psnr, "mse": 10 ** (-psnr / 10), "noisy_mse": noisy}


def row_of(comparison: RunComparison, denoiser: str) -> ComparedRow:
    return next(row for row in comparison.rows if row.denoiser == denoiser)


def two_runs(folder: Path) -> tuple[RunStore, RunStore]:
    """A run, and a later one in which one denoiser lost 0.2 dB and all are a fifth slower."""
    before = make_run(folder, 1, {"identity": 0.0, "median": 4.0, "wiener": 5.0})
    after = make_run(folder, 2, {"identity": 0.0, "median": 3.8, "wiener": 5.0}, speed=1.2, jitter=0.02)
    return before, after


@pytest.fixture
def runs(tmp_path: Path) -> tuple[RunStore, RunStore]:
    return two_runs(tmp_path)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> RunComparison:
    """The comparison of those two runs."""
    return compare_runs(*two_runs(tmp_path_factory.mktemp("compared")))


def test_differences_are_paired(runs: tuple[RunStore, RunStore]) -> None:
    comparison = compare_runs(*runs)
    change = row_of(comparison, "median").changes["psnr"]
    assert change.difference == pytest.approx(-0.2, abs=0.01)
    assert change.low < change.difference < change.high
    # The images differ by 2 dB; paired, they say no more than the jitter of 0.02 dB does.
    assert change.high - change.low < 0.02
    assert change.apart
    assert change.images == IMAGES
    assert row_of(comparison, "median").best == ("psnr", "mse")
    assert not row_of(comparison, "wiener").changes["psnr"].apart


def test_a_run_compares_to_itself_without_a_difference(runs: tuple[RunStore, RunStore]) -> None:
    for row in compare_runs(runs[0], runs[0]).rows:
        change = row.changes["psnr"]
        assert (change.difference, change.p, change.apart) == (0, 1, False)


def test_only_images_of_both_runs_are_compared(tmp_path: Path) -> None:
    before = make_run(tmp_path, 1, {"median": 4.0}, ids=range(60))
    after = make_run(tmp_path, 2, {"median": 4.5}, ids=range(20, 100))
    comparison = compare_runs(before, after)
    assert comparison.images == 40
    change = row_of(comparison, "median").changes["psnr"]
    assert change.images == 40
    assert change.difference == pytest.approx(0.5)
    assert change.before == pytest.approx(scores_of(4.0, range(20, 60))["psnr"].mean())


def test_several_noises_an_image_count_as_one_image(tmp_path: Path) -> None:
    before = make_run(tmp_path, 1, {"median": 4.0}, repeats=3)
    after = make_run(tmp_path, 2, {"median": 4.5}, repeats=3)
    change = row_of(compare_runs(before, after), "median").changes["psnr"]
    assert change.images == IMAGES
    assert change.before == pytest.approx(scores_of(4.1, range(IMAGES))["psnr"].mean())
    assert change.difference == pytest.approx(0.5)


def with_scores(store: RunStore, label: str, values: NDArray[np.float64]) -> None:
    """Write other scores of a denoiser into a run."""
    cell = next(cell for cell in store.record.cells if cell.denoiser == label)
    store.write_shard(cell.key, 0, IMAGES, ROWS | scores_of(4.0, range(IMAGES)) | {"psnr": values})


def test_an_image_that_is_exact_no_more_is_a_loss_and_fails_a_gate(runs: tuple[RunStore, RunStore]) -> None:
    textured = scores_of(4.0, range(IMAGES))["psnr"]
    for store, flat in zip(runs, (np.inf, 20.0), strict=True):
        with_scores(store, "median", np.where(np.arange(IMAGES) % 2 == 0, flat, textured))
    comparison = compare_runs(*runs)
    change = row_of(comparison, "median").changes["psnr"]
    assert (change.difference, change.images) == (-40.0, IMAGES)
    assert change.apart
    (breach,) = check_gates([parse_gate("psnr < -0.05 dB significant", comparison)], comparison)
    assert (breach.denoiser, breach.found) == ("median", "-40")


def test_images_without_a_score_are_left_out_of_every_row_and_fail_a_gate(runs: tuple[RunStore, RunStore]) -> None:
    psnr = scores_of(4.0, range(IMAGES))["psnr"]
    with_scores(runs[1], "median", np.where(np.arange(IMAGES) < 5, np.nan, psnr + 3))
    comparison = compare_runs(*runs)
    for row in comparison.rows:
        if row.changes:
            assert row.changes["psnr"].images == IMAGES - 5
    assert "median on gaussian:0.1: 5 images left out, because a run has no score" in shown(comparison)
    (breach,) = check_gates([parse_gate("psnr < -0.5 dB", comparison)], comparison)
    assert (breach.denoiser, breach.found) == ("median", "psnr is no longer finite on 5 images")


@pytest.mark.parametrize(("gain", "failing"), [(0.04, False), (-0.04, False), (-0.5, True)])
def test_a_significant_gate_fails_only_for_what_is_not_chance(tmp_path: Path, gain: float, failing: bool) -> None:
    runs = (make_run(tmp_path, 1, {"median": 4.0}), make_run(tmp_path, 2, {"median": 4.0}))
    noise = np.random.default_rng(0).normal(0, 0.5, IMAGES)
    psnr = scores_of(4.0, range(IMAGES))["psnr"]
    with_scores(runs[0], "median", psnr)
    with_scores(runs[1], "median", psnr + gain + noise - noise.mean())
    comparison = compare_runs(*runs)
    assert row_of(comparison, "median").changes["psnr"].apart == failing
    assert bool(check_gates([parse_gate("psnr < 0 significant", comparison)], comparison)) == failing
    assert bool(check_gates([parse_gate("psnr < 0", comparison)], comparison)) == (gain < 0)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"clip": True}, "protocol"),
        ({"seed": 1}, "seed"),
        ({"data": DataRecord("images", "PublicTest", IMAGES, "48x48", "")}, "data set"),
        ({"data": DataRecord("fer2013", "Training", IMAGES, "48x48", "")}, "split"),
        (
            {"metrics": (replace(PSNR, plugin=PluginSpec(Provider("file", "/mine.py"), "psnr")), MSE)},
            "metric 'psnr'",
        ),
    ],
)
def test_what_does_not_compare_is_refused(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    before = make_run(tmp_path, 1, {"median": 4.0})
    after = make_run(tmp_path, 2, {"median": 4.0}, **changes)
    with pytest.raises(BenchboxError, match=f"are not comparable: {word}"):
        compare_runs(before, after)


def test_runs_without_a_common_image_are_refused(tmp_path: Path) -> None:
    before = make_run(tmp_path, 1, {"median": 4.0}, ids=range(40))
    after = make_run(tmp_path, 2, {"median": 4.0}, ids=range(40, 80))
    with pytest.raises(
        BenchboxError, match=r"on fer2013 and .* on fer2013 are not comparable: they have no image in common"
    ):
        compare_runs(before, after)


def test_other_images_of_the_same_name_are_refused(runs: tuple[RunStore, RunStore]) -> None:
    store = runs[1]
    columns = scores_of(3.8, range(IMAGES))
    columns["noisy_mse"][7] *= 1 + 1e-7
    store.write_shard(store.record.cells[1].key, 0, IMAGES, ROWS | columns)
    with pytest.raises(BenchboxError, match="images with equal names have different content"):
        compare_runs(*runs)


def test_runs_without_a_common_row_are_refused(tmp_path: Path) -> None:
    before, after = make_run(tmp_path, 1, {"median": 4.0}), make_run(tmp_path, 2, {"wiener": 4.0})
    with pytest.raises(BenchboxError, match="no row in common"):
        compare_runs(before, after)


def test_an_unknown_metric_is_refused(runs: tuple[RunStore, RunStore]) -> None:
    with pytest.raises(BenchboxError, match="metric 'ssim' is not in both runs"):
        compare_runs(*runs, metric="ssim")


@pytest.mark.parametrize(
    ("gate", "failing"),
    [
        ("psnr < -0.05 dB", {"median"}),
        ("psnr<-0.05", {"median"}),
        ("psnr < -0.5 dB", set()),
        ("psnr < -0.5%", {"median"}),
        ("mse > 3%", {"median"}),
        ("latency_p50 > +10%", {"identity", "median", "wiener"}),
        ("latency_p50 > 0.5 ms", set()),
        ("latency_p50 >= 0.3 ms", {"identity", "median", "wiener"}),
        ("throughput < -10 %", {"identity", "median", "wiener"}),
        ("throughput < -20 %", set()),
    ],
)
def test_gates(comparison: RunComparison, gate: str, failing: set[str]) -> None:
    breaches = check_gates([parse_gate(gate, comparison)], comparison)
    assert {breach.denoiser for breach in breaches} == failing


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("psnr", "cannot read the gate"),
        ("psnr < much", "cannot read the gate"),
        ("psnr = 3", "cannot read the gate"),
        ("pnsr < 1", "'pnsr' is not in both runs"),
        ("psnr < 1 ms", "the unit of psnr is 'dB' or '%', not 'ms'"),
        ("psnr < 30 dB", "it fails even if nothing changes"),
        ("psnr < 0.05 dB", "it fails even if nothing changes"),
        ("psnr <= 0", "it fails even if nothing changes"),
        ("psnr > -1%", "it fails even if nothing changes"),
        ("latency_p50 > -5%", "it fails even if nothing changes"),
        ("latency_p50 > 5% significant", "only metrics are tested"),
        ("mse < 1 dB", "the unit of mse is '%' or none"),
    ],
)
def test_gates_that_cannot_be_held_are_refused(comparison: RunComparison, gate: str, message: str) -> None:
    with pytest.raises(BenchboxError, match=message):
        parse_gate(gate, comparison)


def test_a_row_that_was_lost_fails_every_gate(runs: tuple[RunStore, RunStore]) -> None:
    store = runs[1]
    store.write_outcome(store.record.cells[1].key, Outcome("failed", reason="ValueError: no"))
    comparison = compare_runs(*runs)
    breaches = check_gates([parse_gate("psnr < -9", comparison)], comparison)
    assert [(one.denoiser, one.found) for one in breaches] == [
        ("median", f"failed in run {store.record.run_id}: ValueError: no")
    ]


def test_a_row_that_the_second_run_leaves_out_fails_every_gate(tmp_path: Path) -> None:
    before = make_run(tmp_path, 1, {"median": 4.0, "wiener": 1.0})
    after = make_run(tmp_path, 2, {"median": 4.0})
    comparison = compare_runs(before, after)
    breaches = check_gates([parse_gate("psnr < -9", comparison)], comparison)
    assert [(one.denoiser, one.found) for one in breaches] == [("wiener", f"not in run {after.record.run_id}")]


def test_a_row_that_is_new_fails_no_gate(tmp_path: Path) -> None:
    before = make_run(tmp_path, 1, {"median": 4.0})
    after = make_run(tmp_path, 2, {"median": 4.0, "wiener": 1.0})
    comparison = compare_runs(before, after)
    assert check_gates([parse_gate("psnr < -0.05 dB", comparison)], comparison) == ()
    assert row_of(comparison, "wiener").reason == f"not in run {before.record.run_id}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"environment": replace(ENVIRONMENT, cpu="Another CPU")},
            "the machines differ: Example CPU, 2 cores and Another CPU, 2 cores",
        ),
        ({"environment": replace(ENVIRONMENT, cores=4)}, "the machines differ"),
    ],
)
def test_latencies_of_two_machines_are_not_compared(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    before = make_run(tmp_path, 1, {"median": 4.0})
    comparison = compare_runs(before, make_run(tmp_path, 2, {"median": 4.0}, **changes))
    assert comparison.speed_caveat.startswith(reason)
    assert "p50" not in shown(comparison)
    with pytest.raises(BenchboxError, match="is not comparable: the machines differ"):
        parse_gate("latency_p50 > 10%", comparison)
    assert parse_gate("psnr < 0", comparison).figure == "psnr"


ANOTHER = replace(ENVIRONMENT, cpu="Another CPU")


@pytest.fixture
def machines(tmp_path: Path) -> RunComparison:
    """Runs of two machines: the second is half as fast, and one denoiser lost more than that on it."""
    before = make_run(tmp_path, 1, {"median": 4.0, "wiener": 5.0}, kernel_ms=0.5)
    after = make_run(tmp_path, 2, {"median": 4.0, "wiener": 5.0}, kernel_ms=1.0, speed=2.0, environment=ANOTHER)
    slow = {1: [5.0] * 40, 64: [125.0] * 20}
    after.write_timing("wiener", replace(after.timings()["wiener"], samples_ms=slow))
    return compare_runs(before, after)


def test_latencies_of_two_machines_compare_through_the_calibration_kernel(machines: RunComparison) -> None:
    assert machines.normalised
    table = render_comparison(machines, (), "markdown").splitlines()
    (median,) = (line for line in table if line.startswith("| median"))
    (wiener,) = (line for line in table if line.startswith("| wiener"))
    assert median.endswith("| 2.00 | 4.00 | +0.0 |")
    assert wiener.endswith("| 2.00 | 5.00 | +25.0 |")
    text = " ".join(shown(machines).split())
    assert "the machines differ: Example CPU, 2 cores and Another CPU, 2 cores, so p50 changes" in text
    assert "normalised" in shown(machines, 100).split("gaussian:0.1")[1].split("median")[0]


@pytest.mark.parametrize(
    ("gate", "failing"),
    [
        ("latency_p50 > +10%", {"wiener": "+25 %"}),
        ("latency_p90 > +26%", {}),
        ("throughput < -10%", {"wiener": "-20 %"}),
        ("throughput < -21%", {}),
    ],
)
def test_gates_on_speed_hold_over_machines_what_is_normalised(
    machines: RunComparison, gate: str, failing: dict[str, str]
) -> None:
    breaches = check_gates([parse_gate(gate, machines)], machines)
    found = {name: f"{words}, normalised by the calibration kernel" for name, words in failing.items()}
    assert {one.denoiser: one.found for one in breaches} == found


def test_a_gate_on_p99_fails_without_the_samples_for_it(machines: RunComparison) -> None:
    breaches = check_gates([parse_gate("latency_p99 > +26%", machines)], machines)
    assert {one.denoiser: one.found for one in breaches} == dict.fromkeys(
        ("median", "wiener"), "no latency_p99, which needs 100 latency samples"
    )


@pytest.mark.parametrize("gate", ["latency_p50 > 1 ms", "cold_start > +10%", "peak_memory > +10%"])
def test_what_the_kernel_does_not_normalise_is_no_gate_over_machines(machines: RunComparison, gate: str) -> None:
    with pytest.raises(BenchboxError, match="is not comparable: the machines differ") as caught:
        parse_gate(gate, machines)
    assert "across machines, use a relative change" in (caught.value.hint or "")


def test_a_merged_run_of_two_machines_compares_through_its_calibrations(tmp_path: Path) -> None:
    first = make_run(tmp_path, 1, {"median": 4.0}, kernel_ms=0.5)
    second = make_run(tmp_path, 2, {"wiener": 5.0}, kernel_ms=1.0, speed=2.0, environment=ANOTHER)
    third = make_run(tmp_path, 3, {"median": 4.0}, kernel_ms=0.5, speed=1.1)
    merged = merge_runs([first, second], tmp_path, "")
    comparison = compare_runs(merged, third)
    assert comparison.speed_caveat == f"run {merged.record.run_id} has latencies from different machines"
    assert comparison.normalised
    breaches = check_gates([parse_gate("latency_p50 > +9%", comparison)], comparison)
    assert [(one.denoiser, one.found[:5]) for one in breaches] == [("median", "+10 %"), ("wiener", "not i")]


def test_a_run_that_was_timed_on_another_machine_compares_through_its_calibrations(tmp_path: Path) -> None:
    before = make_run(tmp_path, 1, {"median": 4.0, "wiener": 5.0}, kernel_ms=0.5)
    after = make_run(tmp_path, 2, {"median": 4.0, "wiener": 5.0}, kernel_ms=1.0, speed=2.0)
    assert compare_runs(before, after).speed_caveat == ""
    for name in ("median", "wiener"):
        after.write_timing(name, replace(after.timings()[name], machine="gpu-3 (Another CPU, 8 cores)"))
        comparison = compare_runs(before, after)
        assert comparison.normalised
        if name == "median":
            assert comparison.speed_caveat == f"run {after.record.run_id} has latencies from different machines"
    assert comparison.speed_caveat == "the machines differ: Example CPU, 2 cores and gpu-3 (Another CPU, 8 cores)"
    assert compare_runs(after, after).speed_caveat == ""


def test_runs_that_were_not_timed_say_so(tmp_path: Path) -> None:
    before = make_run(tmp_path, 1, {"median": 4.0})
    after = make_run(tmp_path, 2, {"median": 4.0}, environment=ANOTHER, timing=False)
    for file in (after.folder / "timing").iterdir():
        file.unlink()
    assert compare_runs(before, after).speed_caveat == f"run {after.record.run_id} has no timing"


def shown(comparison: RunComparison, width: int = 80) -> str:
    sink = io.StringIO()
    Console(file=sink, width=width, force_terminal=True, color_system=None).print(
        TerminalComparison(comparison), crop=False
    )
    return sink.getvalue()


def test_tables_say_what_changed(runs: tuple[RunStore, RunStore]) -> None:
    comparison = compare_runs(*runs)
    change = row_of(comparison, "median").changes["psnr"]
    text = shown(comparison)
    assert max(map(len, text.splitlines())) <= 80
    assert f"({change.low:.2f} to {change.high:.2f})*" in text
    assert "+20.0" in text
    markdown = render_comparison(comparison, (), "markdown")
    assert f"**{change.difference:.2f} ({change.low:.2f} to {change.high:.2f})**" in markdown
    values = json.loads(render_comparison(comparison, (), "json"))
    assert values["rows"][1]["changes"]["psnr"]["difference"] == change.difference


def test_the_command_ends_with_three_when_a_gate_fails(runs: tuple[RunStore, RunStore]) -> None:
    folder = runs[0].folder.parent
    words = ["20260101", "20260102", "--results", str(folder)]
    assert CliRunner().invoke(command, words).exit_code == 0
    good = CliRunner().invoke(command, [*words, "--fail-if", "psnr < -1 dB"])
    assert (good.exit_code, "gate failed" in good.output) == (0, False)
    bad = CliRunner().invoke(command, [*words, "--fail-if", "psnr < -1 dB", "--fail-if", "psnr < -0.05 dB"])
    assert bad.exit_code == 3
    assert "gate failed: psnr < -0.05 dB: median on gaussian:0.1: -0.1" in bad.output


def test_every_field_of_the_json_is_documented(runs: tuple[RunStore, RunStore]) -> None:
    comparison = compare_runs(*runs)
    breaches = check_gates([parse_gate("psnr < 0", comparison)], comparison)
    page = (Path(__file__).parents[2] / "docs" / "results-format.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL)))))
    names: set[str] = set()

    def keys(value: object) -> None:
        if isinstance(value, dict):
            names.update(value)
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            keys(item)

    keys(json.loads(render_comparison(comparison, breaches, "json")))
    assert names - {"mse"} <= words


@pytest.mark.parametrize("figure", SPEED_FIGURES)
def test_the_help_names_every_figure_of_a_gate(figure: str) -> None:
    assert figure in CliRunner().invoke(command, ["--help"]).output
