"""Runs what the documentation shows: plugins, hooks, commands, snippets; and builds the site."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import nbclient
import nbformat
import numpy as np
import PIL.Image
import pytest

from benchbox import BenchboxError
from benchbox.api import hookspecs
from benchbox.cli.main import cli
from benchbox.records.specs import configure
from benchbox.registry import load_registry
from benchbox.testing import check_denoiser
from benchbox.testing.behaviour_probes import PROCESS_PROBES
from benchbox.testing.check import PROBES
from benchbox.testing.scaffold import write_package

Command = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parent.parent


def blocks(page: str, language: str) -> list[str]:
    """Code blocks of one language in a page."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


MANUAL = "docs/writing-a-denoiser.md"
PAGES = sorted(
    str(page.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "plugins/*.md", "plugins/*/*.md", "results/README.md")
    for page in ROOT.glob(pattern)
)


def commands_of(page: str) -> list[list[str]]:
    """The commands of a page that start benchbox, in words."""
    lines = [line for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    parts = [part for line in lines for part in re.split(" && ", line.removeprefix("$ "))]
    words = [shlex.split(part, comments=True) for part in parts]
    return [line[1:] for line in words if line[0] == "benchbox"]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_one(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse each command line, without running it."""
    monkeypatch.chdir(tmp_path)
    for arguments in commands_of(page):
        for word in arguments:
            if word.endswith((".csv", ".py", "/")) and not word.startswith("-"):
                Path(word).parent.mkdir(parents=True, exist_ok=True)
                Path(word).mkdir(exist_ok=True) if word.endswith("/") else Path(word).touch()
        command: click.Command = cli
        context = click.Context(cli, info_name="benchbox")
        while isinstance(command, click.Group):
            name, found, arguments = command.resolve_command(context, list(arguments))
            assert found is not None
            context, command = click.Context(found, context, info_name=name), found
        command.make_context(command.name, list(arguments), context.parent)


@pytest.mark.slow
def test_the_quick_start_and_the_plugin_of_the_readme_run(benchbox: Command, tmp_path: Path) -> None:
    plugin, in_python = blocks("README.md", "python")
    (tmp_path / "box3.py").write_text(plugin)
    (tmp_path / "in_python.py").write_text(in_python)
    install, faces, box = commands_of("README.md")
    assert (install[:2], faces[-1], box[:2]) == (["run", "--noise"], "500", ["run", "box3"])
    quick = ("--no-timing", "--limit", "8")
    assert "bm3d_lite" in benchbox(*install, *quick).stdout
    assert "box3" in benchbox(*box, *quick).stdout
    assert "box3" in benchbox("plugins", "check", "box3.py").stdout
    subprocess.run([sys.executable, "in_python.py"], cwd=tmp_path, check=True)


@pytest.mark.slow
def test_the_commands_of_getting_started_run(benchbox: Command, csv: Path, tmp_path: Path) -> None:
    if csv != tmp_path / "fer2013.csv":
        shutil.copy(csv, tmp_path / "fer2013.csv")
    for folder in ("photos", "Set12", "BSD68"):
        (tmp_path / folder).mkdir()
        PIL.Image.fromarray(np.full((32, 32), 99, np.uint8)).save(tmp_path / folder / "one.png")
    for arguments in commands_of("docs/getting-started.md"):
        extra = ("--limit", "6", "--batch", "2") if arguments[0] == "run" else ()
        benchbox(*[word for word in arguments if word != "--open"], *extra)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {str(page.relative_to(tmp_path)): page.read_text(encoding="utf-8") for page in tmp_path.rglob("*.html")}
    loaded = r"<(?:script|img|link rel=\"stylesheet\"|iframe)[^>]*(?:src|href)=\"?(?:https?:)?//"
    assert not [name for name, page in pages.items() if re.search(loaded, page)]
    headings = set(re.findall(r'<h2 id="([^"]+)"', pages["command-line/index.html"]))
    assert {"benchbox", "benchbox-run", "benchbox-data-audit", "benchbox-plugins-new"} <= headings
    assert {f"benchbox-{name}" for name in cli.list_commands(click.Context(cli))} <= headings
    assert "--sigma-error" in pages["command-line/index.html"]
    assert "index.html" in pages
    assert "plugins/benchbox_unet/index.html" in pages


@pytest.mark.slow
def test_the_plugin_of_the_manual_runs_as_it_stands(benchbox: Command, tmp_path: Path) -> None:
    """Every command of the manual, in its order, beside the file that it tells to save."""
    (tmp_path / "box3.py").write_text(blocks(MANUAL, "python")[0])
    shutil.copy(ROOT / "plugins/benchbox_adapters/examples/mean3.c", tmp_path)
    lines = [shlex.split(line.removeprefix("$ ")) for block in blocks(MANUAL, "console") for line in block.splitlines()]
    assert [line[:3] for line in lines if line[0] == "benchbox"] == [
        ["benchbox", "run", "box3"],
        ["benchbox", "plugins", "new"],
        ["benchbox", "plugins", "check"],
        ["benchbox", "plugins", "check"],
        ["benchbox", "run", 'command:run="./mean3 {in} {out}"'],
    ]
    for program, *arguments in lines:
        if program == "cc" and shutil.which("cc") is None:
            break
        if program == "cc":
            subprocess.run([program, *arguments], cwd=tmp_path, check=True)
            continue
        extra = ("--no-timing", "--limit", "20") if arguments[0] == "run" else ()
        printed = benchbox(*arguments, *extra).stdout
        if arguments[0] == "run":
            mine = arguments[1].partition(":")[0]
            assert printed.index(mine) < printed.index("identity"), "better than doing nothing at this noise"


def test_a_folder_of_plugins_is_an_option_or_a_variable(benchbox: Command, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "box3.py").write_text(blocks(MANUAL, "python")[0])
    assert "box3" in benchbox("list", "denoisers", BENCHBOX_PLUGINS_DIR="folder").stdout
    assert "box3" in benchbox("plugins", "list", "--plugins-dir", "folder").stdout


def snippet(word: str) -> str:
    """The one Python snippet of the manual that holds a word."""
    (found,) = [one for one in blocks(MANUAL, "python") if word in one]
    return found


def defined(code: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(compile(code, "manual", "exec"), namespace)
    return namespace


def test_the_snippet_of_the_contract_keeps_it() -> None:
    shrink = defined(snippet("ImageDenoiser"))["Shrink"]
    here = set(PROBES) - {probe.name for probe in PROCESS_PROBES}
    card = check_denoiser(shrink, probes=sorted(here))
    assert {verdict.mark for verdict in card.verdicts} <= {"pass", "skip"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the Jupyter packages
def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert all(not cell.get("outputs") for cell in notebook.cells), "it is stored without results"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    kinds = [next(kind for kind in ("image/png", "text/html", "text/plain") if kind in data) for data in shown]
    assert kinds.count("image/png") == 2, "the chart and the pictures"
    assert kinds.count("text/html") >= 4, "the board and three frames"
    (board,) = [data["text/html"] for data in shown if "ranked by PSNR" in data.get("text/html", "")]
    assert board.count("<tr>") == 4
    assert "smooth" in board
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    said = " ".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "scoring: " in said, "progress is shown, with or without ipywidgets"
    assert "Warning" not in said


def test_the_snippet_of_options_is_read_as_the_manual_says() -> None:
    window = defined(snippet("class Window"))["Window"]
    made = configure(window, "window:size=5,edges=repeat").make()
    assert (made.size, made.edges, made.strength) == (5, "repeat", None)
    assert configure(window, "window:5").make().size == 5
    with pytest.raises(BenchboxError, match="size must be odd"):
        configure(window, "window:4").make()
    with pytest.raises(BenchboxError) as caught:
        configure(window, "window:edges=miror").make()
    assert "did you mean 'mirror'" in caught.value.message


def test_the_function_of_the_manual_is_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "shrink.py").write_text(snippet("return 0.9 * (noisy"))
    denoiser = load_registry([tmp_path / "shrink.py"]).denoiser("shrink").make()
    assert denoiser.denoise(np.full((1, 2, 2), 0.25, np.float32), None)[0, 0, 0] == pytest.approx(0.275)


def test_the_snippet_of_capabilities_stands() -> None:
    assert defined(snippet('sigma="required"'))["capabilities"].sigma == "required"


def test_the_entry_point_of_the_manual_is_that_of_a_new_package(tmp_path: Path) -> None:
    (shown,) = blocks(MANUAL, "toml")
    assert shown in (write_package("my-denoiser", tmp_path) / "pyproject.toml").read_text()


@pytest.mark.slow
def test_the_snippets_for_pytest_pass(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_manual.py").write_text(snippet("check_denoiser") + "\n\n" + snippet("benchmark_denoiser"))
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "--benchmark-disable"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "3 passed" in done.stdout, done.stdout


def test_the_manual_lists_every_probe_in_its_words() -> None:
    rows = "\n".join(f"| `{probe.name}` | {probe.asks} |" for probe in PROBES.values())
    assert rows in (ROOT / MANUAL).read_text(encoding="utf-8")


def test_every_snippet_of_the_manual_is_run_by_a_test() -> None:
    words = (
        "class Box",
        "return 0.9 * (noisy",
        "ImageDenoiser",
        "class Window",
        'sigma="required"',
        "check_denoiser",
        "benchmark_denoiser",
    )
    assert len(blocks(MANUAL, "python")) == len(words) + 1, "and the hooks, whose signatures are compared"
    assert len({snippet(word) for word in words}) == len(words)


def test_the_manual_shows_every_hook_with_its_signature() -> None:
    text = (ROOT / MANUAL).read_text(encoding="utf-8")
    hooks = [name for name in vars(hookspecs) if name.startswith("benchbox_")]
    assert len(hooks) == 4
    for name in hooks:
        signature = inspect.signature(getattr(hookspecs, name))
        shown = re.sub(r"'", "", f"def {name}{signature}: ...")
        assert shown in text, shown


def test_ci_calls_the_test_command_of_the_readme() -> None:
    lines = [line for block in blocks("README.md", "console") for line in block.splitlines() if "[dev]" in line]
    (install, test) = lines[0].removeprefix("$ ").split(" && ")
    ci = (ROOT / ".ci/run").read_text().replace("install -q -e", "install -e").splitlines()
    assert len(lines) == 1
    assert ci.index(install) < ci.index(test)


def test_bundled_plugins_import_nothing_of_the_harness_but_its_front_door() -> None:
    files = sorted((ROOT / "plugins").rglob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.startswith("benchbox.")], file


def test_the_map_names_every_module_in_the_row_of_its_room() -> None:
    rows = dict(
        re.findall(r"^\| `(\w+)/` \|(.*)$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    rooms = {file.parent for file in ROOT.glob("benchbox/*/__init__.py")}
    assert rows.keys() == {room.name for room in rooms}
    for room in rooms:
        files = [file for file in room.rglob("*.py") if file.name != "__init__.py"]
        folders = {f"{file.parent.name}/" for file in files if file.parent != room}
        named = set(re.findall(r"`(\w+\.py|\w+/)`", rows[room.name]))
        modules = {file.name for file in files}
        assert (modules | folders) - named == set(), room.name
        assert {name for name in named if not (room / name).exists() and not list(room.rglob(name))} == set(), room.name


def test_no_module_is_longer_than_the_style_allows() -> None:
    (most,) = re.findall(r"in at most (\d+) lines", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    files = [*ROOT.glob("benchbox/**/*.py"), *ROOT.glob("plugins/**/*.py")]
    assert len(files) > 100
    assert [file for file in files if len(file.read_text(encoding="utf-8").splitlines()) > int(most)] == []


def test_the_readmes_of_plugins_name_every_denoiser_metric_and_module() -> None:
    registry = load_registry()
    named = set(re.findall(r"`(\w+)`", (ROOT / "plugins/README.md").read_text(encoding="utf-8")))
    bundled = {name for name, entry in registry.denoisers.items() if entry.provider.target.startswith("benchbox_")}
    bundled |= {name for name, entry in registry.metrics.items() if entry.provider.target.startswith("benchbox_")}
    assert len(bundled) > 20
    assert bundled - named == set()
    tables = 0
    for readme in ROOT.glob("plugins/*/README.md"):
        text = readme.read_text(encoding="utf-8")
        tables += (told := "| Module |" in text)
        modules = {file.name for file in readme.parent.glob("*.py")} - {"__init__.py"}
        assert not told or {name for name in modules if f"`{name}`" not in text} == set(), readme
    assert tables
