"""The contract of a denoiser: bundled plugins keep it, each probe can fail, and a card survives what a plugin does."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchbox import BenchboxError, Denoiser, Images, Sigma
from benchbox.registry import load_registry
from benchbox.testing import HealthCard, check_denoiser, examine
from benchbox.testing import threads_at_work as busy
from benchbox.testing.behaviour_probes import PROCESS_PROBES
from benchbox.testing.check import PROBES, verdicts
from benchbox.testing.subject import NOISE, Subject, Verdict

pytestmark = pytest.mark.process

Command = Callable[..., subprocess.CompletedProcess[str]]
Plugin = Callable[[str, str], Path]
FAULTY = Path(__file__).parents[1] / "fixtures" / "faulty.py"
NEED_A_FILE = {"command", "keras", "litert", "onnx", "torch"}
LONG = {"setup", "setup_call", "threads"}
BUNDLED = sorted(set(load_registry().denoisers) - NEED_A_FILE)


@functools.cache
def faulty() -> dict[str, Subject]:
    registry = load_registry([FAULTY])
    return {
        name: Subject(entry.cls, name, name, provider=entry.provider)
        for name, entry in registry.denoisers.items()
        if entry.provider.kind == "file"
    }


def probe_of(name: str) -> str:
    """The probe that a faulty denoiser is named after: the longest that its name begins with."""
    return max((probe for probe in PROBES if name.startswith(probe)), key=len)


FAULTS = sorted(name for name in faulty() if not name.startswith("sound"))


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_plugin_keeps_the_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "bm3d_reference":
        pytest.importorskip("bm3d")
        monkeypatch.setattr("benchbox.testing.subject.COUNT", 2)  # an image takes the package a third of a second
    card = check_denoiser(name)
    assert {verdict.probe for verdict in card.verdicts} == set(PROBES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sound", "sound_random", "sound_rgb"])
def test_a_sound_denoiser_passes(name: str) -> None:
    found = list(verdicts(faulty()[name], NOISE, tuple(PROBES)))
    assert [verdict for verdict in found if verdict.mark == "fail"] == []
    if name == "sound":
        assert {verdict.probe for verdict in found if verdict.mark == "skip"} == {"sigma_array"}


def test_every_probe_has_a_denoiser_that_fails_it() -> None:
    assert {probe_of(name) for name in FAULTS} == set(PROBES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in FAULTS]
)
def test_a_probe_finds_its_fault(name: str) -> None:
    (verdict,) = verdicts(faulty()[name], NOISE, [probe_of(name)])
    assert verdict.mark == "fail", verdict
    assert verdict.seen
    assert verdict.advice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("shape", "returned shape (6, 47, 48) for (6, 48, 48)"),
        ("dtype", "float64"),
        ("sizes", "47x53"),
        ("keeps_result", "changed when the next stack was denoised"),
        ("repeatable_state", "before and after another one"),
        ("repeatable_unseeded", "declared random but not seeded"),
        ("spawn", "cannot be pickled after construction"),
        ("quiet", "denoising"),
        ("random_state_python", "changed the global state of random"),
        ("starts", "in setup\n    raise FileNotFoundError"),
        ("sigma_array_undeclared", "takes sigma but does not declare it"),
        ("gain", "gaussian:0.1: 20.31 dB noisy, "),
        ("colour", "returned (3, 48, 48) for noisy images of shape (3, 48, 48, 3)"),
        ("channels", "of a flat image has mean 0.80, not 0.2"),
        ("apart", "red: results differ by up to"),
        ("colour_gain", "blue 20.54 to 20.54 dB"),
        ("files", "benchbox-shrink/pyproject.toml, which files() does not name"),
    ],
)
def test_a_verdict_says_what_was_seen(name: str, seen: str) -> None:
    (verdict,) = verdicts(faulty()[name], NOISE, [probe_of(name)])
    assert seen in verdict.seen


class Raises(Denoiser):
    name = "raises"
    summary = "raises"

    def denoise(self, noisy: object, sigma: object) -> object:  # type: ignore[override]
        raise ValueError("no such image")


class Halves(Denoiser):
    name = "halves"
    summary = "half way to grey"

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        return np.float32(0.5) * noisy + np.float32(0.25)


class Needs(Denoiser):
    name = "needs"
    summary = "uses sigma without declaring it"

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        return noisy * (1 - sigma[:, None, None])  # type: ignore[index]


def test_every_probe_advises_to_declare_sigma() -> None:
    with pytest.raises(AssertionError) as caught:
        check_denoiser(Needs, probes=["shape", "dtype", "finite", "repeatable"])
    assert str(caught.value).count("declare capabilities = Capabilities(sigma='required')") == 4


def test_a_denoiser_that_does_not_start_fails_once() -> None:
    first, *others = verdicts(faulty()["starts"], NOISE, tuple(PROBES))
    assert (first.probe, first.mark) == ("starts", "fail")
    assert {verdict.mark for verdict in others} == {"skip"}


def test_a_failed_check_is_an_assertion_with_the_words_of_the_card() -> None:
    with pytest.raises(
        AssertionError, match=r"raises fails 2 of 2 probes(.|\n)*ValueError: no such image(.|\n)*hint: "
    ):
        check_denoiser(Raises, probes=["shape", "gain"])


@pytest.mark.slow
def test_a_class_is_checked_in_a_new_process_too() -> None:
    (verdict,) = examine(Halves, probes=["timed"]).verdicts
    assert verdict.mark == "pass"

    class Local(Raises):
        pass

    (verdict,) = examine(Local, probes=["spawn"]).verdicts
    assert "defined inside a function" in verdict.seen


@pytest.mark.parametrize(
    ("call", "message", "hint"),
    [
        (lambda: check_denoiser("medain"), "no denoiser 'medain'", "did you mean 'median'"),
        (lambda: check_denoiser("median:sise=3"), "no option 'sise'", "did you mean 'size'"),
        (lambda: check_denoiser("median", probes=["shap"]), "no probe 'shap'", "did you mean 'shape'"),
        (lambda: check_denoiser("median", noise="gausian"), "no noise model 'gausian'", "did you mean 'gaussian'"),
        (lambda: check_denoiser(3), "3 is not a denoiser", "median"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_word_is_an_error_of_the_caller(call: Callable[[], HealthCard], message: str, hint: str) -> None:
    with pytest.raises(BenchboxError) as caught:
        call()
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.slow
def test_check_prints_a_card_and_tells_by_its_exit_code(benchbox: Command) -> None:
    result = benchbox("plugins", "check", "median:size=5")
    assert "median:size=5" in result.stdout
    # The probe that keeps channels apart is for denoisers that take only grey images.
    assert f"{len(PROBES) - 1} pass, 0 fail, 1 skip" in result.stdout


@pytest.mark.slow
def test_a_function_passes_every_probe(benchbox: Command, tmp_path: Path) -> None:
    file = tmp_path / "blur.py"
    file.write_text(
        "from scipy.ndimage import uniform_filter\n"
        "def denoise(noisy, sigma): return uniform_filter(noisy, size=(0, 3, 3))\n"
    )
    assert f"{len(PROBES)} pass, 0 fail, 0 skip" in benchbox("plugins", "check", str(file)).stdout


@pytest.mark.slow
def test_the_card_as_json_holds_every_probe(benchbox: Command, plugin: Plugin) -> None:
    result = benchbox("plugins", "check", plugin("floor", "return noisy"), "--format", "json", code=1)
    (card,) = json.loads(result.stdout)
    assert (card["denoiser"], card["healthy"]) == ("floor", False)
    assert [one["probe"] for one in card["verdicts"]] == list(PROBES)
    failed = {one["probe"]: Verdict(**one) for one in card["verdicts"] if one["mark"] == "fail"}
    assert set(failed) == {"alias"}
    assert "noisy.copy()" in failed["alias"].advice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ("while True: time.sleep(1)", "no answer within 6 s"),
        ("sys.exit('no licence')", "ended with exit code 1: no licence"),
    ],
)
def test_a_plugin_that_hangs_or_dies_gets_a_card(body: str, seen: str, benchbox: Command, plugin: Plugin) -> None:
    result = benchbox("plugins", "check", plugin("broken", body), "--format", "json", "--timeout", "6", code=1)
    (card,) = json.loads(result.stdout)
    assert [one["probe"] for one in card["verdicts"]] == list(PROBES)
    assert seen in card["verdicts"][1]["seen"]
    assert card["verdicts"][-1]["mark"] == "skip"
    assert "not run, because" in card["verdicts"][-1]["seen"]


IN_THE_FRESH_PROCESS = "if os.environ.get('BENCHBOX_THREADS') == '1': {}\nreturn noisy.copy()"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "seen", "timeout"),
    [
        ("time.sleep(600)", "no answer within", "8"),
        ("1 / 0", "ZeroDivisionError", "100"),
    ],
)
def test_what_goes_wrong_in_the_fresh_process_only_is_said(
    body: str, seen: str, timeout: str, benchbox: Command, plugin: Plugin
) -> None:
    file = plugin("moody", IN_THE_FRESH_PROCESS.format(body))
    result = benchbox("plugins", "check", file, "--format", "json", "--timeout", timeout, code=1)
    (card,) = json.loads(result.stdout)
    failed = [one for one in card["verdicts"] if one["mark"] == "fail"]
    assert [one["probe"] for one in failed] == [probe.name for probe in PROCESS_PROBES]
    assert all(seen in one["seen"] for one in failed)


@pytest.mark.slow
def test_a_check_that_is_killed_leaves_no_process_behind(plugin: Plugin, tmp_path: Path) -> None:
    mark = tmp_path / "pids"
    note = f"open({str(mark)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(100)"
    file = plugin("sleepy", IN_THE_FRESH_PROCESS.format(note))
    command = [str(Path(sys.executable).with_name("benchbox")), "plugins", "check", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        wait_for(mark.exists)
        process.kill()
    (pid,) = mark.read_text().split()
    wait_for(lambda: not psutil.pid_exists(int(pid)))


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("import no_such_module", "ModuleNotFoundError"),
        ("import os; os.abort()", "SIGABRT"),
        ("import time; time.sleep(60)", "no answer within 6 s"),
        ("x = 1", "the plugin offers no denoiser"),
    ],
)
def test_a_file_that_does_not_load_gets_a_card(text: str, seen: str, benchbox: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(text)
    result = benchbox("plugins", "check", "bad.py", "--timeout", "6", code=1)
    assert "fail  loads" in result.stdout
    assert seen in result.stdout


@pytest.mark.slow
def test_a_wrong_name_is_a_usage_error(benchbox: Command) -> None:
    assert "did you mean 'median'?" in benchbox("plugins", "check", "medain", code=2).stderr
    assert "no such file" in benchbox("plugins", "check", "missing.py", code=2).stderr
    assert "size must be odd" in benchbox("plugins", "check", "median:size=4", code=2).stderr


BENCHMARK = """
def test_speed(benchmark_denoiser):
    denoised = benchmark_denoiser("gaussian_blur", batch=4)
    assert denoised.shape == (4, 48, 48)


