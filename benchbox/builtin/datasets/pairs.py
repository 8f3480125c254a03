"""`pairs`: noisy pictures that were recorded together with clean ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.api.dataset import Dataset, ImageSet, fingerprint_of
from benchbox.api.errors import BenchboxError
from benchbox.builtin.channels import luminance
from benchbox.builtin.datasets.image_files import is_image_name
from benchbox.builtin.datasets.images import ImageFolder, entry_of, list_images, scan_images
from benchbox.builtin.datasets.opening import require_exists
from benchbox.builtin.datasets.pair_layouts import (
    Pair,
    Pairing,
    find_pairs,
    is_pairs_csv,
    pair_folders,
    read_pairs,
)
from benchbox.builtin.sigma import estimate_sigma
from benchbox.records.options import Color
from benchbox.system.files import CacheFolder
from benchbox.system.text import filename_text, unique_ids

SIDD = "ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb"
"""Validation blocks of the Smartphone Image Denoising Dataset: files and arrays have these names.

Abdelhamed, Lin and Brown, CVPR 2018, doi:10.1109/CVPR.2018.00182.
"""

_PROBED = 4
_PROBE_SIDE = 256
SWAPPED = 1.5
"""Clean pictures with so many times the noise of the noisy ones, and more than `FAINT`, are swapped with them."""
FAINT = 2
"""Noise that clean pictures may have, in grey levels of 255."""


class Pairs(Dataset):
    """Noisy pictures with clean ones of the same scenes, from real cameras or anything else.

    They are found by two folders next to each other (noisy, input, lq, real, raw or low; clean, gt, target, reference,
    mean, original or hr), by one such word in the names of one folder, in a csv file with the columns noisy, clean and
    perhaps scene, or in the two validation files of SIDD. The noise is not drawn but read; its level is unknown. Crops
    and frames of one scene are not independent, so the scene, from the names or the csv file, is the unit of
    statistics. Pixels are treated as in a folder of images.
    """

    name = "pairs"
    named_by_path = True
    summary = "noisy pictures with clean ones: two folders, names that differ by one word, a csv file, or SIDD's blocks"

    def __init__(
        self,
        white: int | None = None,
        color: Color = "auto",
        clean: Path | None = None,
    ) -> None:
        self._white = white
        self._color = color
        self._clean = clean

    def scaled(self, white: int) -> Pairs:
        """See `Dataset.scaled`; for 16-bit files."""
        return Pairs(white, self._color, self._clean)

    def colored(self, color: Color) -> Pairs:
        """See `Dataset.colored`."""
        return Pairs(self._white, color, self._clean)

    def recognises(self, path: Path) -> bool:
        """Whether folders or names pair pictures, or it is a csv file that does."""
        if path.is_file():
            return (path.suffix.lower() == ".csv" and is_pairs_csv(path)) or path.stem in SIDD
        if _blocks_in(path) or _lists_in(path):
            return True
        try:
            return find_pairs(path, _names_in(path)) is not None
        except BenchboxError:
            return True  # they are pairs, but ambiguous, which `load` explains

    def load(self, path: Path | None, *, split: str = "", skip_bad: bool = False) -> ImageSet:
        """Open pairs; there are no splits."""
        if path is None:
            raise BenchboxError("pairs needs a folder or a csv file", hint="give it with --data")
        if split:
            raise BenchboxError(f"pairs has no split '{split}'", hint="give the folder of that split with --data")
        require_exists(path)
        blocks = _blocks_in(path if path.is_dir() else path.parent)
        if blocks and (path.is_dir() or path.stem in SIDD):
            return _open_blocks(*blocks, color=self._color)
        lists = _lists_in(path) if path.is_dir() and self._clean is None else []
        if len(lists) > 1:
            raise BenchboxError(
                f"{path} has several lists of pairs: {', '.join(filename_text(file.name) for file in lists)}",
                hint=f"give one, such as --data {lists[0]}",
            )
        path = lists[0] if lists else path
        root, pairing = self._find(path)
        found_by_words = self._clean is None and path.is_dir()
        return self._open(root, pairing, skip_bad=skip_bad, found_by_words=found_by_words)

    def _find(self, path: Path) -> tuple[Path, Pairing]:
        """The pairs, and the folder that their names are relative to."""
        if self._clean is not None:
            return _find_between(path, self._clean)
        if path.is_file():
            return path.parent, Pairing(read_pairs(path))
        pairing = find_pairs(path, _names_in(path))
        if pairing is None:
            raise BenchboxError(
                f"{path}: neither folders nor names say which picture is noisy and which is clean",
                hint="give two folders with --noisy FOLDER --clean FOLDER, or a csv file with the columns noisy, clean",
            )
        return path, pairing

    def _open(self, root: Path, pairing: Pairing, *, skip_bad: bool, found_by_words: bool) -> ImageSet:
        if pairing.unpaired and not skip_bad:
            some = f" ({len(pairing.unpaired) - 1} more have none)" if len(pairing.unpaired) > 1 else ""
            raise BenchboxError(
                f"{root / pairing.unpaired[0]} has no partner{some}",
                hint="add it, remove the file, or leave such pictures out with --skip-bad"
                + ("" if self._clean else "; if these are not pairs, use --dataset images"),
            )
        if not pairing.pairs:
            raise BenchboxError(f"{root}: no noisy picture has a clean one", hint="give both the same name")
        files = sorted({name for pair in pairing.pairs for name in (pair.noisy, pair.clean)})
        scan = scan_images(root, [entry_of(root / name, name) for name in files], skip_bad)
        places = {name: place for place, name in enumerate(scan.names)}
        pairs = [pair for pair in pairing.pairs if pair.noisy in places and pair.clean in places]
        differ = [pair for pair in pairs if scan.shapes[places[pair.noisy]] != scan.shapes[places[pair.clean]]]
        if differ and not skip_bad:
            first = differ[0]
            noisy_size, clean_size = (scan.shapes[places[name]] for name in (first.noisy, first.clean))
            turned = noisy_size == clean_size[::-1]
            remedy = "turn one of them (an EXIF orientation is ignored)" if turned else "crop both to the same part"
            raise BenchboxError(
                f"{root / first.noisy} has {' x '.join(map(str, noisy_size))} pixels, but its clean picture "
                f"{filename_text(first.clean)} has {' x '.join(map(str, clean_size))}",
                hint=f"{remedy}, or leave such pairs out with --skip-bad",
            )
        left_out = len(pairing.pairs) - len(pairs) + len(differ) + len(pairing.unpaired)
        pairs = [pair for pair in pairs if pair not in differ]
        if not pairs:
            raise BenchboxError(f"{root}: no pair can be used", hint="omit --skip-bad to see why")
        opener = ImageFolder(color=self._color) if self._white is None else ImageFolder(self._white, self._color)
        whole = opener.open_scan(root, scan)
        clean, noisy = (np.array([places[getattr(pair, kind)] for pair in pairs]) for kind in ("clean", "noisy"))
        ids = unique_ids([pair.noisy for pair in pairs])
        digests = scan.colours if whole.channels > 1 else scan.digests
        content = [f"{digests[one]} {digests[other]}" for one, other in zip(clean, noisy, strict=True)]
        read = whole.read
        images = replace(
            whole,
            dataset=self.name,
            ids=ids,
            shapes=whole.shapes[clean],
            fingerprint=fingerprint_of(ids, [*content, *([] if self._white is None else [f"white {self._white}"])]),
            read=lambda indices: read(clean[indices]),
            read_noisy=lambda indices: read(noisy[indices]),
            scenes=tuple(filename_text(pair.scene) for pair in pairs),
        )
        if found_by_words:
            _refuse_swapped(images, root, pairs)
        return replace(images, notes=(*_notes(images, pairing, left_out), *whole.notes))


def _find_between(noisy: Path, clean: Path) -> tuple[Path, Pairing]:
    """Pair the pictures of two folders anywhere."""
    for folder in (noisy, clean):
        require_exists(folder)
        if not folder.is_dir():
            raise BenchboxError(f"{folder} is not a folder", hint="give two folders, or a csv file with --data")
    if noisy.resolve() == clean.resolve():
        raise BenchboxError(f"{noisy} is both the noisy and the clean folder", hint="give two folders")
    root = Path(os.path.commonpath([noisy.resolve(), clean.resolve()]))
    within = [str(folder.resolve().relative_to(root)) for folder in (noisy, clean)]
    if "." in within:
        outer, inner = (clean, noisy) if within[1] == "." else (noisy, clean)
        raise BenchboxError(f"{inner} is inside {outer}", hint="give two folders next to each other")
    names = []
    for folder, inside in zip((noisy, clean), within, strict=True):
        names += [f"{inside}/{name}" for name in _names_in(folder)]
    return root, pair_folders(root, names, *within)


def _names_in(folder: Path) -> list[str]:
    """Pictures below a folder that can be read."""
    return sorted(name for name, *_ in list_images(folder) if is_image_name(_last(name)))


def _notes(images: ImageSet, pairing: Pairing, left_out: int) -> tuple[str, ...]:
    scenes = len(set(images.scenes))
    whose = f" of {scenes:,} scene{'s' * (scenes > 1)}" if scenes < len(images) else ", each a scene of its own"
    notes = []
    if left_out:
        notes.append(f"skipped: {_pictures(left_out)} without a partner that can be used")
    if others := len(pairing.others):
        first = filename_text(pairing.others[0])
        are = "are" if others > 1 else "is"
        notes.append(f"left out: {_pictures(others)} that {are} called neither noisy nor clean, first {first}")
    if pairing.unused:
        folders = ", ".join(dict.fromkeys(filename_text(_last(folder)) for folder in pairing.unused))
        notes.append(f"left out: less noise of the same pictures in {folders}; score it with --noisy and --clean")
    pairs = "1 pair" if len(images) == 1 else f"{len(images):,} pairs"
    return (*notes, f"noise: recorded in {pairs}{whose}")


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _refuse_swapped(images: ImageSet, root: Path, pairs: Sequence[Pair]) -> None:
    """Raise `BenchboxError` if the pictures called clean have clearly more noise, in all of a few pairs."""
    probed = np.unique(np.linspace(0, len(images) - 1, _PROBED).astype(np.intp))
    for place in probed:
        levels = []
        for stack in (images.stack(np.array([place])), images.noisy_stack(np.array([place]))):
            part = stack[:, :_PROBE_SIDE, :_PROBE_SIDE]
            levels.append(float(estimate_sigma(luminance(part) if images.channels > 1 else part)[0]))
        if 255 * levels[0] < FAINT or levels[0] < SWAPPED * levels[1]:
            return
    noisy, clean = (root / name for name in (pairs[0].noisy, pairs[0].clean))
    raise BenchboxError(
        f"the pictures called clean have more noise than those called noisy, such as {clean} than {noisy}",
        hint="say which is which in a csv file with the columns noisy, clean"
        if noisy.parent == clean.parent
        else f"if they are swapped, give --noisy {clean.parent} --clean {noisy.parent}, or else the other way round",
    )


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _lists_in(folder: Path) -> list[Path]:
    """Csv files in a folder that list its pairs."""
    return [file for file in sorted(folder.glob("*.csv")) if file.is_file() and is_pairs_csv(file)]


def _blocks_in(folder: Path) -> tuple[Path, Path] | None:
    """SIDD's noisy and clean validation blocks, if both are in a folder."""
    noisy, clean = (folder / f"{name}.mat" for name in SIDD)
    return (noisy, clean) if noisy.is_file() and clean.is_file() else None


