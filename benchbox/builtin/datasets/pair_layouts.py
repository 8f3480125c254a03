"""Which noisy picture belongs to which clean one: by folders, by words in their names, or by a csv file."""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from benchbox.api.errors import BenchboxError
from benchbox.system.text import filename_text

NOISY = ("noisy", "input", "input_crops", "lq", "real", "raw", "low")
CLEAN = (
    "clean", "gt", "gt_crops", "target", "target_crops", "reference", "mean", "original", "original_png", "hr",
)  # fmt: skip
_AVERAGED = re.compile(r"avg\d+")  # of a microscope: the mean of so many frames
_STRENGTH = re.compile(r"[ _-]?\d+$")  # as in noisy50
# In a file name, a word stands between characters that are not letters: 0001_NOISY_SRGB_010, IMG_4783Noisy.
_WORD = re.compile(rf"(?i)(?<![a-z])(?:({'|'.join(NOISY)})|({'|'.join(CLEAN)}))(?![a-z])")
_SEPARATORS = re.compile(r"[ _.-]+")
_CROP = re.compile(r"(?:_?(?:crop|patch|tile|block|frame)_?\d+|_s\d+|_x\d+_?y\d+)$")
_NUMBERED_CROP = re.compile(r"(\d{1,5})_\d{1,5}")  # crop 7 of picture 12 is 12_7; longer numbers are dates
_COUNTED = re.compile(r"_\d+$")
_DIGITS = re.compile(r"\d+")
# What is before the number says nothing but the camera, so that the number tells pictures apart, not crops of one.
_CAMERA = re.compile(r"[ _.\d-]*(?:img|image|dsc|dscn|dscf|photo|picture|pic|p|scene|sample|test)?[ _.\d-]*|.*iso\d*")
_TREE = "raw"


@dataclass(frozen=True)
class Pair:
    """A noisy picture and its clean one, by their names relative to a common folder."""

    noisy: str
    clean: str
    scene: str


@dataclass
class Pairing:
    """All pairs below a folder."""

    pairs: list[Pair] = field(default_factory=list)
    unpaired: list[str] = field(default_factory=list)
    """Noisy pictures without a clean one, and clean ones without a noisy one."""
    others: list[str] = field(default_factory=list)
    """Pictures whose folders or names say neither, such as somebody's results."""
    unused: list[str] = field(default_factory=list)
    """Folders of the same pictures with less noise."""


def find_pairs(root: Path, names: Sequence[str]) -> Pairing | None:
    """Pair pictures below a folder, by the names of their folders or else by their own; None if neither says it.

    Raises `BenchboxError` if the pairing is ambiguous.
    """
    places = _folders_of_pairs(names)
    if not places:
        found = _by_names(root, names)
        return found if found.pairs else None
    pairing = Pairing()
    for parent, (noisy, clean) in sorted(places.items()):
        where = root / parent
        chosen = noisy if len(noisy) == 1 else [folder for folder in noisy if _last(folder).lower() == _TREE]
        if len(clean) > 1 or len(chosen) != 1:
            kind, several = ("clean", clean) if len(clean) > 1 else ("noisy", noisy)
            listed = ", ".join(filename_text(_last(folder)) for folder in several)
            raise BenchboxError(
                f"{where} has several {kind} folders: {listed}",
                hint=f"name two with --noisy {root / chosen[0] if chosen else root / noisy[0]} --clean "
                f"{root / clean[0]}",
            )
        pairing.unused += [folder for folder in noisy if folder not in chosen]
        found = pair_folders(root, names, chosen[0], clean[0])
        pairing.pairs += found.pairs
        pairing.unpaired += found.unpaired
    sides = tuple(f"{folder}/" for kinds in places.values() for folders in kinds for folder in folders)
    pairing.others = [name for name in names if not name.startswith(sides)]
    return pairing


