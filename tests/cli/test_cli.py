"""The command line is quick to look at: it imports nothing heavy until something is run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import cv2
import numpy as np
import pytest

from benchbox.cli.main import cli
from benchbox.cli.options import Duration, Misuse

pytestmark = pytest.mark.process

Command = Callable[..., subprocess.CompletedProcess[str]]
Plugin = Callable[[str, str], Path]

HEAVY = ("tensorflow", "keras", "cv2", "skimage", "pandas", "numba", "scipy", "pyarrow", "pytest", "ai_edge_litert")
LISTINGS = ("denoisers", "noises", "datasets", "metrics")


def imported(*commands: str) -> set[str]:
    """Top-level modules that commands, one after another in one process, have imported by their end."""
    script = (
        "import sys\nfrom benchbox.cli import main\nfor command in sys.argv[1:]:\n"
        "    sys.argv = ['benchbox', *command.split()]\n"
        "    try:\n        main()\n    except SystemExit as ended:\n        assert not ended.code, command\n"
        "print('modules:', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script, *commands], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("modules:")[2].split())


def test_help_imports_next_to_nothing() -> None:
    modules = imported("--help", "run --help", "leaderboard --help", "--version")
    assert not modules & {*HEAVY, "numpy", "rich", "pluggy"}
    assert "click" in modules


def test_a_listing_imports_nothing_heavy() -> None:
    commands = (*(f"list {kind}" for kind in LISTINGS), "list runs", "plugins list")
    assert not imported(*commands) & set(HEAVY)


def test_every_command_has_an_example_in_its_help(benchbox: Command) -> None:
    assert "Example" in benchbox("--help").stdout
    for command in ("run", "leaderboard", "list", "plugins", "train"):
        assert "Example" in benchbox(command, "--help").stdout, command


def test_output_is_a_file_or_a_folder_in_every_command() -> None:
    context = click.Context(cli)
    commands = [command for name in cli.list_commands(context) if (command := cli.get_command(context, name))]
    commands += [one for group in commands if isinstance(group, click.Group) for one in group.commands.values()]
    outputs = [param for command in commands for param in command.params if "--output" in param.opts]
    assert len(outputs) > 15
    assert {(param.metavar, "-o" in param.opts) for param in outputs} == {("FILE", True), ("FOLDER", True)}


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_listing_is_for_people_and_as_json(kind: str, benchbox: Command) -> None:
    rows = json.loads(benchbox("list", kind, "--format", "json").stdout)
    text = benchbox("list", kind).stdout
    assert len(rows) >= 3
    for row in rows:
        assert row["name"] in text
        assert row["summary"] in text


@pytest.mark.slow
def test_every_noise_shows_formula_and_an_example_that_works(benchbox: Command) -> None:
    rows = json.loads(benchbox("list", "noises", "--format", "json").stdout)
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
    (row,) = json.loads(benchbox("list", "runs", "--format", "json").stdout)
    assert row["cells completed"] == "1 of 1"


@pytest.mark.slow
def test_looking_at_a_run_writes_nothing(benchbox: Command, finished_run: Path) -> None:
    """So a run can be looked at in a folder that is read-only."""

    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in [finished_run, *finished_run.rglob("*")]}

    before = files()
    run = finished_run.name
    for words in (("leaderboard",), ("show",), ("compare", run, run), ("list", "runs"), ("replay", run)):
        benchbox(*words)
    assert files() == before


@pytest.mark.slow
def test_output_is_plain_when_piped(process: Command) -> None:
    result = process("run", "identity", "median", "--no-timing", "--limit", "5")
    assert "\x1b" not in result.stdout + result.stderr
    assert result.stderr.splitlines()[-1].endswith("all notes: leaderboard.md, --verbose")


@pytest.mark.slow
def test_a_script_gets_what_it_asks_for_and_nothing_else(benchbox: Command, tmp_path: Path) -> None:
    asked = "run", "identity", "median", "--no-timing", "--limit", "5"
    quiet = benchbox(*asked, "-q")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    named = benchbox(*asked, "--print-run-id", "-q", "--format", "json", "-o", "board.json")
    board = json.loads((tmp_path / "board.json").read_text())
    assert named.stdout == f"{board['header']['run_id']}\n"
    assert named.stderr == ""
    rows = benchbox(*asked, "--format", "csv").stdout.splitlines()
    assert [row.split(",")[3] for row in rows] == ["denoiser", "median", "identity"]
    assert benchbox(*asked, "--format", "csv", "-q").stdout.splitlines()[1:] != []


def test_who_does_not_see_the_table_reads_why_a_run_fails(benchbox: Command, plugin: Plugin) -> None:
    file = plugin("bad", "raise ValueError('no weights')")
    asked = ("run", "bad", "--plugin", file, "--no-timing", "--limit", "5")
    for words in (("-q",), ("--format", "csv", "--print-run-id", "-o", "board.csv")):
        said = benchbox(*asked, *words, code=1).stderr
        assert "failed: bad @ gaussian:0.1: failed: ValueError: no weights\n" in said
    assert "\nfailed: " not in benchbox(*asked, code=1).stderr


def test_the_package_runs_as_a_module(process: Command, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchbox", "list", "metrics"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == process("list", "metrics").stdout


def test_output_takes_what_would_be_printed(benchbox: Command, tmp_path: Path) -> None:
    for number, form in enumerate(("text", "json")):
        printed = benchbox("list", "noises", "--format", form).stdout
        assert benchbox("list", "noises", "--format", form, "-o", f"{number}.txt").stdout == ""
        assert (tmp_path / f"{number}.txt").read_text() == printed
    refused = benchbox("list", "noises", "--output", "missing/noises.txt", code=2).stderr
    assert refused.startswith("error: cannot write missing/noises.txt")
    assert "hint: choose another file with --output" in refused


def every_command() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    def walk(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        yield path, command
        if isinstance(command, click.Group):
            for name in command.list_commands(click.Context(command)):
                child = command.get_command(click.Context(command), name)
                assert child is not None
                yield from walk((*path, name), child)

    return walk((), cli)


@pytest.mark.slow
def test_a_report_goes_elsewhere_where_its_run_cannot_be_changed(benchbox: Command, finished_run: Path) -> None:
    before = {file.name for file in finished_run.iterdir()}
    assert benchbox("report", finished_run, "-o", "elsewhere.html").stdout == "elsewhere.html\n"
    assert {file.name for file in finished_run.iterdir()} == before
    assert benchbox("report", finished_run).stdout.strip() == str(finished_run / "report.html")
    page = finished_run.parents[1] / "elsewhere.html"
    assert page.read_text() == (finished_run / "report.html").read_text()
    assert "error: cannot write missing/x.html" in benchbox("report", "-o", "missing/x.html", code=2).stderr


@pytest.mark.slow
def test_a_merged_leaderboard_goes_to_a_file(benchbox: Command, tmp_path: Path) -> None:
    for name in ("identity", "median"):
        benchbox("run", name, "--no-timing", "--limit", "5", "-q")
    runs = [folder.name for folder in sorted((tmp_path / "results").iterdir())]
    done = benchbox("merge", *runs, "--format", "json", "-o", "board.json")
    board = json.loads((tmp_path / "board.json").read_text())
    assert done.stdout == ""
    assert (tmp_path / "results" / board["header"]["run_id"] / "run.json").is_file()
    assert {row["denoiser"] for row in board["blocks"][0]["rows"]} == {"identity", "median"}


COMMANDS = dict(every_command())


def test_an_option_means_the_same_in_every_command() -> None:
    spellings: dict[str, set[tuple[str, ...]]] = {}
    for command in COMMANDS.values():
        for option in command.params:
            if isinstance(option, click.Option):
                for spelling in option.opts:
                    spellings.setdefault(spelling, set()).add(tuple(option.opts))
    assert {spelling for spelling, forms in spellings.items() if len(forms) > 1} == set()
    assert spellings["-o"] == {("-o", "--output")}
    assert not {"--json", "--out", "--minutes", "--dir"} & spellings.keys()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5ms", 0.005), ("0.2s", 0.2), ("90s", 90), ("5m", 300), ("2h", 7200), ("1.5 h", 5400), ("600", 600), (".5", 0.5)],
)
def test_a_duration_is_a_number_and_its_unit(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "5x", "-5s", "5 min", "ms", "0s", "1e3", "nan", "5m30s"])
def test_what_is_no_duration_is_an_error_of_one_line_with_a_hint(text: str) -> None:
    with pytest.raises(Misuse) as caught:
        Duration().convert(text, None, None)
    assert caught.value.format_message() == f"Invalid value: '{text}' is not a duration"
    assert "5ms, 0.2s, 90s, 5m or 2h" in caught.value.hint


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--timeout", "5x"),
        ("tune", "median", "--space", "size=3", "--budget", "5x"),
        ("train", "unet", "--budget", "5x"),
        ("leaderboard", "--within", "5"),
        ("leaderboard", "one", "two", "--columns", "psnr"),
        ("leaderboard", "one", "--format", "latex", "--layout", "paper", "--within", "5ms"),
        ("plugins", "check", "median", "--timeout", "5x"),
        ("run", "--limit", "0"),
        ("run", "--nosie", "gaussian"),
        ("merge", "one"),
    ],
)
def test_misuse_is_an_error_and_a_hint_of_one_line_each(words: tuple[str, ...], benchbox: Command) -> None:
    error, hint = benchbox(*words, code=2).stderr.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")


def test_a_wrong_word_is_answered_in_words(benchbox: Command) -> None:
    assert benchbox("rnu", code=2).stderr == "error: there is no command 'rnu'\nhint: did you mean 'run'?\n"
    for words, said in (
        (("--limit", "x"), "'x' is not a whole number of at least 1"),
        (("--white", "70000"), "'70000' is not a whole number of at least 1 and at most 65535"),
        (("--memory", "0"), "'0' is not a number above 0"),
    ):
        assert f"Invalid value for '{words[0]}': {said}\n" in benchbox("run", *words, code=2).stderr


@pytest.mark.slow
def test_charts_are_drawn_quietly_without_a_home_folder(process: Command, finished_run: Path, tmp_path: Path) -> None:
    for variables in ({"BENCHBOX_CACHE_DIR": ""}, {"BENCHBOX_CACHE_DIR": str(tmp_path / "cache")}):
        variables |= {"HOME": "/dev/null", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "", "MPLCONFIGDIR": ""}
        for words in (("report",), ("show", "--format", "svg")):
            assert process(*words, **variables).stderr == ""


@pytest.mark.slow
def test_a_notebooks_backend_for_charts_does_no_harm(process: Command) -> None:
    process("run", "identity", "--limit", "2", "--no-timing", "--report", MPLBACKEND="module://not_installed.backend")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_line_of_a_help_page_is_wider_than_a_terminal(path: tuple[str, ...]) -> None:
    context = click.Context(COMMANDS[path], info_name=" ".join(path), terminal_width=80)
    assert [line for line in COMMANDS[path].get_help(context).splitlines() if len(line) > 80] == []


def test_output_that_is_not_unicode_shows_every_character_in_some_form(process: Command, finished_run: Path) -> None:
    shown = process("leaderboard", finished_run, PYTHONIOENCODING="ascii")
    assert "\\u0394 to best" in shown.stdout


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("| true", 0, ""),
        (">/dev/full", 2, "error: cannot print: No space left on device\nhint: print to another place"),
    ],
)
def test_streams_that_are_closed_or_full(finished_run: Path, streams: str, code: int, said: str) -> None:
    """The work is done, and the exit code says whether the reader has all of it."""
    program = f'"{sys.executable}" -m benchbox'
    results = f"--results {finished_run.parent}"
    for command in (f"leaderboard --format json {results}", "list noises", "--help"):
        done = shell(f"{program} {command} {streams}")
        assert done.returncode == code, command
        assert done.stderr.startswith(said)
        assert "Traceback" not in done.stderr
    assert shell(f"{program} leaderboard nothing {results} {streams}").returncode == 2


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "| true", ">/dev/full"])
def test_a_run_is_finished_whatever_becomes_of_its_output(
    plugin: Callable[[str, str], Path], tmp_path: Path, streams: str
) -> None:
    file = plugin("broken", "raise ValueError")
    options = f'identity broken --plugin "{file}" --limit 2 --no-timing --results "{tmp_path}/results" --report'
    assert shell(f'"{sys.executable}" -m benchbox run {options} {streams}').returncode == 1  # because a row failed
    (folder,) = (tmp_path / "results").iterdir()
    assert {"leaderboard.md", "report.html"} <= {file.name for file in folder.iterdir()}


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command; the exit code is that of the first command of a pipe."""
    whole = ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"]
    return subprocess.run(whole, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_rows_data_and_runs_have_names(benchbox: Command, tmp_path: Path, finished_run: Path) -> None:
    """A row keeps its own name, data are called after their folder, and runs by age."""
    folder = tmp_path / "Set3"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for place in range(3):
        cv2.imwrite(str(folder / f"{place}.png"), rng.integers(0, 256, (32, 32), dtype=np.uint8))
    for size in (3, 5):
        benchbox("run", f"ours (v1)=median:size={size}", "median:size=7", "--data", folder, "--no-timing", "--limit", 3)
    board = benchbox("leaderboard", "latest").stdout
    assert "ours (v1)" in board
    assert "data     Set3, 3 images, 32x32" in board
    table = benchbox("compare").stdout
    assert "data     Set3, 3 shared images" in table
    changed = {line.split()[0]: line for line in table.splitlines() if line.startswith(("ours", "median"))}
    assert "0.00" in changed["median:size=7"]
    assert "0.00 " not in changed["ours"].partition("(v1)")[2]
    twice = benchbox("run", "a=median", "a=wiener", "--limit", 2, "--no-timing", code=2)
    assert "two rows are called 'a'" in twice.stderr
