"""`benchbox data`: describe a data set; find duplicate images in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchbox.cli.options import (
    Command,
    echo,
    format_option,
    output_option,
    plugin_options,
    printing_to,
    run_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchbox.api.dataset import Dataset, ImageSet
    from benchbox.audit.contamination import Splits
    from benchbox.audit.duplicates import Duplicates

_LISTED = 20
_NAMED = 6

_path = click.argument("path", required=False, type=click.Path(path_type=Path))


@click.group("data")
def command() -> None:
    """Describe a data set; find duplicate images in it.

    \b
    Examples:
      benchbox data info fer2013.csv
      benchbox data audit fer2013.csv --picture duplicates.png
    """


@command.command("info", cls=Command)
@_path
@run_options("dataset", "skip_bad")
@plugin_options
@format_option("text", "json")
@output_option()
def info(
    path: Path | None,
    dataset: str,
    skip_bad: bool,
    plugins: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
    form: str,
    output: Path | None,
) -> None:
    """Say what the data at PATH are: kind, splits, sizes, labels, notes (the built-in sample without PATH).

    \b
    Example:
      benchbox data info fer2013.csv
    """
    kind, splits = _open(path, dataset, skip_bad, plugins, plugin_folders)
    facts = [_facts(kind, images) for images in splits.sets]
    with printing_to(output):
        if form == "json":
            values = {"dataset": kind.name, "summary": kind.summary, "reference": kind.reference}
            click.echo(json.dumps(values | {"splits": facts, "missing": splits.missing}, indent=2))
        else:
            _show_facts(path, kind, splits, facts)


def _show_facts(path: Path | None, kind: Dataset, splits: Splits, facts: list[dict[str, Any]]) -> None:
    echo(kind.name, bold=True, nl=False)
    echo(f"  {kind.summary}" + (f"\n    reference: {kind.reference}" if kind.reference else ""))
    for one in facts:
        echo(one["split"] or "all images", bold=True, nl=False)
        echo(f"  {one['images']:,} images, {one['sizes']}\n    fingerprint: {one['fingerprint']}")
        for label, counts in one["labels"].items():
            echo(f"    {label}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
        for note in one["notes"]:
            echo(f"    note: {note}")
    for split, reason in splits.missing.items():
        echo(f"{split}: not there ({reason})")
    example = f"--data {path} --split {facts[-1]['split']}" if facts[-1]["split"] else f"--data {path}" if path else ""
    echo("\nExample: " + f"benchbox run {example}".rstrip())


@command.command("audit", cls=Command)
@_path
@run_options("dataset")
@click.option("--split", default="", help="Show only groups with an image of this split.")
@run_options("skip_bad")
@click.option(
    "--picture", type=click.Path(path_type=Path, dir_okay=False), help="PNG file to draw the groups into, side by side."
)
@plugin_options
@format_option("text", "json")
@output_option()
def audit(
    path: Path | None,
    dataset: str,
    split: str,
    skip_bad: bool,
    picture: Path | None,
    plugins: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
    form: str,
    output: Path | None,
) -> None:
    """Find identical and near-identical images in the data at PATH, within and across its splits.

    Near duplicates show one photograph: compressed, brightened, stamped, mirrored, or in another crop.

    \b
    Examples:
      benchbox data audit fer2013.csv
      benchbox data audit fer2013.csv --split PublicTest --picture duplicates.png
    """
    from benchbox.api.errors import BenchboxError, did_you_mean
    from benchbox.audit.duplicates import find_duplicates
    from benchbox.cli.progress import Display

    with Display() as display:
        display.begin_stage(f"reading {path or 'the built-in sample'}")
        kind, splits = _open(path, dataset, skip_bad, plugins, plugin_folders)
        names = [images.split for images in splits.sets]
        if split and split not in names:
            raise BenchboxError(
                f"{path or kind.name} has no split '{split}'", hint=did_you_mean(split, filter(None, names))
            )
        count = sum(len(images) for images in splits.sets)
        display.begin_stage(f"comparing {count:,} images with each other")
        found = find_duplicates(splits.sets)
    groups = _groups(splits.sets, found, split)
    counts = _counts(kind, path, splits, found, skip_bad)
    if picture is not None:
        from benchbox.report.figures.images import write_contact_sheet

        unsure = sorted(groups, key=lambda one: (one["kind"] == "identical", one["similarity"]))
        drawn = write_contact_sheet(picture, splits.sets, [(_label(one), one["places"]) for one in unsure])
        echo(f"picture: {picture}, {drawn:,} of {len(groups):,} groups, the least alike first", err=True)
    for one in groups:
        del one["places"]
    with printing_to(output):
        if form == "json":
            values = {"dataset": kind.name, "splits": counts, "missing": splits.missing, "groups": groups}
            click.echo(json.dumps(values, indent=2))
        else:
            _show_duplicates(kind, splits, split, counts, groups)


def _show_duplicates(
    kind: Dataset,
    splits: Splits,
    split: str,
    counts: list[dict[str, Any]],
    groups: list[dict[str, Any]],
) -> None:
    total = sum(one["images"] for one in counts)
    echo(f"{kind.name}: {total:,} images compared with each other")
    for one in counts:
        _show_counts(one, kind.fitted)
    for name, reason in splits.missing.items():
        echo(f"{name}: not there ({reason})")
    _show_groups(groups, split)


def _open(
    path: Path | None,
    dataset: str,
    skip_bad: bool,
    plugins: tuple[Path, ...],
    plugin_folders: tuple[Path, ...],
) -> tuple[Dataset, Splits]:
    from benchbox.audit.contamination import open_splits
    from benchbox.engine.data import choose_dataset
    from benchbox.registry import load_registry

    registry = load_registry(plugins, plugin_folders)
    kind = choose_dataset(path, dataset or None, {name: entry.cls() for name, entry in registry.datasets.items()})
    return kind, open_splits(kind, path, skip_bad=skip_bad)


def _facts(kind: Dataset, images: ImageSet) -> dict[str, Any]:
    import numpy as np

    from benchbox.engine.data import describe_data

    record = describe_data(images, type(kind))
    labels = {}
    for label, values in images.labels.items():
        names = kind.label_names.get(label)
        present, counts = np.unique(values, return_counts=True)
        labels[label] = {
            names[one] if names else str(one): count
            for one, count in zip(present.tolist(), counts.tolist(), strict=True)
        }
    return {
        "split": record.split,
        "images": record.images,
        "sizes": record.sizes,
        "fingerprint": record.fingerprint,
        "labels": labels,
        "notes": list(record.notes),
    }


def _groups(sets: Sequence[ImageSet], found: Duplicates, split: str) -> list[dict[str, Any]]:
    """Groups, the largest first; `places` are positions over all sets."""
    from benchbox.audit.duplicates import EXACT, MIRRORED

    named = [(images.split, one) for images in sets for one in images.ids]
    group_of_link = found.group_of[found.links[:, 0]].tolist()
    lowest, kinds = dict[int, float](), dict[int, set[int]]()
    for group, kind, similarity in zip(group_of_link, found.links[:, 2].tolist(), found.similarity, strict=True):
        lowest[group] = min(lowest.get(group, 1.0), float(similarity))
        kinds.setdefault(group, set()).add(kind)
    groups = []
    for members in found.groups():
        group = int(found.group_of[members[0]])
        images = [{"split": named[one][0], "id": named[one][1]} for one in members.tolist()]
        if split and split not in {one["split"] for one in images}:
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
    return sorted(groups, key=lambda one: -len(one["images"]))


def _counts(
    kind: Dataset, path: Path | None, splits: Splits, found: Duplicates, skip_bad: bool
) -> list[dict[str, Any]]:
    from benchbox.audit.contamination import needs_training, repeats_among, seen_in_training

    training = next((images for images in splits.sets if images.split == kind.fitted), None)
    missing = splits.missing.get(kind.fitted, "")
    counts, start = [], 0
    for images in splits.sets:
        needed = needs_training(kind, images.split)
        repeats = repeats_among(images, kind, training if needed else None, missing if needed else "")
        grouped = int((found.group_of[start : start + len(images)] >= 0).sum())
        start += len(images)
        in_training, again = int(repeats.in_training.sum()), int(repeats.again.sum())
        one: dict[str, Any] = {"split": images.split, "images": len(images), "in_groups": grouped}
        if needed:
            one["in_training"] = in_training if repeats.compared else None
        if repeats.note:
            one["note"] = repeats.note
        left_out = int(seen_in_training(images, kind, path, skip_bad=skip_bad).sum()) if repeats.compared else 0
        counts.append(one | {"repeated": again, "left_out": left_out})
    return counts


def _show_counts(one: dict[str, Any], fitted: str) -> None:
    echo(one["split"] or "all images", bold=True, nl=False)
    words = [f"{one['images']:,} images, {one['in_groups']:,} have a duplicate"]
    if one.get("in_training") is not None:
        words.append(f"{one['in_training']:,} have one in {fitted}")
    words.append(f"{one['repeated']:,} {'others ' if 'in_training' in one else ''}repeat one before them")
    scored = f"; a run leaves out {one['left_out']:,}" if "in_training" in one else ""
    echo(f"  {', '.join(words)}{scored}")
    if one.get("note"):
        echo(f"    note: {one['note']}")


def _show_groups(groups: Sequence[dict[str, Any]], split: str) -> None:
    where = f" with an image of {split}" if split else ""
    if not groups:
        echo(f"no duplicates{where}")
        return
    identical = sum(one["kind"] == "identical" for one in groups)
    echo(
        f"\n{len(groups):,} groups{where}: {identical:,} of identical images, {len(groups) - identical:,} of near ones"
    )
    for one in groups[:_LISTED]:
        names = [image["id"] for image in sorted(one["images"], key=lambda image: image["split"] != split)]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        echo(f"  {_label(one)}: {', '.join(names[:_NAMED])}{more}")
    if len(groups) > _LISTED:
        echo(f"  and {len(groups) - _LISTED:,} more groups (all: --format json, or to look at: --picture FILE.png)")


def _label(one: dict[str, Any]) -> str:
    count = len(one["images"])
    if one["kind"] == "identical":
        return f"{count} identical"
    return f"{count} near, {one['similarity']:.2f}{' mirrored' if one['mirrored'] else ''}"
