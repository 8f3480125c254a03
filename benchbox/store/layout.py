"""File names used inside a run folder, and how a run is found by name."""

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
KEY = re.compile(r"[0-9a-f]{8,32}")
SHARD = re.compile(r"([0-9]{8})-([0-9]{8})\.parquet")
_STRANGE = re.compile(r"[^a-z0-9_-]")
_LONGEST = 64


def new_run_id() -> str:
    """Name of a new run: UTC time to the millisecond, so that names sort as runs were made, and random hex digits."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}{secrets.token_hex(2)}"


def timing_key(denoiser: str) -> str:
    """File name of a denoiser's timing: a readable start and a digest of its canonical specification."""
    return f"{_STRANGE.sub('_', denoiser.partition(':')[0])[:_LONGEST]}-{digest(denoiser)}"


def noise_key(noise: str) -> str:
    """File name of what is kept of a noise, by its canonical specification."""
    return digest(noise)


def list_runs(results: Path) -> list[Path]:
    """Folders of all runs, oldest first."""
    if not results.is_dir():
        return []
    return sorted(one for one in results.iterdir() if RUN_ID.fullmatch(one.name) and (one / "run.json").is_file())


def find_run(results: Path, name: str = "") -> Path:
    """Find a run."""
    if name and (Path(name) / "run.json").is_file():
        return Path(name)
    runs = list_runs(results)
    if not runs:
        raise BenchboxError(f"there is no run in {results}", hint="make one: benchbox run --noise gaussian:0.1")
    fitting = [run for run in runs if run.name.startswith(name)]
    if not name or len(fitting) == 1:
        return fitting[-1]
    if fitting:
        raise BenchboxError(f"'{name}' fits {len(fitting)} runs", hint="give more of its id: benchbox list runs")
    raise BenchboxError(f"there is no run '{name}' in {results}", hint=f"the newest is {runs[-1].name}")
