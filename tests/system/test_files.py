"""Temporary folders are deleted once nobody is left to do so, and never while their owner lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchbox.system.files import remove_abandoned

OWNER = """
import os, sys
from benchbox.system.files import temporary_folder
with temporary_folder() as folder:
    (folder / "t").mkdir()
    (folder / "t" / "file").touch()
    if sys.argv[1:]:
        (folder / "link").symlink_to(sys.argv[1])
    os.utime(folder, (0, 0))
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_only_old_folders_whose_owner_is_dead_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch, others = tmp_path / "scratch", tmp_path / "others"
    for folder in (scratch, others):
        folder.mkdir()
    (others / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    owners = [
        subprocess.Popen(
            [sys.executable, "-c", OWNER, str(others)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(scratch)},
        )
        for _ in range(3)
    ]  # fmt: skip
    try:
        folders = [Path(owner.stdout.readline().strip()) for owner in owners if owner.stdout]
        assert all(folder.parent == scratch for folder in folders)
        alive, dead, fresh = folders
        elsewhere = scratch / dead.name.replace(dead.name.split("-")[1], "00000000")  # of another system
        elsewhere.mkdir()
        os.utime(elsewhere, (0, 0))
        os.utime(fresh)
        for owner in owners[1:]:
            owner.kill()
            owner.wait()
        remove_abandoned()
        assert set(scratch.iterdir()) == {alive, fresh, elsewhere}
        assert (alive / "t" / "file").exists()
        assert (others / "file").exists()
        owners[0].communicate("")
        assert not alive.exists()
    finally:
        for owner in owners:
            owner.kill()
            owner.communicate()
