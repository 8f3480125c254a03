"""The leaderboard as plain values, which every output format renders."""

from __future__ import annotations

from dataclasses import dataclass

from benchbox.stats.ranking import Comparison
from benchbox.stats.summaries import Mean


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
    rank, rank_to : int or None
        As those of a `Row`. None where it is not ranked in every condition.
    denoiser : str
    mean : float
        Mean over the conditions it completed of its mean in the metric that ranks.
    wins : int
        Conditions in which no row is significantly better.
    worst_noise : str
        Condition in which it is furthest behind the best row.
    worst_difference : float
        By how much: its mean less that of the best row, in the unit of the metric.
    completed : int
        Conditions it completed.
    best : tuple of str
    """

    rank: int | None
    rank_to: int | None
    denoiser: str
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
        By mean; last those that are not ranked.
    compared : int
        Images on which the ranks rest.
    """

    noises: tuple[str, ...]
    rows: tuple[SummaryRow, ...]
    compared: int


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


@dataclass(frozen=True)
class MetricColumn:
    """A metric of the run.

    Attributes
    ----------
    label : str
        Canonical specification.
    title, unit, summary : str
    digits : int or None
        Decimals that are shown; None for three significant digits.
    higher_is_better : bool
    shown : bool
        Whether its column stays where a table is narrow.
    """

    label: str
    title: str
    unit: str
    digits: int | None
    higher_is_better: bool
    shown: bool
    summary: str


@dataclass(frozen=True)
class Header:
    """What holds for every row of a run.

    Attributes
    ----------
    run_id, created, command : str
    format : int
        Version of the file format.
    dataset, split, sizes, fingerprint : str
    images : int
    notes : tuple of str
        What the data set says of itself.
    protocol : str
        The protocol in words.
    seed : int
    machine : str
        Processor, cores, memory and system.
    versions : dict of str to str
    load : float or None
        Runnable processes in the minute before the run.
    timing : str
        How latency was taken; empty where it was not.
    """

    run_id: str
    created: str
    command: str
    format: int
    dataset: str
    split: str
    sizes: str
    fingerprint: str
    images: int
    notes: tuple[str, ...]
    protocol: str
    seed: int
    machine: str
    versions: dict[str, str]
    load: float | None
    timing: str


@dataclass(frozen=True)
class Speed:
    """What the timing pass found for a row.

    Attributes
    ----------
    latency_p50_ms, latency_p90_ms, latency_p99_ms : float
        Quantiles of the latency of one image, in milliseconds.
    samples : int
        Latency samples taken.
    throughput : float
        Images a second at `batch` images a call: ``batch / p50`` of these calls.
    batch : int
    cold_start_s : float
        Import, construction, `setup` and the first call, in seconds.
    peak_mb : float
        Peak resident memory that the denoiser added, MiB.
    threads : int
        Threads it used.
    """

    latency_p50_ms: float
    latency_p90_ms: float
    latency_p99_ms: float
    samples: int
    throughput: float
    batch: int
    cold_start_s: float
    peak_mb: float
    threads: int


@dataclass(frozen=True)
class Row:
    """A denoiser on one noise.

    Attributes
    ----------
    rank : int or None
        The best rank that it may have: 1 + the rows that are significantly better. Its place by the mean where there
        are too few images to test. None where it is not ranked: `status` and `reason` say why.
    denoiser : str
        What the user typed.
    spec : str
        Canonical specification.
    status, reason : str
        ``ok``, or what happened and why.
    scores : dict of str to Mean
        By metric; empty where the row was not completed.
    speed : Speed or None
    speed_status, speed_reason : str
        Why there is no `speed`; empty where the timing pass was not asked for.
    knew : str
        ``given``, ``estimated`` or ``blind``.
    trained_on, tuned_on : str
    leak : str
        Why it has seen the images that it is scored on; empty where its training card does not say so.
    cautions : tuple of str
        What else a reader must know of its training.
    best : tuple of str
        Keys of the columns in which no ranked row is better.
    to_best : Comparison or None
        This row less the first one in the metric that ranks, in the unit of the metric.
    worse_than_nothing : bool
        Whether its mean is worse than that of the floor, the row that does nothing.
    on_front : bool
        Whether no ranked row is both at least as good and as fast.
    latency_normalised : float or None
        p50 of the latency over the time of the calibration kernel on the same machine.
    rank_to : int or None
        The worst rank that it may have: the ranked rows less those that are significantly worse. None where it is not
        ranked, or where there are too few images to test.
    is_floor : bool
        Whether it returns its input unchanged.
    """

    rank: int | None
    denoiser: str
    spec: str
    status: str
    reason: str
    scores: dict[str, Mean]
    speed: Speed | None
    speed_status: str
    speed_reason: str
    knew: str
    trained_on: str
    tuned_on: str
    leak: str = ""
    cautions: tuple[str, ...] = ()
    best: tuple[str, ...] = ()
    to_best: Comparison | None = None
    worse_than_nothing: bool = False
    on_front: bool = False
    latency_normalised: float | None = None
    rank_to: int | None = None
    is_floor: bool = False


@dataclass(frozen=True)
class Block:
    """All denoisers on one noise.

    Attributes
    ----------
    noise : str
        What the user typed.
    spec : str
        Canonical specification.
    noisy_psnr : Mean or None
        PSNR of the images as the denoisers get them, in dB.
    rows : tuple of Row
        Best first; then those without a rank, in the same way, and last those without a result.
    compared : int
        Images on which comparisons and ranks rest: those on which any row has a score.
    steps : tuple of Step
    oracle : float or None
        Mean over images of the best ranked row of each, in the metric that ranks.
    oracle_wiener : float or None
        Mean over images of the Wiener filter that knows each clean spectrum, in the metric that ranks.
    complements : tuple of Complement
        The pairs that beat the best row and gain most, at most three.
    mismatch : tuple of Mismatch
        What a wrong noise level costs, the most robust denoiser first.
    level_title : str
        What the level of the noise means, such as 'peak photons'.
    """

    noise: str
    spec: str
    noisy_psnr: Mean | None
    rows: tuple[Row, ...]
    compared: int = 0
    steps: tuple[Step, ...] = ()
    oracle: float | None = None
    oracle_wiener: float | None = None
    complements: tuple[Complement, ...] = ()
    mismatch: tuple[Mismatch, ...] = ()
    level_title: str = ""


@dataclass(frozen=True)
class Leaderboard:
    """A run, ranked.

    Attributes
    ----------
    header : Header
    metrics : tuple of MetricColumn
    sort : str
        Metric that ranks.
    timing : bool
        Whether there is a timing pass to show.
    blocks : tuple of Block
        One a noise, in the order of the run.
    summary : Summary or None
        Over several noises.
    within_ms : float or None
        Largest latency that is ranked.
    advice : tuple of Advice
        What the run looks suspicious for.
    """

    header: Header
    metrics: tuple[MetricColumn, ...]
    sort: str
    timing: bool
    blocks: tuple[Block, ...]
    summary: Summary | None = None
    within_ms: float | None = None
    advice: tuple[Advice, ...] = ()

    @property
    def sort_metric(self) -> MetricColumn:
        """The metric that ranks."""
        return next(metric for metric in self.metrics if metric.label == self.sort)
