"""File names used inside a run folder, and the search for a run by name."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

from benchbox.api.errors import BenchboxError
from benchbox.records.run import digest

FORMAT = 1
IMAGE = "image"
PICTURES = ("clean", "noisy", "denoised")
RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9]{3}[0-9a-f]{4}")
OURS = re.compile(
    r"run\.json|images\.parquet|lock|leaderboard\.md|report\.html|logs/[^/]+\.(?:log|txt)|outcomes/[0-9a-f]{16}\.json"
    r"|timing/[^/.]+\.(?:json|parquet)|(?:previews|ceiling)/[0-9a-f]{16}\.parquet|scores/[0-9a-f]{16}/[0-9]{8}-[0-9]{8}\.parquet"
)
ASIDE = "set-aside"
FOLDERS = re.compile(rf"logs|outcomes|timing|previews|ceiling|scores(?:/[0-9a-f]{{16}})?|{ASIDE}")
KEY = re.compile(r"[0-9a-f]{16}")
SHARD = re.compile(r"([0-9]{8})-([0-9]{8})\.parquet")
_NOT_A_NAME = re.compile(r"[^a-z0-9_-]")
_LONGEST = 64


def new_run_id() -> str:
    """Id of a new run: UTC time in milliseconds, so that ids sort by age, and random hex digits."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}{secrets.token_hex(2)}"


def timing_key(denoiser: str) -> str:
    """File name for a denoiser: its readable name and a digest of its canonical specification."""
    return f"{_NOT_A_NAME.sub('_', denoiser.partition(':')[0])[:_LONGEST]}-{digest(denoiser)}"


def noise_key(noise: str) -> str:
    """File name for a noise, from its canonical specification."""
    return digest(noise)


def list_runs(results: Path) -> list[Path]:
    """Folders of all runs, oldest first."""
    if not results.is_dir():
        return []
    return sorted(path for path in results.iterdir() if RUN_ID.fullmatch(path.name) and (path / "run.json").is_file())


def find_run(results: Path, name: str = "") -> Path:
    """Find a run by its id, a unique prefix of it, or the path of its folder or of one that holds only this run.

    Without a name, it is the newest run.
    """
    if name and (Path(name) / "run.json").is_file():
        return Path(name)
    runs = list_runs(results)
    matches = [run for run in runs if run.name.startswith(name)]
    if matches and (not name or len(matches) == 1):
        return matches[-1]
    if matches:
        raise BenchboxError(
            f"'{name}' matches {len(matches)} runs", hint="give more of the id (list them with: benchbox list runs)"
        )
    if name and Path(name).is_dir():
        inside = list_runs(Path(name))
        if len(inside) == 1:
            return inside[0]
        if inside:
            raise BenchboxError(f"{name} holds {len(inside)} runs", hint=f"name one of them, such as {inside[-1]}")
        raise BenchboxError(f"{name} is not the folder of a run: it has no run.json", hint="give the folder of a run")
    if runs:
        raise BenchboxError(f"there is no run '{name}' in {results}", hint=f"the newest is {runs[-1].name}")
    missing = f", and no folder '{name}'" if name else ""
    raise BenchboxError(f"there is no run in {results}{missing}", hint="start one: benchbox run --noise gaussian:0.1")
