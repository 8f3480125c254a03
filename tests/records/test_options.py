"""One list of run options: the command, Python and run.json have each of them, with the same default."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, get_type_hints

import click
import pytest

import benchbox as package
from benchbox import BenchboxError
from benchbox.cli.options import as_typed, chosen
from benchbox.cli.run import command
from benchbox.notebook import interface
from benchbox.records.options import RunOptions, option_of
from benchbox.records.run import decode
from benchbox.store import RunStore, find_run

Command = Callable[..., CompletedProcess[str]]

NAMES = [field.name for field in fields(RunOptions)]
ONLY_SHOWN = {
    "form",
    "gates",
    "output",
    "page",
    "print_run_id",
    "quiet",
    "resume",
    "sort",
    "verbose",
    "config",
    "save_config",
}
"""Options of the command that change what is shown of a run, not the run."""
OTHERS: dict[str, Any] = {
    "denoisers": ("identity", "median:size=5"),
    "noise": ("poisson:30", "gaussian:25/255"),
    "metrics": ("psnr", "ssim"),
    "judges": ("onnx:path=judge.onnx,size=64", "litert:path=judge.tflite"),
    "data": "pictures",
    "noisy": "noisy",
    "clean": "clean",
    "dataset": "images",
    "split": "PrivateTest",
    "limit": 7,
    "skip_bad": True,
    "keep_duplicates": True,
    "white": 4095,
    "color": "rgb",
    "seed": 3,
    "protocol_name": "ntire",
    "clip": True,
    "quantize": True,
    "sigma": "estimated",
    "sigma_errors": (0.5, 2.0),
    "repeats": 2,
    "jobs": 2,
    "engine": "dask",
    "scheduler": "tcp://127.0.0.1:8786",
    "scheduler_file": "scheduler.json",
    "wait_s": 20.0,
    "send_data": True,
    "timing_on": "gpu-3",
    "timing": False,
    "threads": 2,
    "batch": 8,
    "timing_budget_s": 2.0,
    "timeout_s": 90.0,
    "memory_gb": 1.5,
    "previews": 1,
    "save_images": True,
    "fresh": True,
    "results": "elsewhere",
    "plugins": ("one.py", "two.py"),
    "plugin_folders": ("folder",),
}


def test_each_option_has_another_value_here() -> None:
    assert list(OTHERS) == NAMES
    assert all(getattr(RunOptions(), name) != value for name, value in OTHERS.items())


def typed(name: str, value: Any) -> list[str]:
    """An option as a user types it."""
    flag = option_of(name).flag
    if name == "denoisers":
        return list(value)
    if name == "sigma_errors":
        return [flag, ",".join(map(str, value))]
    if isinstance(value, bool):
        return [flag if value else flag.partition("/")[2]]
    return [word for one in (value if isinstance(value, tuple) else (value,)) for word in (flag, str(one))]


def read(*words: str) -> RunOptions:
    with command.make_context("run", list(words)) as context:
        data = context.params.pop("data")  # one run each
        return replace(chosen(context.params), data=str(data[0]) if data else "")


@pytest.mark.parametrize("name", [name for name in NAMES if option_of(name).resumable])
def test_the_command_that_continues_a_run_has_its_options_again(name: str) -> None:
    options = replace(RunOptions(), **{name: OTHERS[name]})
    assert as_typed(RunOptions(), [name]) == []
    assert read(*as_typed(options, NAMES)) == options


@pytest.mark.parametrize("name", NAMES)
def test_the_command_has_each_option(name: str) -> None:
    assert read() == RunOptions()
    assert read(*typed(name, OTHERS[name])) == replace(RunOptions(), **{name: OTHERS[name]})


def test_the_command_has_no_other_option_and_explains_each(benchbox: Command) -> None:
    assert {param.name for param in command.params} == {*NAMES, *ONLY_SHOWN}
    page = benchbox("run", "--help").stdout
    assert all(option_of(name).flag.partition("/")[0] in page for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_python_has_each_option(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RunOptions] = []

    def execute(options: RunOptions, *_: object) -> None:
        asked.append(options)

    monkeypatch.setattr(interface, "execute", execute)
    interface.run(**{name: OTHERS[name]})
    interface.run()
    assert asked == [replace(RunOptions(), **{name: OTHERS[name]}), RunOptions()]


def test_python_has_the_same_defaults_and_documents_each_option() -> None:
    parameters = inspect.signature(package.run).parameters
    assert {name: one.default for name, one in parameters.items()} == asdict(RunOptions()) | {"progress": True}
    assert set(get_type_hints(package.run)) == {*NAMES, "progress", "return"}
    documented = (package.run.__doc__ or "").partition("Parameters")[2]
    assert [name for name in NAMES if name not in documented] == []


@pytest.mark.slow
def test_run_json_keeps_each_option(tmp_path: Path, benchbox: Command) -> None:
    asked: dict[str, Any] = {"noise": "poisson:30", "metrics": "psnr", "limit": 6, "sigma_errors": 2.0, "repeats": 2}
    given: dict[str, Any] = {
        "seed": 5,
        "clip": True,
        "jobs": 1,
        "timing": False,
        "timeout_s": 120,
        "memory_gb": 3,
        "previews": 0,
    }
    frames = package.run("wiener", **asked, **given, results=tmp_path / "results")
    stored = json.loads((frames.store.folder / "run.json").read_text())["options"]
    assert list(stored) == NAMES
    expected = replace(
        RunOptions(**given),
        denoisers=("wiener",),
        noise=("poisson:30",),
        metrics=("psnr",),
        limit=6,
        sigma_errors=(2.0,),
        repeats=2,
        sigma="given",
        dataset="sample",
        results=str(tmp_path / "results"),
    )
    assert frames.store.record.options == expected
    assert decode(RunOptions, stored) == expected
    assert {cell.sigma_factor for cell in frames.store.record.cells} == {1.0, 2.0}
    benchbox("run", "--resume", frames.store.folder.name, "--timeout", "5m")
    assert RunStore.open(find_run(tmp_path / "results")).record.options == expected


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"limit": "5"}, r"\$\.limit"),
        ({"repeats": -1}, "repeats is -1"),
        ({"previews": 33}, "previews is 33"),
        ({"timeout_s": 0.0}, r"timeout_s is 0\.0"),
        ({"timeout_s": "5m"}, r"\$\.timeout_s"),
        ({"memory_gb": -1.0}, "memory_gb is -1"),
        ({"sigma": "guessed"}, r"\$\.sigma"),
        ({"sigma_errors": ("0.5",)}, r"\$\.sigma_errors"),
        ({"sigma_errors": (0.5,), "sigma": "none"}, "sigma errors need sigma 'given'"),
        ({"sigma_errors": (0.0,)}, r"sigma_errors is 0\.0"),
        ({"scheduler": "tcp://a:1", "scheduler_file": "b"}, "two schedulers are named"),
        ({"timing_on": "a"}, "the run has no cluster"),
        ({"timing_on": "a", "engine": "dask", "timing": False}, "the run has no timing"),
        ({"noisy": "a"}, "noisy and clean images are two folders"),
        ({"noisy": "a", "clean": "b", "data": "c"}, "noisy and clean images are two folders"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchboxError, match=words) as caught:
        replace(RunOptions(), **wrong).check()
    assert caught.value.hint


def test_the_defaults_pass_the_check_and_the_command_line_refuses_the_same_numbers() -> None:
    RunOptions().check()
    replace(RunOptions(), **OTHERS | {"sigma": "given", "data": "", "scheduler_file": "", "timing": True}).check()
    for words in (
        ("--limit", "0"),
        ("--previews", "33"),
        ("--memory", "0"),
        ("--timeout", "0"),
        ("--sigma-error", "0"),
    ):
        with pytest.raises(click.UsageError):
            read(*words)
