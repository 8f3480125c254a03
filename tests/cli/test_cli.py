"""The command line is quick to look at: it imports nothing heavy until something is run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]

HEAVY = ("tensorflow", "keras", "cv2", "skimage", "pandas", "numba", "scipy", "pyarrow", "pytest", "ai_edge_litert")
LISTINGS = ("denoisers", "noises", "datasets", "metrics")


def imported(*arguments: str) -> set[str]:
    """Top-level modules that a command has imported by its end."""
    script = (
        "import sys\nsys.argv = ['benchbox', *sys.argv[1:]]\nfrom benchbox.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('modules:', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("modules:")[2].split())


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("leaderboard", "--help"), ("--version",)])
def test_help_imports_next_to_nothing(arguments: tuple[str, ...]) -> None:
    modules = imported(*arguments)
    assert not modules & {*HEAVY, "numpy", "rich", "pluggy"}
    assert "click" in modules


@pytest.mark.parametrize("arguments", [*(("list", kind) for kind in LISTINGS), ("list", "runs"), ("plugins", "list")])
def test_a_listing_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert not imported(*arguments) & set(HEAVY)


def test_every_command_has_an_example_in_its_help(benchbox: Command) -> None:
    assert "Example" in benchbox("--help").stdout
    for command in ("run", "leaderboard", "list", "plugins", "train"):
        assert "Example" in benchbox(command, "--help").stdout, command


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_listing_is_for_people_and_as_json(kind: str, benchbox: Command) -> None:
    rows = json.loads(benchbox("list", kind, "--json").stdout)
    text = benchbox("list", kind).stdout
    assert len(rows) >= 3
    for row in rows:
        assert row["name"] in text
        assert row["summary"] in text


def test_every_noise_shows_formula_and_an_example_that_works(benchbox: Command) -> None:
    rows = json.loads(benchbox("list", "noises", "--json").stdout)
    for row in rows:
        assert row["formula"]
        assert row["options"]
    noises = [part for row in rows for part in ("--noise", row["example"])]
    board = benchbox("run", "identity", "--no-timing", "--limit", "5", *noises).stdout
    for row in rows:
        assert row["name"] in board


def test_runs_are_listed(benchbox: Command) -> None:
    assert benchbox("list", "runs").stdout == "none\n"
    benchbox("run", "identity", "--no-timing", "--limit", "5")
    (row,) = json.loads(benchbox("list", "runs", "--json").stdout)
    assert row["cells done"] == "1 of 1"


def test_output_is_plain_when_piped(benchbox: Command) -> None:
    result = benchbox("run", "identity", "median", "--no-timing", "--limit", "5")
    assert "\x1b" not in result.stdout + result.stderr
    assert result.stderr.splitlines()[-1].startswith("markdown: ")
