"""What is found beyond the rows of a leaderboard, as plain values: power, pairs, robustness, advice, the summary."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Two rows that follow each other in the ranking, see `benchbox.stats.ranking.Neighbours`.

    Attributes
    ----------
    better, worse : str
        Denoisers.
    difference, detectable : float
        In the unit of the metric that ranks, positive.
    further_images : int or None
    """

    better: str
    worse: str
    difference: float
    detectable: float
    further_images: int | None


@dataclass(frozen=True)
class Complement:
    """Two rows of which the better one is picked for each image.

    Attributes
    ----------
    first, second : str
        Denoisers, the better one first.
    together : float
        Mean of the metric that ranks.
    gain : float
        By how much it is better than the first alone, positive.
    """

    first: str
    second: str
    together: float
    gain: float


@dataclass(frozen=True)
class Mismatch:
    """What a denoiser scores when the noise level it is told is wrong.

    Attributes
    ----------
    denoiser : str
    factors : tuple of float
        What the level was multiplied by, rising; 1 among them.
    means : tuple of float
        Mean of the metric that ranks, for each factor.
    loss : float
        Robustness: the area between the curve and its value at the true level over the logarithm of the factor,
        divided by its width. In the unit of the metric; 0 where a wrong level costs nothing.
    """

    denoiser: str
    factors: tuple[float, ...]
    means: tuple[float, ...]
    loss: float

    @property
    def best(self) -> tuple[str, ...]:
        """Keys of the columns in which it is marked: none, for to lose least says nothing of the quality."""
        return ()


@dataclass(frozen=True)
class SummaryRow:
    """A denoiser over all noises.

    Attributes
    ----------
    rank : int or None
        None where it is not ranked in every condition.
    denoiser : str
    mean_rank : float
        Mean of its ranks; NaN where it has none.
    mean : float
        Mean over the conditions it completed of its mean in the metric that ranks.
    wins : int
        Conditions in which its rank is 1, shared or not.
    worst_noise : str
        Condition in which it is furthest behind the best row.
    worst_difference : float
        By how much: its mean less that of the best row, in the unit of the metric.
    completed : int
        Conditions it completed.
    best : tuple of str
    """

    rank: int | None
    denoiser: str
    mean_rank: float
    mean: float
    wins: int
    worst_noise: str
    worst_difference: float
    completed: int
    best: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """All denoisers over all noises.

    Attributes
    ----------
    noises : tuple of str
        The conditions: noises on which a row was ranked. The ranked rows completed all of them.
    rows : tuple of SummaryRow
        By mean rank, then by mean.
    """

    noises: tuple[str, ...]
    rows: tuple[SummaryRow, ...]


@dataclass(frozen=True)
class Advice:
    """Something suspicious about a run.

    Attributes
    ----------
    saw, why, do : str
        What was seen, why it may be, and what to do.
    """

    saw: str
    why: str
    do: str
