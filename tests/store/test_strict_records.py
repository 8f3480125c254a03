"""Every field of a run's records is checked where it is read; an error names the file and the path of the field."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchbox.api.denoiser import TrainingCard
from benchbox.api.errors import BenchboxError
from benchbox.records.tuned import TunedOptions
from benchbox.report.build import build_leaderboard
from benchbox.store import RunStore

Command = Callable[..., subprocess.CompletedProcess[str]]
Place = tuple[str | int, ...]


def places(values: Any, place: Place = ()) -> Iterator[Place]:
    """Places of all fields, and of the first item of each list."""
    items = values.items() if isinstance(values, dict) else enumerate(values[:1]) if isinstance(values, list) else ()
    for key, value in items:
        yield (*place, key)
        yield from places(value, (*place, key))


def path_of(place: Place) -> str:
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)


def at(values: Any, place: Place) -> Any:
    for key in place:
        values = values[key]
    return values


def changed(values: Any, place: Place, value: object) -> Any:
    values = copy.deepcopy(values)
    at(values, place[:-1])[place[-1]] = value
    return values


def problem(folder: Path, values: Any) -> str:
    """What reading a run with this record says; empty if it is read."""
    (folder / "run.json").write_text(json.dumps(values))
    try:
        RunStore.open(folder)
    except BenchboxError as error:
        assert error.message.startswith(str(folder / "run.json"))
        return error.message
    return ""


@pytest.fixture
def record(finished_run: Path) -> Any:
    return json.loads((finished_run / "run.json").read_text())


def test_a_value_of_another_type_is_named_by_its_path(finished_run: Path, record: Any) -> None:
    free = {"options", "versions", "label_names"}  # dictionaries with keys of their own
    checked = 0
    for place in places(record):
        if place == ("format",):
            continue
        value = at(record, place)
        wrong: object = [] if isinstance(value, dict) else {"x": "y"}
        said = problem(finished_run, changed(record, place, wrong))
        keyed = len(place) > 1 and place[-2] in free and place[0] != "options"
        assert f"`{path_of(place[:-1]) + '[...]' if keyed else path_of(place)}`" in said, (place, said)
        checked += 1
    assert checked > 100
    assert problem(finished_run, record) == ""


def test_an_unknown_field_is_named_by_its_path(finished_run: Path, record: Any) -> None:
    objects = [(), *(place for place in places(record) if isinstance(at(record, place), dict))]
    checked = 0
    for place in objects:
        if (place and place[-1] in ("versions", "label_names")) or (place[-1:] == ("options",) and len(place) > 1):
            continue  # whose keys are free
        said = problem(finished_run, changed(record, (*place, "surprise"), 1))
        assert f"unknown field - at `{path_of((*place, 'surprise'))}`" in said
        checked += 1
    assert checked == 14


@pytest.mark.parametrize(
    "place",
    [("data",), ("cells",), ("data", "images"), ("noises", 0, "parts"), ("metrics", 0, "digits"), ("cells", 0, "key")],
)
def test_a_missing_field_is_named(place: Place, finished_run: Path, record: Any) -> None:
    del at(record, place[:-1])[place[-1]]
    said = problem(finished_run, record)
    assert f"missing required field `{place[-1]}`" in said
    assert len(place) == 1 or f"`{path_of(place[:-1])}`" in said


@pytest.mark.parametrize(
    ("place", "value", "path"),
    [
        (("metrics", 0, "digits"), -1, "$.metrics[0].digits"),
        (("metrics", 0, "digits"), 400, "$.metrics[0].digits"),
        (("data", "images"), -3, "$.data.images"),
        (("data", "left_out"), -1, "$.data.left_out"),
        (("noises",), [], "$.noises"),
        (("noises", 0, "parts"), [], "$.cells[0].noise"),
        (("metrics",), [], "$.metrics"),
        (("denoisers", 1, "label"), "", "$.denoisers[1].label"),
        (("denoisers", 1, "label"), "identity", "$.denoisers[1]"),
        (("denoisers", 0, "min_size"), -1, "$.denoisers[0].min_size"),
        (("cells", 0, "key"), "../../evil", "$.cells[0].key"),
        (("cells", 0, "sigma_factor"), 0, "$.cells[0].sigma_factor"),
        (("cells", 2, "noise"), "other", "$.cells[2].noise"),
        (("cells", 2, "denoiser"), "other", "$.cells[2].denoiser"),
        (("environment", "load"), -0.5, "$.environment.load"),
        (("environment", "cores"), 0, "$.environment.cores"),
        (("options", "white"), 70_000, "$.options.white"),
        (("options", "repeats"), 10**30, "$.options.repeats"),
        (("options", "timeout_s"), -1.0, "$.options.timeout_s"),
        (("options", "limit"), 0, "$.options.limit"),
        (("options", "seed"), -1, "$.options.seed"),
    ],
)
def test_a_value_out_of_range_is_named(place: Place, value: object, path: str, finished_run: Path, record: Any) -> None:
    assert f"`{path}`" in problem(finished_run, changed(record, place, value))


def test_a_cell_that_occurs_twice_is_named(finished_run: Path, record: Any) -> None:
    record["cells"].append(record["cells"][0])
    assert f"occurs twice - at `$.cells[{len(record['cells']) - 1}]`" in problem(finished_run, record)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_no_number_is_infinite(number: str, finished_run: Path, record: Any) -> None:
    text = json.dumps(changed(record, ("environment", "load"), "X")).replace('"X"', number)
    (finished_run / "run.json").write_text(text)
    with pytest.raises(BenchboxError, match=r"run\.json"):
        RunStore.open(finished_run)


@pytest.mark.parametrize(
    ("field", "value"), [("images", -3), ("overlap", -1), ("surprise", 1), ("noise_level", "guessed"), ("status", 42)]
)
def test_a_wrong_field_of_an_outcome_stops_the_leaderboard(field: str, value: object, finished_run: Path) -> None:
    file = next((finished_run / "outcomes").iterdir())
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(BenchboxError) as caught:
        build_leaderboard(RunStore.open(finished_run))
    assert caught.value.message.startswith(f"{file}: ")
    assert f"`$.{field}`" in caught.value.message


@pytest.mark.parametrize(
    ("field", "value"), [("images", 0), ("noises", []), ("surprise", 1), ("protocol", {"repeats": 0}), ("options", 3)]
)
def test_a_wrong_field_of_tuned_options_is_named(field: str, value: object, tmp_path: Path) -> None:
    values = {
        "denoiser": "median", "options": {"size": "5"}, "dataset": "sample", "split": "", "images": 8,
        "fingerprint": "0123456789abcdef", "noises": ["gaussian:0.1"], "protocol": {}, "metric": "psnr",
        "score": 25.0, "start_score": 24.0, "candidates": 3, "run": "20260102-030405-000abcd",
    }  # fmt: skip
    file = tmp_path / "tuned.json"
    file.write_text(json.dumps(values))
    assert TunedOptions.load(file).options == {"size": "5"}
    file.write_text(json.dumps(values | {field: value}))
    with pytest.raises(BenchboxError) as caught:
        TunedOptions.load(file)
    assert str(file) in caught.value.message
    assert f"`$.{field}" in caught.value.message


def test_the_commands_say_it_without_a_traceback(benchbox: Command, finished_run: Path, record: Any) -> None:
    wrong = changed(record, ("metrics", 0, "digits"), -1)
    (finished_run / "run.json").write_text(json.dumps(wrong))
    for command in (["leaderboard", finished_run], ["report", finished_run], ["compare", finished_run, finished_run]):
        done = benchbox(*command, code=2)
        words = " ".join(done.stderr.split())
        assert "run.json: Expected `int` >= 0 - at `$.metrics[0].digits`" in words
        assert "Traceback" not in done.stderr


def test_a_training_card_has_no_other_field(tmp_path: Path) -> None:
    card = TrainingCard("fer2013", "Training", "01" * 16, 900, "gaussian:0.1", 0, 20.0, "benchbox train")
    file = tmp_path / "weights.json"
    card.save(file)
    assert TrainingCard.load(file) == card
    values = json.loads(file.read_text(encoding="utf-8"))
    for name, value, words in (("epoch", 3, "unknown field - at `$.epoch`"), ("images", "900", "at `$.images`")):
        file.write_text(json.dumps(values | {name: value}), encoding="utf-8")
        with pytest.raises(BenchboxError, match=re.escape(words)):
            TrainingCard.load(file)
