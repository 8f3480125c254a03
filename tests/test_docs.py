"""What the documentation shows is run: the plugin, the hooks, the commands."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchbox.api import hookspecs

Command = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parent.parent


def blocks(page: str, language: str) -> list[str]:
    """Code blocks of one language in a page."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_plugin_of_the_manual_runs_as_it_stands(benchbox: Command, tmp_path: Path) -> None:
    (tmp_path / "box3.py").write_text(blocks("plugins/README.md", "python")[0])
    (line,) = blocks("plugins/README.md", "console")
    command = shlex.split(line.removeprefix("$ "))
    assert command.pop(0) == "benchbox"
    board = benchbox(*command, "--no-timing").stdout
    assert "box3:size=5" in board
    assert board.index("box3") < board.index("identity"), "a box filter is better than doing nothing at this noise"
    (tmp_path / "folder").mkdir()
    (tmp_path / "box3.py").rename(tmp_path / "folder" / "box3.py")
    assert "box3" in benchbox("list", "denoisers", BENCHBOX_PLUGINS_DIR="folder").stdout
    assert "box3" in benchbox("plugins", "list", "--plugins-dir", "folder").stdout


def test_every_python_snippet_of_the_manual_is_python() -> None:
    snippets = blocks("plugins/README.md", "python")
    assert len(snippets) >= 3
    for snippet in snippets:
        ast.parse(snippet)
    namespace: dict[str, object] = {}
    exec(compile(snippets[1], "capabilities", "exec"), namespace)
    assert namespace["capabilities"]


def test_the_manual_shows_every_hook_with_its_signature() -> None:
    text = (ROOT / "plugins/README.md").read_text(encoding="utf-8")
    hooks = [name for name in vars(hookspecs) if name.startswith("benchbox_")]
    assert len(hooks) == 4
    for name in hooks:
        signature = inspect.signature(getattr(hookspecs, name))
        shown = re.sub(r"'", "", f"def {name}{signature}: ...")
        assert shown in text, shown


def test_ci_calls_the_test_command_of_the_readme() -> None:
    (command,) = [
        line for block in blocks("README.md", "console") for line in block.splitlines() if "pytest -n" in line
    ]
    assert command.removeprefix("$ ").replace("install -e", "install -q -e") in (ROOT / ".ci/run").read_text()


def test_bundled_plugins_import_nothing_of_the_harness_but_its_front_door() -> None:
    files = sorted((ROOT / "plugins").rglob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.startswith("benchbox.")], file


def test_no_pickle_and_no_eval_anywhere() -> None:
    for file in [*(ROOT / "benchbox").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "pickle.load", "pickle.loads"), f"{file}:{node.lineno}"
                for keyword in node.keywords:
                    allowed = keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
                    assert not allowed, f"{file}:{node.lineno}"