def test_faces(noisy_faces):
    clean, noisy, sigma = noisy_faces("gaussian:0.2", 150)
    assert clean.shape == noisy.shape == (150, 48, 48)
    assert abs((noisy - clean).std() - 0.2) < 0.002
    assert (sigma == sigma[0]).all()
    assert (noisy[0] - clean[0] != noisy[142] - clean[142]).any(), "the first picture again, with other noise"
    assert (noisy_faces("gaussian:0.2", 3).noisy == noisy[:3]).all()
"""


@pytest.fixture
def pytest_run(tmp_path: Path) -> Command:
    """Run pytest on a test file that uses the fixtures, outside every project's settings."""
    (tmp_path / "test_mine.py").write_text(BENCHMARK)
    (tmp_path / "none.ini").write_text("[pytest]\n")

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-q", "-c", "none.ini", "--rootdir", ".", *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.mark.slow
def test_the_fixtures_drive_pytest_benchmark(pytest_run: Command, tmp_path: Path) -> None:
    done = pytest_run("--benchmark-json", "out.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    (one,) = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    assert one["group"] == "gaussian:0.1, batch 4"
    extra = one["extra_info"]
    assert extra["denoiser"] == "gaussian_blur"
    assert 22 < extra["psnr_db"] < 32
    assert extra["images_per_s"] == pytest.approx(4 / one["stats"]["median"], rel=1e-3)
    assert extra["environment"]["threads"] >= 1
    assert "numpy" in extra["environment"]["versions"]


@pytest.mark.slow
def test_a_benchmark_is_compared_with_a_saved_one(pytest_run: Command, tmp_path: Path) -> None:
    store = "--benchmark-only", "--benchmark-storage", "store"
    assert pytest_run(*store, "--benchmark-save", "base").returncode == 0
    compare = *store, "--benchmark-compare", "--benchmark-compare-fail"
    assert pytest_run(*compare, "median:100000%").returncode == 0
    (saved,) = (tmp_path / "store").rglob("*_base.json")
    base = json.loads(saved.read_text())
    base["benchmarks"][0]["stats"]["median"] /= 1000
    saved.write_text(json.dumps(base))
    slower = pytest_run(*compare, "median:500%")
    assert "Performance has regressed" in slower.stdout + slower.stderr
    assert slower.returncode != 0


def test_the_pytest_plugin_imports_nothing_heavy() -> None:
    code = "import sys, benchbox.testing.pytest_plugin; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "scipy", "numba", "cv2", "tensorflow", "pytest_benchmark"} & set(out)
    assert "benchbox.registry" not in out


def test_threads_are_counted_where_the_system_does_not_tell_their_state(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass

    monkeypatch.setattr(busy, "_TASKS", Path("/nowhere"))
    with busy.RunningThreads() as counted:
        work()
    assert 0 < counted.typical < 1.5
