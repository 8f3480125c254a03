"""Before a run resumes, moves damaged and foreign files out of its folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.errors import BenchboxError
from benchbox.store.layout import ASIDE, FOLDERS, IMAGE, OURS, SHARD, read_table
from benchbox.store.run import PARTS, RunStore
from benchbox.system.files import explain_errors, read_json

Planned = Mapping[tuple[int, int], tuple[NDArray[np.intp], int]]
"""Shards by their range in the order of work: positions of the images, and the repeat number of the noise."""

_LONGEST = 80


def set_aside_foreign_files(store: RunStore, planned: Planned) -> list[str]:
    """Move damaged files, foreign files and links into ``set-aside/``; returns their names relative to the folder.

    The run must be locked. Scores are kept only if they cover exactly the images of a planned shard. A cell with
    missing scores also loses its outcome, so that it is computed again.
    """
    folder = store.folder
    with explain_errors(folder / ASIDE):
        _make_room(folder)
    # The generator must see each move before it goes on, because a foreign folder takes its contents along.
    moved = [_move(folder, name) for name in _foreign_files(folder)]
    for part in PARTS:
        with explain_errors(folder / part):
            (folder / part).mkdir(exist_ok=True)
    store.keep_record()  # run.json may have been a link that has just been moved
    outcomes = store.outcomes()
    keys = {cell.key for cell in store.record.cells}
    for part in ("scores", "denoised"):
        moved += [
            _move(folder, f"{part}/{path.name}") for path in sorted(folder.glob(f"{part}/*")) if path.name not in keys
        ]
    for cell in store.record.cells:
        outcome = outcomes.get(cell.key)
        foreign = _foreign_shards(store, cell.key, planned, outcome.status if outcome else "")
        moved += [_move(folder, f"scores/{cell.key}/{name}") for name in foreign]
        if outcome is not None and outcome.status == "ok":
            left = store.finished_shards(cell.key)
            if not (set(planned) <= set(left) or left == [_whole(planned)]):
                moved.append(_move(folder, f"outcomes/{cell.key}.json"))
    return moved


def _make_room(folder: Path) -> None:
    """Rename a file or link that blocks the name of the ``set-aside`` folder."""
    aside = folder / ASIDE
    if aside.is_symlink() or (aside.exists() and not aside.is_dir()):
        aside.rename(_free(folder / f"{ASIDE}-found"))


def _foreign_files(folder: Path, below: str = "") -> Iterator[str]:
    for file in sorted(folder.iterdir()):
        name = below + file.name
        if file.is_symlink() or not (FOLDERS if file.is_dir() else OURS).fullmatch(name):
            yield name
        elif file.is_dir():
            if name != ASIDE:
                yield from _foreign_files(file, f"{name}/")
        elif not (file.is_file() and (SHARD.fullmatch(file.name) or _is_whole(file))):
            yield name


def _is_whole(file: Path) -> bool:
    try:
        if file.suffix == ".json":
            read_json(file)
        elif file.suffix == ".parquet":
            read_table(file)
    except BenchboxError:
        return False
    return True


def _foreign_shards(store: RunStore, cell: str, planned: Planned, status: str) -> Iterator[str]:
    """Score files of a cell that are damaged, do not match a planned shard, or lack their denoised images."""
    ranges = store.finished_shards(cell)
    for start, stop in ranges:
        try:
            pairs = _pairs(store.shard(cell, start, stop))
            if store.record.options.save_images:
                store.denoised(cell, start, stop)
        except BenchboxError:
            yield f"{start:08d}-{stop:08d}.parquet"
            continue
        if (start, stop) in planned:
            indices, repeat = planned[start, stop]
            fits = pairs == [(index, repeat) for index in indices.tolist()]
        else:
            # A merged run has all scores of a cell in one file, and fewer only if the cell failed.
            every = {(index, repeat) for indices, repeat in planned.values() for index in indices.tolist()}
            lone = len(ranges) == 1 and start == 0 and len(set(pairs)) == len(pairs)
            fits = lone and bool(status) and (set(pairs) == every if status == "ok" else set(pairs) <= every)
        if not fits:
            yield f"{start:08d}-{stop:08d}.parquet"


def _pairs(table: Mapping[str, NDArray[Any]]) -> list[tuple[int, int]]:
    """Image and repeat number of each row."""
    return list(zip(table[IMAGE].tolist(), table["repeat"].tolist(), strict=True))


def _whole(planned: Planned) -> tuple[int, int]:
    return 0, max((stop for _, stop in planned), default=0)


def _move(folder: Path, name: str) -> str:
    """Move a file or folder without overwriting anything; returns its name as printable text."""
    with explain_errors(folder / name):
        (folder / ASIDE).mkdir(exist_ok=True)
        (folder / name).rename(_free(folder / ASIDE / name.replace("/", "_")[-_LONGEST:]))
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _free(path: Path) -> Path:
    """Path that does not exist, not even as a dangling link."""
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free