def pair_folders(root: Path, names: Sequence[str], noisy: str, clean: str) -> Pairing:
    """Pair the pictures of a noisy folder with those of a clean one, both relative to `root`.

    A clean picture has the same name, except for its suffix, its case and a word such as noisy or clean; or it is the
    only one in the folder of that name; or it has the name of the folder that holds its noisy frames.
    """
    truths: dict[tuple[str, str], list[str]] = defaultdict(list)
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in _below(names, clean):
        folder, key = _split(name.removeprefix(f"{clean}/"))
        truths[folder, key].append(name)
        by_folder[folder].append(name)
    pairing, used = Pairing(), set()
    for name in _below(names, noisy):
        folder, key = _split(name.removeprefix(f"{noisy}/"))
        above, _, own = folder.rpartition("/")
        alone = by_folder.get(folder, []) if folder else []
        found = truths.get((folder, key)) or (alone if len(alone) == 1 else []) or truths.get((above, _key(own)), [])
        if len(found) > 1:
            _refuse_two(root, name, found)
        if found:
            used.add(found[0])
            pairing.pairs.append(Pair(name, found[0], ""))
        else:
            pairing.unpaired.append(name)
    pairing.unpaired += sorted({name for names in truths.values() for name in names} - used)
    pairing.pairs = _with_scenes(pairing.pairs)
    return pairing


def _by_names(root: Path, names: Sequence[str]) -> Pairing:
    """Pair pictures of one folder whose names differ by one word."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folders[name.rpartition("/")[0]].append(name)
    pairing = Pairing()
    for inside in folders.values():
        kinds: dict[str, dict[str, list[str]]] = {"noisy": defaultdict(list), "clean": defaultdict(list)}
        others = []
        for name in inside:
            kind = _kind_of(PurePosixPath(name).stem)
            if kind:
                kinds[kind][_split(name)[1]].append(name)
            else:
                others.append(name)
        noisy, clean = kinds["noisy"], kinds["clean"]
        if not noisy or not clean:
            continue
        truths = [name for found in clean.values() for name in found]
        used = set()
        for key, frames in noisy.items():
            # A camera numbers its pictures: IMG_4783Noisy belongs to IMG_4781Reference, if that is the only one.
            alike = len(truths) == 1 and _DIGITS.sub("", key) == _DIGITS.sub("", next(iter(clean)))
            found = clean.get(key) or (truths if alike else [])
            for name in frames:
                if len(found) > 1:
                    _refuse_two(root, name, found)
                if found:
                    pairing.pairs.append(Pair(name, found[0], ""))
                    used.add(found[0])
                else:
                    pairing.unpaired.append(name)
        pairing.unpaired += [name for name in truths if name not in used]
        pairing.others += others
    pairing.pairs = _with_scenes(pairing.pairs, counted=True)
    return pairing


def read_pairs(file: Path) -> list[Pair]:
    """Read a csv file with the columns noisy, clean and perhaps scene; paths are relative to its folder."""
    pairs: list[Pair] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.reader(lines, delimiter=_separator(lines.readline()))
            lines.seek(0)
            columns = [name.strip().lower() for name in next(table, [])]
            for row in table:
                if not any(map(str.strip, row)):
                    continue
                values = dict(zip(columns, map(str.strip, row), strict=False))
                where = f"{file}, line {table.line_num}"
                for name in ("noisy", "clean"):
                    path = values.get(name, "")
                    if not (file.parent / path).is_file():
                        raise BenchboxError(
                            f"{where}, column {name}: '{path}' is not a file",
                            hint=f"give paths relative to {file.parent}",
                        )
                scene = values.get("scene", "")
                if "scene" in columns and not scene:
                    raise BenchboxError(f"{where}: no scene", hint="give each pair its scene, or omit the column")
                pairs.append(Pair(os.path.normpath(values["noisy"]), os.path.normpath(values["clean"]), scene))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BenchboxError(f"{file}: {error}", hint="write it as UTF-8 text with the columns noisy, clean") from error
    if not pairs:
        raise BenchboxError(f"{file}: no pair below its header", hint="give a line for each pair: noisy,clean[,scene]")
    seen: dict[str, str] = {}
    for pair in pairs:
        if seen.setdefault(pair.noisy, pair.clean) != pair.clean:
            _refuse_two(file.parent, pair.noisy, [seen[pair.noisy], pair.clean])
    if both := next((pair.clean for pair in pairs if pair.clean in seen), None):
        raise BenchboxError(f"{file}: {filename_text(both)} is both noisy and clean", hint="check the two columns")
    pairs = list(dict.fromkeys(pairs))
    return pairs if "scene" in columns else _with_scenes(pairs)


def is_pairs_csv(file: Path) -> bool:
    """Whether the first line of a csv file names the columns noisy and clean."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as lines:
            line = lines.readline(4096)
        head = next(csv.reader([line], delimiter=_separator(line)), [])
    except (OSError, csv.Error):
        return False
    return {"noisy", "clean"} <= {name.strip().lower() for name in head}


