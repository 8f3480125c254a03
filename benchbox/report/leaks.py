"""What a reader must know of a row's training though it is ranked, and how one that is not ranked comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchbox.api.card import UNKNOWN
from benchbox.api.leaks import is_fitted_to, leak_of, shares_split
from benchbox.api.records import DataRecord, Outcome, RunRecord
from benchbox.builtin.datasets.splits import lies_beside_training
from benchbox.report.findings import Advice


def cautions_of(data: DataRecord, outcome: Outcome) -> tuple[str, ...]:
    """What a reader must know of a row's training though it does not keep the row out of the ranks.

    Parameters
    ----------
    data : DataRecord
    outcome : Outcome

    Returns
    -------
    tuple of str
        Sentences without a full stop.
    """
    card, cautions = outcome.card, []
    if outcome.status == "ok" and outcome.overlap is None and _fits_beside(data, outcome):
        cautions.append(
            f"it is not known how many of the scored images have a duplicate in its training data, {outcome.trained_on}"
        )
    if card and card.get("dataset") == UNKNOWN:
        cautions.append("it is not known what it was trained on, so it may have seen the scored images")
    if card and shares_split(data, card.get("dataset"), card.get("validated_on")):
        cautions.append(f"the weights were chosen on images of {card['validated_on']}, which are scored here")
    return tuple(cautions)


def advise_on_leaks(record: RunRecord, outcomes: Mapping[str, Outcome]) -> Iterator[Advice]:
    """Say how rows that are kept out of the ranks come back in.

    Parameters
    ----------
    record : RunRecord
    outcomes : mapping of str to Outcome
        By cell.

    Yields
    ------
    Advice
    """
    data = record.data
    found: dict[bool, dict[str, Outcome]] = {True: {}, False: {}}
    for cell in record.cells:
        outcome = outcomes.get(cell.key)
        if outcome is not None and outcome.status == "ok" and leak_of(data, outcome):
            repeats = bool(outcome.overlap) and not is_fitted_to(data, outcome)
            found[repeats].setdefault(cell.denoiser, outcome)
    if found[True]:
        overlap = max(one.overlap or 0 for one in found[True].values())
        yield Advice(
            f"not ranked, for {overlap:,} of the {data.images:,} scored images have a duplicate in their training "
            f"data: {', '.join(found[True])}",
            "they do better on images that they have seen than on new ones",
            "run again with --drop-duplicates, which scores only images without a duplicate elsewhere, so that these "
            "rows rank; --rank-leaky ranks them as they are",
        )
    if found[False]:
        yield Advice(
            f"not ranked, for they were trained on the scored images: {', '.join(found[False])}",
            "they do better on images that they have seen than on new ones",
            "score images that they were not trained on, such as another --split; --rank-leaky ranks them as they are",
        )


def _fits_beside(data: DataRecord, outcome: Outcome) -> bool:
    """Whether a card names the Training split of the scored data and other splits are scored."""
    card = outcome.card
    return card.get("dataset") == data.dataset and lies_beside_training(str(card.get("split", "")), data.split)
