"""A cache folder that cannot be used costs a warning, and leaves no trace in the environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchbox.system.files import usable_cache

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [{"BENCHBOX_CACHE_DIR": "/dev/null/cache"}, {"BENCHBOX_CACHE_DIR": "", "HOME": "/dev/null", "XDG_CACHE_HOME": ""}],
)
def test_a_cache_that_cannot_be_written_is_a_warning(
    process: Command, csv: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = process("data", "info", csv, TMPDIR=str(temporary), **variables)
    assert done.stdout == process("data", "info", csv).stdout
    assert done.stderr.count("warning:") == 1
    assert "/dev/null is not a folder" in done.stderr
    assert "set BENCHBOX_CACHE_DIR" in done.stderr
    assert not list(temporary.iterdir())


def test_a_user_id_without_a_home_folder_gets_a_temporary_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that is started with a user id of its own."""

    def unknown(*arguments: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_cache_path", unknown)
    monkeypatch.setattr(Path, "home", unknown)
    for name in ("BENCHBOX_CACHE_DIR", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    with usable_cache() as warning:
        assert "(there is no home folder)" in warning
        folder = Path(os.environ["BENCHBOX_CACHE_DIR"])
        assert folder.is_dir()
        assert Path(os.environ["MPLCONFIGDIR"]) == folder / "matplotlib"
    assert "BENCHBOX_CACHE_DIR" not in os.environ
    assert "MPLCONFIGDIR" not in os.environ
