"""What the files of a run are called, and what is none of its files."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

from benchbox.api.records import digest

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