def _separator(line: str) -> str:
    """What separates the columns of a csv file; spreadsheets of many countries write semicolons."""
    return max(",;\t", key=line.count)


def _folders_of_pairs(names: Iterable[str]) -> Mapping[str, tuple[list[str], list[str]]]:
    """Noisy and clean folders by the folder that holds both."""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for name in names:
        parts = name.split("/")[:-1]
        for depth, part in enumerate(parts):
            folder = "/".join(parts[: depth + 1])
            if {part.lower(), _STRENGTH.sub("", part.lower())} & {*CLEAN}:
                found["/".join(parts[:depth])][1].add(folder)
                break
            if is_noisy_name(part):
                found["/".join(parts[:depth])][0].add(folder)
                break
    return {parent: (sorted(noisy), sorted(clean)) for parent, (noisy, clean) in found.items() if noisy and clean}


def is_noisy_name(folder: str) -> bool:
    """Whether the name of a folder says only that its pictures are noisy, such as noisy50 or avg2."""
    word = folder.lower()
    return bool({word, _STRENGTH.sub("", word)} & {*NOISY}) or bool(_AVERAGED.fullmatch(word))


def noisy_folder(root: Path, names: Iterable[str]) -> str:
    """Name of the folder of pictures, or of one below it, if it says that they are noisy, such as noisy50; or empty."""
    folders = dict.fromkeys([root.resolve().name, *(part for name in names for part in name.split("/")[:-1])])
    return next((folder for folder in folders if _STRENGTH.sub("", folder.lower()) == NOISY[0]), "")


def _below(names: Iterable[str], folder: str) -> list[str]:
    return [name for name in names if name.startswith(f"{folder}/")]


def _last(folder: str) -> str:
    return folder.rpartition("/")[2]


def _split(name: str) -> tuple[str, str]:
    """Folder of a picture, and its name without suffix, case and the word that says what it is."""
    path = PurePosixPath(name)
    return name.rpartition("/")[0].lower(), _key(path.stem)


def _key(stem: str) -> str:
    words = list(_WORD.finditer(stem))
    if words:
        last = words[-1]
        stem = f"{stem[: last.start()]}_{stem[last.end() :]}"
    return _SEPARATORS.sub("_", stem.lower()).strip("_")


def _kind_of(stem: str) -> str:
    words = list(_WORD.finditer(stem))
    return "" if not words else "noisy" if words[-1][1] else "clean"


def _with_scenes(pairs: Sequence[Pair], *, counted: bool = False) -> list[Pair]:
    """Give each pair its scene: the name of its clean picture without what counts crops.

    Names of two numbers are those of a picture and a crop. With `counted`, any number at the end counts crops, unless
    no name of a picture is left, or the same one for all.
    """
    split = [_split(pair.clean) for pair in pairs]
    keys = [_CROP.sub("", key) or key for _, key in split]
    if all(map(_NUMBERED_CROP.fullmatch, keys)):
        short = [key.partition("_")[0] for key in keys]
    elif counted:
        bare = [_COUNTED.sub("", key) for key in keys]
        short = [key if _CAMERA.fullmatch(name) else name for key, name in zip(keys, bare, strict=True)]
    else:
        short = keys
    if len({(folder, name) for (folder, _), name in zip(split, short, strict=True)}) == 1:
        short = keys
    scenes = [f"{folder}/{name}".strip("/") for (folder, _), name in zip(split, short, strict=True)]
    return [Pair(pair.noisy, pair.clean, scene) for pair, scene in zip(pairs, scenes, strict=True)]


def _refuse_two(root: Path, noisy: str, clean: Sequence[str]) -> None:
    names = " and ".join(filename_text(name) for name in clean[:2])
    raise BenchboxError(
        f"{root / noisy} has {len(clean)} clean pictures: {names}", hint="remove one, or list the pairs in a csv file"
    )
