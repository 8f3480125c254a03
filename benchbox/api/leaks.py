"""Whether a row has seen images that it is scored on: by its training card and the audit for duplicates."""

from __future__ import annotations

from benchbox.api.records import DataRecord, Outcome


def leak_of(data: DataRecord, outcome: Outcome) -> str:
    """Why a row has seen images that it is scored on; empty where nothing says so.

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
    if is_fitted_to(data, outcome):
        return f"it was trained on images that are scored here: {outcome.trained_on}"
    if not data.split and card.get("dataset") == data.dataset and "source" not in card:
        return f"it may have been trained on images that are scored here: its card says {outcome.trained_on}, not which"
    if outcome.overlap:
        return (
            f"{outcome.overlap:,} of {data.images:,} scored images have a duplicate in its training data, "
            f"{outcome.trained_on}"
        )
    return ""


def is_fitted_to(data: DataRecord, outcome: Outcome) -> bool:
    """Whether a card names the very images that are scored, by fingerprint or by split."""
    card = outcome.card
    fitted = {card.get("fingerprint"), card.get("source")} - {"", None}
    return bool(fitted & {data.fingerprint, data.source}) or shares_split(data, card.get("dataset"), card.get("split"))


def shares_split(data: DataRecord, dataset: str | None, split: str | None) -> bool:
    """Whether two splits of one data set have a part in common; names may join several by ``+``."""
    return bool(split and dataset == data.dataset and set(split.split("+")) & set(data.split.split("+")))
