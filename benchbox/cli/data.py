"""`benchbox data`: describe a data set; find duplicate images in it, or recorded pairs that do not match."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.cli.options import Command, format_option, output_option, plugin_options, run_options
from benchbox.cli.terminal import echo, printing_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchbox.api.dataset import Dataset, ImageSet
    from benchbox.audit.contamination import Splits
    from benchbox.audit.duplicates import Duplicates
    from benchbox.audit.pairs import PairFacts
    from benchbox.cli.progress import Display
    from benchbox.records.options import Color

_LISTED = 20
_WIDEST = 40
_NAMED = 6

_path = click.argument("path", required=False, type=click.Path(path_type=Path))

_NOISY = {"help": "Folder of noisy images, instead of PATH; with --clean."}


@click.group("data")
def command() -> None:
    """Describe a data set; find duplicates, or pairs that do not match.

    \b
    Examples:
      benchbox data info fer2013.csv
      benchbox data audit fer2013.csv --picture duplicates.png
      benchbox data audit CC15/
    """


@command.command("info", cls=Command)
@_path
@run_options("noisy", "clean", "dataset", "color", "skip_bad", noisy=_NOISY)
@plugin_options
@format_option("text", "json")
@output_option()
def info(
    path: Path | None,
    noisy: Path | None,
    clean: Path | None,
    dataset: str,
    color: Color,
    skip_bad: bool,
    plugins: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
    form: str,
    output: Path | None,
) -> None:
    """Describe the data at PATH: type, splits, sizes and labels.

    Without PATH, the built-in sample is described.

    \b
    Example:
      benchbox data info fer2013.csv
    """
    kind, path, splits = _open(path, noisy, clean, dataset, color, skip_bad, plugins, plugin_folders)
    facts = [_facts(kind, images) for images in splits.sets]
    with printing_to(output):
        if form == "json":
            values = {"dataset": kind.name, "summary": kind.summary, "reference": kind.reference}
            click.echo(json.dumps(values | {"splits": facts, "missing": splits.missing}, indent=2))
        else:
            where = ["--noisy", str(noisy), "--clean", str(clean)] if noisy else ["--data", str(path)] if path else []
            same = {"--dataset": dataset, "--color": "" if color == "auto" else color}
            where += [word for option, value in same.items() if value for word in (option, value)]
            _show_facts(shlex.join([*where, *["--skip-bad"] * skip_bad]), kind, splits, facts)


def _show_facts(where: str, kind: Dataset, splits: Splits, facts: list[dict[str, Any]]) -> None:
    from benchbox.report.words import count

    echo(kind.name, bold=True, nl=False)
    echo(f"  {kind.summary}" + (f"\n    reference: {kind.reference}" if kind.reference else ""))
    for split in facts:
        echo(split["split"] or "all images", bold=True, nl=False)
        scenes = f" of {count(split['scenes'], 'scene')}" if split["scenes"] else ""
        colour = " RGB" if split["channels"] > 1 else ""
        echo(f"  {count(split['images'], 'image')}{scenes}, {split['sizes']}{colour}")
        echo(f"    fingerprint: {split['fingerprint']}")
        for label, counts in split["labels"].items():
            echo(f"    {label}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
        for note in split["notes"]:
            echo(f"    note: {note}")
    for name, reason in splits.missing.items():
        echo(f"{name}: not available ({reason})")
    split_words = f"--split {facts[-1]['split']}" if facts[-1]["split"] else ""
    echo("\nExample: " + " ".join(filter(None, ("benchbox run", where, split_words))))


@command.command("audit", cls=Command)
@_path
@run_options("noisy", "clean", "dataset", noisy=_NOISY)
@click.option("--split", default="", metavar="NAME", help="Show only groups with an image of this split.")
@run_options("skip_bad")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the groups of duplicates, or the worst pairs, into this PNG file.",
)
@plugin_options
@format_option("text", "json")
@output_option()
def audit(
    path: Path | None,
    noisy: Path | None,
    clean: Path | None,
    dataset: str,
    split: str,
    skip_bad: bool,
    picture: Path | None,
    plugins: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
    form: str,
    output: Path | None,
) -> None:
    """Find duplicate images at PATH, or pairs that do not match.

    Of pairs of noisy and clean pictures: differences in brightness and position, JPEG
    blocks, clipped values, and noise in the clean pictures.

    Otherwise duplicates, within and across splits. Near duplicates show the same
    photograph, but compressed, brightened, stamped, mirrored or cropped differently.
    Without PATH, the built-in sample is searched.

    \b
    Examples:
      benchbox data audit fer2013.csv
      benchbox data audit fer2013.csv --split PublicTest --picture duplicates.png
      benchbox data audit --noisy night/iso6400 --clean night/averaged
    """
    from benchbox.audit.duplicates import find_duplicates
    from benchbox.cli.progress import Display

    with Display() as display:
        display.begin_stage(f"reading {path or 'the built-in sample'}")
        kind, path, splits = _open(path, noisy, clean, dataset, "auto", skip_bad, plugins, plugin_folders)
        names = [images.split for images in splits.sets]
        if split and split not in names:
            raise BenchboxError(
                f"{path or kind.name} has no split '{split}'", hint=did_you_mean(split, filter(None, names))
            )
        recorded = [images for images in splits.sets if images.read_noisy is not None]
        if recorded:
            facts = _examine(recorded, display)
        count = sum(len(images) for images in splits.sets)
        display.begin_stage(f"comparing {count:,} images")
        duplicates = None if recorded else find_duplicates(splits.sets)
    if duplicates is None:
        _report_pairs(recorded, facts, picture, form, output)
        return
    groups = _groups(splits.sets, duplicates, split)
    counts = _counts(kind, path, splits, duplicates, skip_bad)
    if picture is not None:
        from benchbox.report.figures.gallery import write_contact_sheet

        least_similar_first = sorted(groups, key=lambda group: (group["kind"] == "identical", group["similarity"]))
        rows = [(_label(group), group["places"]) for group in least_similar_first]
        drawn = write_contact_sheet(picture, splits.sets, rows)
        echo(f"picture: {picture}, {drawn:,} of {len(groups):,} groups, the least similar first", err=True)
    for group in groups:
        del group["places"]
    with printing_to(output):
        if form == "json":
            values = {"dataset": kind.name, "splits": counts, "missing": splits.missing, "groups": groups}
            click.echo(json.dumps(values, indent=2))
        else:
            _show_duplicates(kind, splits, split, counts, groups)


def _examine(sets: Sequence[ImageSet], display: Display) -> list[PairFacts]:
    from benchbox.audit.pairs import examine_pairs

    display.begin_stage("comparing pairs", sum(map(len, sets)))
    return [facts for images in sets for facts in examine_pairs(images, display.advance_stage)]


def _report_pairs(
    sets: Sequence[ImageSet], facts: list[PairFacts], picture: Path | None, form: str, output: Path | None
) -> None:
    from benchbox.audit.pairs import badness, warnings_of

    order = sorted(range(len(facts)), key=lambda place: -badness(facts[place]))
    worst = [facts[place] for place in order]
    if picture is not None:
        from benchbox.report.figures.gallery import write_contact_sheet

        both = [*sets, *(replace(images, read=images.read_noisy) for images in sets if images.read_noisy)]
        groups = [
            (f"{facts[place].bias:.1f}, {facts[place].distance:.2f} px", (place, place + len(facts))) for place in order
        ]
        drawn = write_contact_sheet(picture, both, groups)
        echo(f"picture: {picture}, {drawn:,} of {len(facts):,} pairs, clean and noisy, the worst first", err=True)
    with printing_to(output):
        if form == "json":
            from benchbox.report.export import jsonable

            values = {"warnings": list(warnings_of(facts)), "pairs": [asdict(pair) for pair in worst]}
            click.echo(json.dumps(jsonable(values), indent=2))
        else:
            _show_pairs(worst, list(warnings_of(facts)))


def _show_pairs(worst: Sequence[PairFacts], warnings: Sequence[str]) -> None:
    """A table of the worst pairs; levels in grey levels of 255."""
    from benchbox.report.words import count

    scenes = count(len({pair.scene for pair in worst}), "scene")
    echo(f"{count(len(worst), 'pair')} of {scenes}; the worst first, levels of 255:", bold=True)
    names = [pair.id if len(pair.id) <= _WIDEST else f"...{pair.id[3 - _WIDEST :]}" for pair in worst[:_LISTED]]
    wide = max(map(len, ("pair", *names)))
    echo(f"  {'pair':<{wide}}  difference  gain    shift px  blocks  clipped  noise  of clean  ceiling")
    for name, pair in zip(names, worst, strict=False):
        difference = max(pair.difference, key=abs)
        gain = max(pair.gain, key=lambda one: abs(one - 1))
        shift = "-" if math.isnan(pair.shift[0]) else f"{pair.shift[0]:.2f},{pair.shift[1]:.2f}"
        echo(
            f"  {name:<{wide}}  {difference:+10.1f}  {gain:5.3f}  {shift:>8}  {max(pair.blocking):6.2f}  "
            f"{100 * pair.clipped:5.1f} %  {pair.noise:5.1f}  {pair.noise_of_clean:8.1f}  {pair.ceiling_db:4.1f} dB"
        )
    if len(worst) > _LISTED:
        echo(f"  and {len(worst) - _LISTED:,} more (all, by channel: --format json; as pictures: --picture FILE.png)")
    for warning in warnings:
        echo(f"warning: {warning}")
    if not warnings:
        echo("brightness and position of all pairs agree to within a grey level and a quarter of a pixel")


def _show_duplicates(
    kind: Dataset,
    splits: Splits,
    split: str,
    counts: list[dict[str, Any]],
    groups: list[dict[str, Any]],
) -> None:
    total = sum(row["images"] for row in counts)
    echo(f"{kind.name}: {total:,} images compared")
    for row in counts:
        _show_counts(row, kind.fitted)
    for name, reason in splits.missing.items():
        echo(f"{name}: not available ({reason})")
    _show_groups(groups, split)


def _open(
    path: Path | None,
    noisy: Path | None,
    clean: Path | None,
    dataset: str,
    color: Color,
    skip_bad: bool,
    plugins: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
) -> tuple[Dataset, Path | None, Splits]:
    from benchbox.audit.contamination import open_splits
    from benchbox.engine.data import choose_dataset
    from benchbox.registry import load_registry

    if (noisy is None) != (clean is None) or (path and noisy):
        raise BenchboxError(
            "noisy and clean images are two folders", hint="give --noisy FOLDER --clean FOLDER, without PATH"
        )
    registry = load_registry(plugins, plugin_folders)
    datasets = {name: entry.cls() for name, entry in registry.datasets.items()}
    kind = choose_dataset(noisy or path, dataset or None, datasets, clean).colored(color)
    return kind, noisy or path, open_splits(kind, noisy or path, skip_bad=skip_bad)


def _facts(kind: Dataset, images: ImageSet) -> dict[str, Any]:
    import numpy as np

    from benchbox.engine.data import describe_data

    record = describe_data(images, type(kind), None)
    labels = {}
    for label, values in images.labels.items():
        names = kind.label_names.get(label)
        present, counts = np.unique(values, return_counts=True)
        labels[label] = {
            names[value] if names else str(value): count
            for value, count in zip(present.tolist(), counts.tolist(), strict=True)
        }
    return {
        "split": record.split,
        "images": record.images,
        "sizes": record.sizes,
        "channels": record.channels,
        "scenes": record.scenes,
        "fingerprint": record.fingerprint,
        "labels": labels,
        "notes": list(record.notes),
    }


def _groups(sets: Sequence[ImageSet], duplicates: Duplicates, split: str) -> list[dict[str, Any]]:
    """Groups, the largest first; `places` are indices into all sets together."""
    from benchbox.audit.duplicates import EXACT, MIRRORED

    images_of_all = [{"split": images.split, "id": name} for images in sets for name in images.ids]
    group_of_link = duplicates.group_of[duplicates.links[:, 0]].tolist()
    lowest, kinds = dict[int, float](), dict[int, set[int]]()
    link_kinds = duplicates.links[:, 2].tolist()
    for group, kind, similarity in zip(group_of_link, link_kinds, duplicates.similarity, strict=True):
        lowest[group] = min(lowest.get(group, 1.0), float(similarity))
        kinds.setdefault(group, set()).add(kind)
    groups = []
    for members in duplicates.groups():
        group = int(duplicates.group_of[members[0]])
        images = [images_of_all[index] for index in members.tolist()]
        if split and split not in {image["split"] for image in images}:
            continue
        groups.append(
            {
                "kind": "identical" if kinds[group] == {EXACT} else "near",
                "similarity": round(lowest[group], 3),
                "mirrored": MIRRORED in kinds[group],
                "images": images,
                "places": members.tolist(),
            }
        )
    return sorted(groups, key=lambda group: -len(group["images"]))


def _counts(
    kind: Dataset, path: Path | None, splits: Splits, duplicates: Duplicates, skip_bad: bool
) -> list[dict[str, Any]]:
    from benchbox.audit.contamination import needs_training, repeats_among, seen_in_training

    training = next((images for images in splits.sets if images.split == kind.fitted), None)
    missing = splits.missing.get(kind.fitted, "")
    counts, start = [], 0
    for images in splits.sets:
        needed = needs_training(kind, images.split)
        repeats = repeats_among(images, kind, training if needed else None, missing if needed else "")
        grouped = int((duplicates.group_of[start : start + len(images)] >= 0).sum())
        start += len(images)
        in_training, again = int(repeats.in_training.sum()), int(repeats.again.sum())
        row: dict[str, Any] = {"split": images.split, "images": len(images), "in_groups": grouped}
        if needed:
            row["in_training"] = in_training if repeats.compared else None
        if repeats.note:
            row["note"] = repeats.note
        left_out = int(seen_in_training(images, kind, path, skip_bad=skip_bad).sum()) if repeats.compared else 0
        counts.append(row | {"repeated": again, "left_out": left_out})
    return counts


def _show_counts(row: dict[str, Any], fitted: str) -> None:
    echo(row["split"] or "all images", bold=True, nl=False)
    facts = [f"{row['images']:,} images, {row['in_groups']:,} with duplicates"]
    if row.get("in_training") is not None:
        facts.append(f"{row['in_training']:,} with a duplicate in {fitted}")
    facts.append(f"{row['repeated']:,} {'more ' if 'in_training' in row else ''}that repeat an earlier image")
    scored = f"; a run leaves out {row['left_out']:,}" if "in_training" in row else ""
    echo(f"  {', '.join(facts)}{scored}")
    if row.get("note"):
        echo(f"    note: {row['note']}")


def _show_groups(groups: Sequence[dict[str, Any]], split: str) -> None:
    where = f" with an image of {split}" if split else ""
    if not groups:
        echo(f"no duplicates{where}")
        return
    identical = sum(group["kind"] == "identical" for group in groups)
    near = len(groups) - identical
    echo(f"\n{len(groups):,} groups{where}: {identical:,} of identical images, {near:,} of near duplicates")
    for group in groups[:_LISTED]:
        names = [image["id"] for image in sorted(group["images"], key=lambda image: image["split"] != split)]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        echo(f"  {_label(group)}: {', '.join(names[:_NAMED])}{more}")
    if len(groups) > _LISTED:
        echo(f"  and {len(groups) - _LISTED:,} more groups (all: --format json; as pictures: --picture FILE.png)")


def _label(group: dict[str, Any]) -> str:
    count = len(group["images"])
    if group["kind"] == "identical":
        return f"{count} identical"
    return f"{count} near, {group['similarity']:.2f}{' mirrored' if group['mirrored'] else ''}"
