"""The leaderboard as data, which every output format renders."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchbox.api.denoiser import Details
from benchbox.records.run import MetricRecord
from benchbox.report.recognition import Recognition
from benchbox.stats.ranking import Comparison
from benchbox.stats.summaries import Mean


@dataclass(frozen=True)
class Step:
    """Two adjacent ranked rows, see `benchbox.stats.ranking.Neighbours`.

    Attributes
    ----------
    better, worse : str
        Denoisers.
    difference, detectable : float
        In the unit of the metric that ranks, positive.
    further_images : int or None
        Images, or scenes where several images show one, that would tell them apart.
    """

    better: str
    worse: str
    difference: float
    detectable: float
    further_images: int | None


@dataclass(frozen=True)
class Complement:
    """Two rows combined by taking the better one for each image."""

    first: str  # the better denoiser
    second: str
    together: float  # mean of the metric that ranks
    gain: float  # over the first alone, positive


@dataclass(frozen=True)
class Mismatch:
    """Scores of a denoiser that is given a wrong noise level.

    Attributes
    ----------
    factors : tuple of float
        Factors applied to the true level, ascending and including 1.
    means : tuple of float
        Mean of the metric that ranks, for each factor.
    loss : float
        Robustness: the area between the curve and its value at the true level over the logarithm of the factor,
        divided by its width. In the unit of the metric; 0 if a wrong level makes no difference.
    """

    denoiser: str
    factors: tuple[float, ...]
    means: tuple[float, ...]
    loss: float

    @property
    def best(self) -> tuple[str, ...]:
        """Keys of the columns to mark: none, because a small loss does not mean high quality."""
        return ()


@dataclass(frozen=True)
class SummaryRow:
    """A denoiser over all noises.

    Attributes
    ----------
    rank, rank_to : int or None
        As in `Row`; None unless it is ranked on every noise.
    mean : float
        Mean over its completed noises, in the metric that ranks.
    wins : int
        Noises on which no row is significantly better.
    worst_noise : str
        Noise on which it is furthest from the best row.
    worst_difference : float
        Its mean minus that of the best row on that noise, in the unit of the metric.
    completed : int
        Number of noises it completed.
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
        Noises with a ranked row. Ranked rows completed all of them.
    rows : tuple of SummaryRow
        By mean; unranked rows last.
    compared : int
        Number of images behind the ranks.
    scenes : int
        Number of their scenes, which the tests count; 0 if every image is a scene of its own.
    """

    noises: tuple[str, ...]
    rows: tuple[SummaryRow, ...]
    compared: int
    scenes: int = 0


@dataclass(frozen=True)
class Advice:
    """Something suspicious about a run.

    Attributes
    ----------
    saw, why, do : str
        Finding, likely cause and instruction; the last two are sentences without a full stop.
    """

    saw: str
    why: str
    do: str


@dataclass(frozen=True)
class Header:
    """Facts about a whole run.

    Attributes
    ----------
    format : int
        Version of the file format.
    source_images : int
        Images that the scored ones were taken from.
    left_out : int
        How many of them were left out because a denoiser may have seen them in training.
    notes : tuple of str
        Remarks on the data, first the warnings.
    warnings : tuple of str
        Why scores on these images may mislead.
    protocol : str
        The protocol in words.
    machine : str
        Processor, cores, memory and system.
    load : float or None
        Runnable processes in the minute before the run.
    timing : str
        How latency was measured; empty if it was not.
    colour : bool
        Whether the images are in colour.
    has_clean : bool
        Whether there are clean images; if not, scores are estimated.
    scenes : int
        Scenes that the images show; 0 if every image is a scene of its own.
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
    source_images: int
    left_out: int
    notes: tuple[str, ...]
    protocol: str
    seed: int
    machine: str
    versions: dict[str, str]
    load: float
    timing: str
    colour: bool = False
    has_clean: bool = True
    scenes: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Speed:
    """Timing results of a row.

    Attributes
    ----------
    latency_p50_ms, latency_p90_ms, latency_p99_ms : float
        Quantiles of the latency of one image, in milliseconds; p99 is NaN for fewer than 100 samples.
    latency_p50_within : float
        Half the width of the interval of p50, relative to p50; NaN for fewer than 6 samples.
    samples, threads : int
        Latency samples taken, and threads it used.
    throughput : float
        Images per second with `batch` images per call: ``batch / p50`` of these calls.
    cold_start_s : float
        Import, construction, `setup` and the first call, in seconds.
    peak_mb : float
        Peak resident memory added by the denoiser, in MiB.
    machine : str
        Processor that timed it, after the name of its host if that is not the machine of the run.
    """

    latency_p50_ms: float
    latency_p90_ms: float
    latency_p99_ms: float
    latency_p50_within: float
    samples: int
    throughput: float
    batch: int
    cold_start_s: float
    peak_mb: float
    threads: int
    machine: str