def _open_blocks(noisy_file: Path, clean_file: Path, *, color: str) -> ImageSet:
    stacks = [_blocks_of(file, name) for file, name in zip((noisy_file, clean_file), SIDD, strict=True)]
    noisy, clean = stacks
    if noisy.shape != clean.shape:
        raise BenchboxError(
            f"{noisy_file} holds {noisy.shape}, but {clean_file} {clean.shape}", hint="download both files again"
        )
    pictures, blocks, height, width = noisy.shape[:4]
    ids = tuple(f"{picture + 1:02}/{block + 1:02}" for picture in range(pictures) for block in range(blocks))
    rgb = color != "grey"

    def reader(stack: NDArray[Any]) -> Callable[[NDArray[np.intp]], Images]:
        flat = stack.reshape(-1, *stack.shape[2:])

        def read(indices: NDArray[np.intp]) -> Images:
            images = np.divide(flat[indices], np.float32(255), dtype=np.float32)
            return images if rgb else luminance(images)

        return read

    import xxhash

    digests = [xxhash.xxh3_128_hexdigest(stack.data) for stack in stacks]
    return ImageSet(
        dataset=Pairs.name,
        split="",
        ids=ids,
        shapes=np.tile(np.array([height, width], dtype=np.int64), (len(ids), 1)),
        fingerprint=fingerprint_of(ids, [*digests, "RGB" if rgb else "luminance"]),
        read=reader(clean),
        read_noisy=reader(noisy),
        channels=3 if rgb else 1,
        scenes=tuple(name.partition("/")[0] for name in ids),
        notes=(f"noise: recorded in {len(ids):,} blocks of {pictures} pictures, which are the scenes",),
    )


def _blocks_of(file: Path, name: str) -> NDArray[Any]:
    """The array of a .mat file, mapped from a copy in the cache, so that it takes no memory in every process."""
    status = file.stat()
    import xxhash

    entry = xxhash.xxh3_128_hexdigest(f"{file.resolve()} {status.st_size} {status.st_mtime_ns}".encode()) + ".npy"
    cache = CacheFolder("blocks")
    if not (cache.path / entry).is_file():
        from scipy.io import loadmat

        try:
            array = loadmat(file, variable_names=[name]).get(name)
        except (ValueError, TypeError, OSError, NotImplementedError) as error:
            raise BenchboxError(f"{file}: {error}", hint="download it again") from error
        if array is None or array.dtype != np.uint8 or array.ndim != 5 or array.shape[4] != 3:
            found = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
            raise BenchboxError(
                f"{file} holds {found} called {name}, not uint8 of shape (40, 32, 256, 256, 3)",
                hint="download it again",
            )
        with cache.temporary() as (target, temporary), cache.writing():
            np.save(target, np.ascontiguousarray(array))
            cache.publish(target, temporary, entry)
    return np.asarray(np.load(cache.path / entry, mmap_mode="r", allow_pickle=False))
