"""A run under other protocols: how far each row shifts, which ranks move, and how much the order agrees."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchbox.records.alternatives import AS_RUN, OUTPUTS, Alternative, alternatives_of, column_of, stage_of
from benchbox.records.run import Cell, MetricRecord
from benchbox.report.board import Block
from benchbox.report.build import build_leaderboard, image_scores, scenes_of, sort_metric
from benchbox.report.words import score
from benchbox.stats.ranking import kendall_tau, rank_rows
from benchbox.stats.summaries import PERFECT_DB, Scenes, average_repeats, by_scene, counted
from benchbox.store import IMAGE, RunStore

Values = NDArray[np.float64]
SAME_SCORES = 1e-4
"""Relative difference up to which outputs count as the same, because machines round differently."""


@dataclass(frozen=True)
class Standing:
    """A row of a ranking.

    Attributes
    ----------
    value : float
        Its mean.
    rank, rank_to : int or None
        As in `Row`: the range of its possible ranks; `rank_to` is None if there are too few images to test.
    place : int
        Its place by the mean, from 1.
    """

    value: float
    rank: int
    rank_to: int | None
    place: int

    @property
    def words(self) -> str:
        """``3``, or ``4-7``."""
        return str(self.rank) if self.rank_to in (None, self.rank) else f"{self.rank}-{self.rank_to}"


@dataclass(frozen=True)
class ShiftedRow:
    """A denoiser as recorded and under another protocol, among the same rows and on the same images.

    Attributes
    ----------
    shift : float
        Change of its mean, in the unit of the metric; NaN if the two are not comparable.
    """

    denoiser: str
    before: Standing
    after: Standing
    shift: float

    @property
    def moved(self) -> bool:
        """Whether the range of its possible ranks changes."""
        return (self.before.rank, self.before.rank_to) != (self.after.rank, self.after.rank_to)


@dataclass(frozen=True)
class Outlook:
    """All rows of a noise under another protocol.

    Attributes
    ----------
    noise : str
        What the user typed.
    metric : MetricRecord
        The metric of the run that it is compared with.
    protocol, words : str
        Name of the protocol, and what it does.
    images : int
        Images compared.
    rows : tuple of ShiftedRow
        In the order of the run.
    left_out : dict of str to str
        Rows without scores under it, and why.
    tau : float
        Kendall's tau-b of the two orders by the mean.
    """

    noise: str
    metric: MetricRecord
    protocol: str
    words: str
    images: int
    rows: tuple[ShiftedRow, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    tau: float = math.nan

    @property
    def best(self) -> tuple[str, ...]:
        """Keys of the columns to mark: none, because no protocol is better than another."""
        return ()

    @property
    def shifts(self) -> tuple[float, float] | None:
        """Smallest and largest shift; None if none is comparable."""
        shifts = [row.shift for row in self.rows if not math.isnan(row.shift)]
        return (min(shifts), max(shifts)) if shifts else None

    def leader(self, *, before: bool = False) -> tuple[str, float]:
        """The first row by the mean, and its lead over the second; NaN if there are none."""
        if not self.rows:
            return "", math.nan
        standings = {row.denoiser: row.before if before else row.after for row in self.rows}
        first, *others = sorted(standings, key=lambda name: standings[name].place)
        lead = abs(standings[first].value - standings[others[0]].value) if others else math.nan
        return first, lead

    def swaps(self) -> Iterator[tuple[str, str]]:
        """Pairs of rows whose order by the mean is reversed: the one that overtakes, and the one that is overtaken."""
        for place, ahead in enumerate(self.rows):
            for behind in self.rows[place + 1 :]:
                if ahead.after.place > behind.after.place:
                    yield behind.denoiser, ahead.denoiser


@dataclass(frozen=True)
class WhatIf:
    """A run under other protocols.

    Attributes
    ----------
    protocol : str
        Protocol of the run, in words.
    outlooks : tuple of Outlook
        By noise, metric and protocol.
    notes : tuple of str
    """

    run_id: str
    data: str
    images: int
    protocol: str
    outlooks: tuple[Outlook, ...]
    notes: tuple[str, ...] = ()

    def on(self, noise: str) -> WhatIf:
        """The part about one noise."""
        return replace(self, outlooks=tuple(each for each in self.outlooks if each.noise == noise))


def build_whatif(
    store: RunStore,
    alternatives: Sequence[Alternative] | None = None,
    *,
    sort: str = "",
    keys: Mapping[str, str] = MappingProxyType({}),
    failures: Mapping[tuple[str, str], str] = MappingProxyType({}),
    warnings: Sequence[str] = (),
    by_metrics: bool = True,
) -> WhatIf:
    """Compare the rankings of a run with those under other protocols.

    Without `alternatives`, all of which the folder has scores. `keys` are the names of the folders with the scores of
    each cell, by its key, if they differ; `failures` say why a cell has none, by its key and the stage.
    `by_metrics` also ranks by the other metrics that the run shows.
    """
    record = store.record
    fitting = alternatives_of(record, store.smallest_side()) if alternatives is None else alternatives
    metric = next(each for each in record.metrics if each.spec == sort_metric(sort, record))
    based = [(each, base) for each in fitting if (base := each.base(record, metric)) is not None]
    scenes, outlooks, notes = scenes_of(store), [], [*warnings]
    for base in dict.fromkeys([metric, *(base for _, base in based)]):
        for block in build_leaderboard(store, sort=base.spec).blocks:
            rows = _Rows(store, block, base, scenes, keys, failures)
            notes += rows.notes()
            made = [rows.outlook(each) for each, own in based if own == base]
            if base == metric and by_metrics:
                made += [rows.ranked_by(other) for other in record.metrics if other.shown and other != base]
            # Where nothing was computed, only somebody who asks for it wants to know.
            outlooks += [each for each in made if each.rows or (alternatives and each.left_out)]
    order = {noise.label: place for place, noise in enumerate(record.noises)}
    return WhatIf(
        run_id=record.run_id,
        data=f"{record.data.label} {record.data.split}".strip(),
        images=record.data.images,
        protocol=f"{record.protocol_label}; seed {record.protocol.seed}",
        outlooks=tuple(sorted(outlooks, key=lambda each: order[each.noise])),
        notes=tuple(dict.fromkeys(notes)),
    )


class _Rows:
    """The ranked rows of a noise with their scores in one metric, and what other protocols make of them."""

    def __init__(
        self,
        store: RunStore,
        block: Block,
        metric: MetricRecord,
        scenes: Scenes | None,
        keys: Mapping[str, str],
        failures: Mapping[tuple[str, str], str],
    ) -> None:
        self._store, self._block, self._metric, self._scenes = store, block, metric, scenes
        self._failures = failures
        self._tables: dict[tuple[str, str], list[dict[str, Values]]] = {}  # read once for all columns
        self._before: dict[tuple[object, ...], list[Standing]] = {}  # most protocols have the same rows and images
        cells = store.record.cells_on(block.spec)
        self._cells = {row.denoiser: cells[row.spec] for row in block.rows if row.rank is not None}
        self._keys = {cell.key: keys.get(cell.key, cell.key) for cell in self._cells.values()}
        self._scores = {name: image_scores(store, cell) for name, cell in self._cells.items()}
        self._own = {name: scores[metric.spec] for name, scores in self._scores.items()}
        self._changed = {name: apart for name, cell in self._cells.items() if (apart := self._difference(cell))}

    def notes(self) -> Iterator[str]:
        """What to know about rows that draw random numbers."""
        for name, apart in self._changed.items():
            if self._is_random(name):
                amount = f"{score(apart, self._metric)} {self._metric.unit}".rstrip()
                yield (
                    f"{name} on {self._block.noise} draws random numbers: its outputs differ from those that were "
                    f"scored, by up to {amount} for an image, and so do its shifts"
                )

    def outlook(self, alternative: Alternative) -> Outlook:
        """The rows under another protocol."""
        if alternative.pooled:
            return self._compare(alternative.name, alternative.words, self._errors(), pooled=True)
        values, left_out = {}, {}
        stage = stage_of(alternative, self._store.record.protocol)
        for name, cell in self._cells.items():
            found = self._rescored(cell, stage, column_of(alternative, self._metric.spec))
            if (cell.key, stage) in self._failures:
                left_out[name] = self._failures[cell.key, stage]
            elif found is None:
                left_out[name] = "not computed"
            elif name in self._changed and not self._is_random(name):
                amount = f"{score(self._changed[name], self._metric)} {self._metric.unit}".rstrip()
                left_out[name] = f"its outputs are no longer those that were scored (up to {amount} apart)"
            else:
                values[name] = found
        return replace(self._compare(alternative.name, alternative.words, values), left_out=left_out)

    def ranked_by(self, other: MetricRecord) -> Outlook:
        """The rows ranked by another metric that the run has."""
        sign = other.sign * self._metric.sign
        values = {name: sign * scores[other.spec] for name, scores in self._scores.items()}
        made = self._compare(f"by {other.label}", f"ranked by {other.title} instead", values)
        rows = [
            replace(row, shift=math.nan, after=replace(row.after, value=sign * row.after.value)) for row in made.rows
        ]
        return replace(made, rows=tuple(rows))

    def _is_random(self, name: str) -> bool:
        spec = self._cells[name].denoiser
        return not next(row.deterministic for row in self._store.record.denoisers if row.spec == spec)

    def _errors(self) -> dict[str, Values]:
        """Mean squared error of each image, from its PSNR."""
        record = self._store.record
        errors = {}
        for name, cell in self._cells.items():
            psnr = counted(self._store.scores(cell.key)["psnr"], "dB")
            errors[name] = average_repeats({"mse": 10 ** (-psnr / 10)}, record.protocol.repeats)["mse"]
        return errors

    def _rescored(self, cell: Cell, stage: str, column: str) -> Values | None:
        """One score per image under another protocol; None unless there is one for each image and repeat."""
        raw = self._raw(cell, stage, column)
        if raw is None:
            return None
        values = {column: counted(raw, self._metric.unit)}
        return average_repeats(values, self._store.record.protocol.repeats)[column]

    def _raw(self, cell: Cell, stage: str, column: str) -> Values | None:
        repeats = self._store.record.protocol.repeats
        if (cell.key, stage) not in self._tables:
            self._tables[cell.key, stage] = list(self._store.rescored(self._keys[cell.key], stage).values())
        tables = [table for table in self._tables[cell.key, stage] if column in table]
        if not tables:
            return None
        # Shards come in any order, and scores are compared image by image.
        images, values = (np.concatenate([table[name] for table in tables]) for name in (IMAGE, column))
        order = np.lexsort((np.concatenate([table["repeat"] for table in tables]), images))
        every = np.repeat(np.arange(self._store.record.data.images), repeats)
        return values[order] if np.array_equal(images[order], every) else None

    def _difference(self, cell: Cell) -> float:
        """By how much the outputs differ from those that were scored, in the metric; 0 if they do not, or unknown."""
        again = self._raw(cell, OUTPUTS, column_of(AS_RUN, self._metric.spec))
        if again is None:
            return 0.0
        again, scored = (
            counted(v, self._metric.unit) for v in (again, self._store.scores(cell.key)[self._metric.spec])
        )
        if np.allclose(again, scored, rtol=SAME_SCORES, atol=1e-6, equal_nan=True):
            return 0.0
        return float(np.nanmax(np.abs(again - scored)))

    def _compare(self, protocol: str, words: str, values: Mapping[str, Values], *, pooled: bool = False) -> Outlook:
        """The rows with other values, and the same rows as recorded on the same images."""
        outlook = Outlook(self._block.noise, self._metric, protocol, words, 0, ())
        if not values:
            return outlook
        # Both orders are made of the same rows and images: a shift is due to the protocol alone.
        own = np.column_stack([self._own[name] for name in values])
        other = np.column_stack(list(values.values()))
        valued = np.isfinite(own).all(axis=1) & np.isfinite(other).all(axis=1)
        if not valued.any():
            return outlook
        higher = self._metric.higher_is_better
        shared = (*values, valued.tobytes())
        if shared not in self._before:
            self._before[shared] = self._ranked(own[valued], valued, higher=higher)
        before = self._before[shared]
        after = self._ranked(other[valued], valued, higher=higher and not pooled)
        # The mean error ranks, lower is better; it is shown as the PSNR that papers report for it.
        if pooled:
            after = [replace(each, value=min(PERFECT_DB, -10 * math.log10(max(each.value, 1e-99)))) for each in after]
        rows = [
            ShiftedRow(name, one, two, two.value - one.value)
            for name, one, two in zip(values, before, after, strict=True)
        ]
        tau = kendall_tau(*(np.array([-float(each.place) for each in side]) for side in (before, after)))
        ordered = tuple(sorted(rows, key=lambda row: row.before.place))
        return replace(outlook, images=int(valued.sum()), rows=ordered, tau=tau)

    def _ranked(self, scores: Values, valued: NDArray[np.bool_], *, higher: bool) -> list[Standing]:
        """Rank the columns of scores of shape (N images, K rows)."""
        scenes = None if self._scenes is None else self._scenes[valued]
        ranking = rank_rows(by_scene(scores if higher else -scores, scenes))
        standings = {}
        for place, (column, (best, worst)) in enumerate(zip(ranking.order, ranking.ranks, strict=True), start=1):
            mean = float(scores[:, column].mean())
            tested = ranking.tested
            standings[column] = Standing(mean, best if tested else place, worst if tested else None, place)
        return [standings[column] for column in range(scores.shape[1])]
