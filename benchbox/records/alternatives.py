"""Other protocols under which a finished run can be scored again, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchbox.api.errors import BenchboxError, did_you_mean
from benchbox.records.protocol import Protocol
from benchbox.records.run import MetricRecord, RunRecord


@dataclass(frozen=True)
class Alternative:
    """Another way to add the noise to the images of a run, or to score its outputs.

    Attributes
    ----------
    name : str
        Word for the command line, tables and files.
    words : str
        What it does, for people.
    changes : dict
        Fields of `Protocol` with other values.
    replaces, metric : str
        A metric of the run, by name, and the specification of the variant that is computed instead.
    pooled : bool
        Whether the errors of all images are averaged before the logarithm, instead of the PSNR of each image; it needs
        no other metric.
    channels : int
        Channels of the images that it is for; 0 for any.
    """

    name: str
    words: str
    changes: Mapping[str, bool | int] = field(default_factory=dict)
    replaces: str = ""
    metric: str = ""
    pooled: bool = False
    channels: int = 0

    def under(self, protocol: Protocol) -> Protocol:
        """The rules of a run with those of the alternative."""
        return replace(protocol, **self.changes)  # type: ignore[arg-type]

    def redraws(self, protocol: Protocol) -> bool:
        """Whether denoisers get other noisy images, so that they must run once more for it alone."""
        changed = self.under(protocol)
        return (changed.clip, changed.quantize) != (protocol.clip, protocol.quantize)

    def base(self, record: RunRecord, sort: MetricRecord) -> MetricRecord | None:
        """The metric of the run that its scores are compared with; None if the run has no such scores."""
        if not self.replaces:
            return sort
        return next((metric for metric in record.metrics if metric.spec == self.replaces), None)


ALTERNATIVES = (
    Alternative("clip", "noisy images clipped to [0, 1]", {"clip": True, "quantize": False}),
    Alternative("quantize", "noisy images clipped and rounded to 8 bits", {"clip": True, "quantize": True}),
    Alternative("unclipped", "noisy images neither clipped nor rounded", {"clip": False, "quantize": False}),
    Alternative("round-output", "results rounded to 8 bits before they are scored", {"round_output": True}),
    Alternative("exact-output", "results scored without rounding", {"round_output": False}),
    Alternative("border-4", "4 pixels at each edge not scored", {"border": 4}),
    Alternative("all-pixels", "all pixels scored", {"border": 0}),
    Alternative(
        "mean-error", "PSNR of the mean error over all images, instead of the mean PSNR", {}, "psnr", pooled=True
    ),
    Alternative("y", "PSNR of the luminance from 16 to 235 (MATLAB's rgb2ycbcr)", {}, "psnr", "psnr_y", channels=3),
    Alternative("y-full", "PSNR of the luminance from 0 to 255", {}, "psnr", "psnr_y:full", channels=3),
    Alternative(
        "ssim-uniform", "SSIM as scikit-image computes it by default: 7 x 7 uniform window", {}, "ssim",
        "ssim:window=uniform",
    ),
    Alternative("ssim-edges", "SSIM at all pixels, with repeated edges", {}, "ssim", "ssim:edges=repeated"),
    Alternative("ssim-3d", "SSIM of the colour image as a volume (MATLAB's ssim)", {}, "ssim", "ssim_3d", channels=3),
)  # fmt: skip
"""All of them; those that change nothing of a run, or do not fit it, are left out of its table."""


AS_RUN = Alternative("as-run", "as the run was scored: whether its outputs are still the same")
OUTPUTS = "outputs"
"""The stage of all alternatives that score the outputs of the run itself."""


def stage_of(alternative: Alternative, protocol: Protocol) -> str:
    """Name of the outputs that an alternative scores: those of the run, or with noisy images of its own."""
    return alternative.name if alternative.redraws(protocol) else OUTPUTS


def column_of(alternative: Alternative, metric: str) -> str:
    """Column of the scores under an alternative, for a metric of the run."""
    return f"{alternative.name} {metric}"


def alternatives_of(record: RunRecord, smallest: int) -> tuple[Alternative, ...]:
    """Alternatives that fit a run whose images have a smallest side of so many pixels, and change something."""
    recorded = all(noise.is_recorded for noise in record.noises)
    names = {metric.spec for metric in record.metrics}

    def fits(alternative: Alternative) -> bool:
        if alternative.replaces:
            return alternative.replaces in names and alternative.channels in (0, record.data.channels)
        rules = alternative.under(record.protocol)
        redrawn = recorded and alternative.redraws(record.protocol)
        return rules != record.protocol and not redrawn and smallest > 2 * rules.border

    return tuple(filter(fits, ALTERNATIVES)) if record.data.has_clean else ()


def choose_alternatives(record: RunRecord, smallest: int, names: Sequence[str]) -> tuple[Alternative, ...]:
    """The named alternatives, or all that fit; raises `BenchboxError` if one is unknown or does not fit the run."""
    fitting = {alternative.name: alternative for alternative in alternatives_of(record, smallest)}
    if not fitting:
        raise BenchboxError(
            f"run {record.run_id} has no clean images, so nothing can be scored under another protocol",
            hint="give the clean images: benchbox run --noisy FOLDER --clean FOLDER",
        )
    known = {alternative.name for alternative in ALTERNATIVES}
    for name in names:
        if name not in known:
            raise BenchboxError(f"there is no protocol '{name}'", hint=did_you_mean(name, sorted(known)))
        if name not in fitting:
            raise BenchboxError(
                f"'{name}' does not fit run {record.run_id} or changes nothing of it",
                hint=f"choose from: {', '.join(fitting)}",
            )
    return tuple(alternative for name, alternative in fitting.items() if not names or name in names)