@dataclass(frozen=True)
class Row:
    """A denoiser on one noise.

    Attributes
    ----------
    rank : int or None
        Best possible rank: 1 + the number of significantly better rows, or its place by the mean if there are too few
        images to test. None if unranked: `status` and `reason` say why.
    denoiser : str
        What the user typed.
    spec : str
        Canonical specification.
    status, reason : str
        ``ok``, or the failure and its reason.
    scores : dict of str to Mean
        By metric; empty unless the row was completed.
    speed_status, speed_reason : str
        Why there is no `speed`; empty if timing was off.
    noise_level : str
        ``given``, ``estimated`` or ``blind``.
    contamination : str
        How its training data overlap the scored images; empty if no overlap is known.
    cautions : tuple of str
        Other warnings about its training.
    best : tuple of str
        Keys of the columns to mark, because no ranked row is better.
    to_best : Comparison or None
        Difference to the best row in the metric that ranks, in its unit.
    worse_than_nothing : bool
        Whether its mean is worse than that of the floor, which returns the noisy image.
    on_front : bool
        Whether it is on the Pareto front of quality and latency.
    latency_normalised : float or None
        p50 latency divided by the time of the calibration kernel on the same machine.
    rank_to : int or None
        Worst possible rank: the number of ranked rows minus the significantly worse ones. None if unranked, or if there
        are too few images to test.
    is_floor : bool
        Whether it returns its input unchanged.
    channels : str
        On colour images, ``joint`` or, of a grey denoiser that gets their channels as grey images, ``per channel``.
    details : Details or None
        What the denoiser found out about itself: detected options, size of the network, device.
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
    noise_level: str
    trained_on: str
    tuned_on: str
    contamination: str = ""
    cautions: tuple[str, ...] = ()
    best: tuple[str, ...] = ()
    to_best: Comparison | None = None
    worse_than_nothing: bool = False
    on_front: bool = False
    latency_normalised: float | None = None
    rank_to: int | None = None
    is_floor: bool = False
    channels: str = ""
    details: Details | None = None

    @property
    def gmac_per_megapixel(self) -> float:
        """Multiply-adds of the network for a megapixel, in billions; NaN if unknown."""
        macs = self.details.macs_per_pixel if self.details else 0.0
        return macs / 1e3 if macs else math.nan


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
        PSNR of the noisy images, in dB.
    rows : tuple of Row
        Ranked rows, best first; then unranked ones; then those without a result.
    compared : int
        Number of compared images: those on which any row has a score.
    scenes : int
        Number of their scenes, which the tests count; 0 if every image is a scene of its own.
    oracle : float or None
        Mean score of the best ranked row for each image.
    oracle_wiener : float or None
        Mean score of the Wiener filter that is given each clean spectrum.
    steps : tuple of Step
        Adjacent rows, and how many images would tell them apart.
    complements : tuple of Complement
        Up to three pairs that beat the best row, by gain.
    mismatch : tuple of Mismatch
        Effect of a wrong noise level, the most robust denoiser first.
    level_title : str
        What the level of the noise means, such as 'peak photons'.
    gaussian : bool
        Whether it is white Gaussian noise of one level.
    recognition : tuple of Recognition
        What each classifier of the run recognises.
    """

    noise: str
    spec: str
    noisy_psnr: Mean | None
    rows: tuple[Row, ...]
    compared: int = 0
    scenes: int = 0
    steps: tuple[Step, ...] = ()
    oracle: float | None = None
    oracle_wiener: float | None = None
    complements: tuple[Complement, ...] = ()
    mismatch: tuple[Mismatch, ...] = ()
    level_title: str = ""
    gaussian: bool = False
    recognition: tuple[Recognition, ...] = ()


@dataclass(frozen=True)
class Leaderboard:
    """A ranked run.

    Attributes
    ----------
    sort : str
        Metric that ranks.
    timing : bool
        Whether the run has timings.
    blocks : tuple of Block
        One per noise, in the order of the run.
    summary : Summary or None
        Summary over all noises; None if fewer than two have a ranked row.
    within_ms : float or None
        Largest p50 latency that is ranked.
    advice : tuple of Advice
        Suspicious findings.
    columns : tuple of str
        Keys of the columns to show besides rank and denoiser; empty for those that fit.
    """

    header: Header
    metrics: tuple[MetricRecord, ...]
    sort: str
    timing: bool
    blocks: tuple[Block, ...]
    summary: Summary | None = None
    within_ms: float | None = None
    advice: tuple[Advice, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def sort_metric(self) -> MetricRecord:
        """The metric that ranks."""
        return next(metric for metric in self.metrics if metric.spec == self.sort)
