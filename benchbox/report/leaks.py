"""What a training card and the audit for duplicates say about a row: seen images, and images that chose its weights."""

from __future__ import annotations

from benchbox.api.records import DataRecord, Outcome

LEAKY_SHARE = 0.5
"""Share of scored images with a duplicate in training from which a row counts as trained on them.

FER2013's own splits share about a fifth, whichever network is looked at; a split that was copied shares all.
"""


def leak_of(data: DataRecord, outcome: Outcome) -> str:
    """Why a row has seen the images that it is scored on; empty where nothing says so.

    Parameters
    ----------
    data : DataRecord
    outcome : Outcome

    Returns
    -------
    str
    """
    card = outcome.card
    if not card:
        return ""
    fitted = {card.get("fingerprint"), card.get("source")} - {"", None}
    if fitted & {data.fingerprint, data.source} or _shares_split(data, card.get("dataset"), card.get("split")):
        return f"it was trained on images that are scored here: {outcome.trained_on}"
    if not data.split and card.get("dataset") == data.dataset and "source" not in card:
        return f"it may have been trained on images that are scored here: its card says {outcome.trained_on}, not which"
    if outcome.overlap and outcome.overlap >= LEAKY_SHARE * data.images:
        return _overlap_words(data, outcome)
    return ""


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
    if outcome.overlap and not leak_of(data, outcome):
        cautions.append(f"{_overlap_words(data, outcome)}; --drop-duplicates leaves them out")
    if card and _shares_split(data, card.get("dataset"), card.get("validated_on")):
        cautions.append(f"its weights were chosen on images of {card['validated_on']}, which are scored here")
    return tuple(cautions)


def _overlap_words(data: DataRecord, outcome: Outcome) -> str:
    return (
        f"{outcome.overlap:,} of {data.images:,} images that are scored here have a duplicate in "
        f"{outcome.trained_on}, on which it was trained"
    )


def _shares_split(data: DataRecord, dataset: str | None, split: str | None) -> bool:
    """Whether two splits of one data set have a part in common; names may join several by ``+``."""
    return bool(split and dataset == data.dataset and set(split.split("+")) & set(data.split.split("+")))
