"""Scores one shard: draws the noise, denoises, checks the result, computes the metrics, crops what pictures show."""

from __future__ import annotations

import contextlib
import functools
import json
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchbox.api.arrays import Image, Images, Scores, Sigma
from benchbox.api.denoiser import Denoiser, Details, TrainingCard
from benchbox.api.errors import BenchboxError, ContractError
from benchbox.api.metric import AgreementMetric, LabelMetric, Metric, NoReferenceMetric
from benchbox.builtin.channels import as_stack, as_taken, is_colour, shape_taken
from benchbox.builtin.metrics import score_stack
from benchbox.builtin.noise import apply_protocol, without_border
from benchbox.builtin.sigma import estimate_sigma
from benchbox.engine.construction import require_same_content
from benchbox.engine.drawing import Condition, SentImages, draw, known_sigma, labels_of
from benchbox.engine.workers import Doing
from benchbox.records.run import Failure, Knowledge, PluginSpec, Status, decode
from benchbox.registry import first_line, load_plugin
from benchbox.store import IMAGE, NO_CLASS, class_columns

T = TypeVar("T", Details, TrainingCard)
P = TypeVar("P", bound=np.generic)
PICTURE_SIDE = 96
"""Side of a picture in pixels; larger images are cropped to where they have most detail, see `crop_corner`."""
CROP_SIGMA = 0.05
"""Noise level at which the error decides what is shown: strong edges survive it, texture does not."""
_REASON = 500
_DETAIL = 2**20
"""Characters kept of an exception, because a plugin may put a whole image stack into its message."""


@dataclass(frozen=True)
class ShardTask:
    """One shard for one denoiser, as a value that is sent to a worker."""

    denoiser: PluginSpec
    condition: Condition
    metrics: tuple[PluginSpec, ...]
    indices: NDArray[np.intp]  # shape (M,); positions in the image set; images of one size
    repeat: int = 0  # repeat number of the noise, from 0
    # Precision of the denoised images that are returned: in half precision, what a picture shows of each.
    keep: Literal["", "float16", "float32"] = ""
    sent: SentImages | None = None  # None where the data can be read, as they are


@dataclass(frozen=True)
class ShardScores:
    """Scores of one shard."""

    # Each of shape (M,): positions of the images, repeat number, MSE of the noisy images, mean of the clean images,
    # share of clipped pixels, one column per metric, true and received noise level (NaN if there is none).
    columns: dict[str, NDArray[Any]]
    noise_level: Knowledge
    card: TrainingCard | None = None
    details: Details | None = None
    denoised: NDArray[np.float16 | np.float32] | None = None


def compute_shard(task: ShardTask) -> ShardScores:
    """Score one shard; raises `ContractError` for an invalid result, `ImagesLost` if the images have changed."""
    clean, noisy, sigma_true, estimate = draw(task.condition, task.indices, task.repeat, task.sent)
    shape = noisy.shape
    denoiser = make_denoiser(task.denoiser, shape)
    condition = task.condition
    sigma_given, noise_level = known_sigma(
        denoiser.capabilities.sigma, condition.protocol, noisy, sigma_true, condition.noise.is_estimable, estimate
    )
    if sigma_given is not None and noise_level == "given":
        sigma_given *= np.float32(condition.sigma_factor)
    within = tuple(range(1, clean.ndim))  # the axes of an image
    error = without_border(noisy - clean, condition.protocol.border)
    noisy_mse = np.square(error).mean(axis=within, dtype=np.float64)
    if not condition.has_clean:
        noisy_mse[:] = np.nan
    again = {metric for metric in task.metrics if isinstance(make_metric(metric), NoReferenceMetric)}
    kept = noisy.copy() if again else noisy  # the denoiser may change its input
    taken, level = as_taken(denoiser.capabilities.channels, noisy, sigma_given)
    expected = taken.shape
    raw = denoise_stack(denoiser, taken, level)
    clipped = check_denoised(raw, expected)
    changed = (raw != clipped).reshape(len(clean), -1).mean(axis=1, dtype=np.float64)
    protocol = condition.protocol
    denoised = apply_protocol(as_stack(clipped, shape), clip=False, quantize=protocol.round_output)
    repeat = np.full(len(clean), task.repeat, dtype=np.int32)
    columns: dict[str, NDArray[Any]] = {IMAGE: task.indices.astype(np.int32), "repeat": repeat, "noisy_mse": noisy_mse}
    columns["clean_mean"] = clean.mean(axis=within, dtype=np.float64)
    columns["clipped"] = changed
    labels = task.sent.labels if task.sent else labels_of(condition, task.indices)
    for metric in task.metrics:
        if metric in again:
            columns[metric.spec] = _estimate(metric, denoiser, condition, kept, denoised, sigma_true, sigma_given)
        else:
            columns |= classes_of(metric, clean, denoised, protocol.border)
            columns[metric.spec] = score(metric, clean, denoised, labels, protocol.border)
    unknown = np.full(len(clean), np.nan, dtype=np.float32)
    columns["sigma_true"] = unknown if sigma_true is None else sigma_true
    columns["sigma_given"] = unknown if sigma_given is None else sigma_given
    card = _checked(TrainingCard, denoiser.card(), "card() returned an invalid training card")
    size = clean.shape[1:3]
    if task.keep == "float16" and cropped_size(size) != size:
        denoised = np.stack(
            [cropped(image, crop_corner(source)) for image, source in zip(denoised, clean, strict=True)]
        )
    kept_images = denoised.astype(task.keep) if task.keep else None
    return ShardScores(columns, noise_level, card, details_of(denoiser), kept_images)


def denoise_drawn(plugin: PluginSpec, condition: Condition, noisy: Images, sigma_true: Sigma | None) -> Images:
    """Denoise what `draw` returned as it was denoised to be scored; clipped to [0, 1], not rounded."""
    shape = noisy.shape
    denoiser = make_denoiser(plugin, shape)
    use, estimable = denoiser.capabilities.sigma, condition.noise.is_estimable
    sigma_given, _ = known_sigma(use, condition.protocol, noisy, sigma_true, estimable)
    taken, level = as_taken(denoiser.capabilities.channels, noisy, sigma_given)
    expected = taken.shape
    return as_stack(check_denoised(denoise_stack(denoiser, taken, level), expected), shape)


def _estimate(
    plugin: PluginSpec,
    denoiser: Denoiser,
    condition: Condition,
    noisy: Images,
    denoised: Images,
    sigma_true: Sigma | None,
    sigma_given: Sigma | None,
) -> Scores:
    """Score a stack with a metric that needs no clean images; NaN for a denoiser that is declared random."""
    metric = make_metric(plugin)
    if not isinstance(metric, NoReferenceMetric) or not denoiser.capabilities.deterministic:
        return np.full(len(noisy), np.nan)

    def denoise(stack: Images) -> Images:
        taken, level = as_taken(denoiser.capabilities.channels, stack, sigma_given)
        expected = taken.shape
        return as_stack(
            check_denoised(denoiser.denoise(taken, None if level is None else level.copy()), expected), stack.shape
        )

    told = sigma_true if condition.protocol.sigma == "given" else None
    return metric.estimate(noisy, denoised, estimate_sigma(noisy) if told is None else told, denoise)


def denoise_stack(denoiser: Denoiser, noisy: Images, level: Sigma | None) -> Images:
    """Denoise a stack; raises `BenchboxError` if it fails because sigma is None, as it is for an undeclared use."""
    try:
        return denoiser.denoise(noisy, level)
    except (TypeError, AttributeError) as error:
        if level is not None or "NoneType" not in str(error):
            raise
        raise BenchboxError(
            f"{first_line(error)}, and sigma is None",
            hint="if it needs sigma, declare capabilities = Capabilities(sigma='required')",
        ) from error


def details_of(denoiser: Denoiser) -> Details | None:
    """What a denoiser found out about itself; raises `ContractError` if it is not as declared."""
    return _checked(Details, denoiser.details(), "details() returned invalid details")


def _checked(kind: type[T], value: T | None, fault: str) -> T | None:
    """A value after a round trip through JSON, because a plugin may have put anything into it."""
    if not value:
        return None
    try:
        return decode(kind, json.loads(json.dumps(asdict(value), allow_nan=False)))
    except (ValueError, TypeError) as error:
        raise ContractError(f"{fault}: {error}", hint="give every field its type") from error


def check_denoised(denoised: object, shape: tuple[int, ...]) -> Images:
    """Check that a result is a finite float32 array of the given shape, and clip it to [0, 1]."""
    # A subclass may show other values than it stores, as a masked array does.
    if not isinstance(denoised, np.ndarray) or type(denoised) not in (np.ndarray, np.memmap):
        what = "a plain array" if isinstance(denoised, np.ndarray) else "an array"
        raise ContractError(
            f"denoise returned {type(denoised).__name__}, not {what}", hint="return a float32 array of noisy's shape"
        )
    if denoised.shape != shape:
        raise ContractError(
            f"denoise returned shape {denoised.shape} for noisy images of shape {shape}", hint="return noisy's shape"
        )
    if denoised.dtype != np.float32:
        raise ContractError(f"denoise returned {denoised.dtype}, not float32", hint="return .astype(np.float32)")
    # Fast check: the sum is finite unless a value is not, or the sum overflows; then look at every value.
    if not np.isfinite(denoised.sum(dtype=np.float64)) and not np.isfinite(denoised).all():
        bad = int((~np.isfinite(denoised)).reshape(shape[0], -1).any(axis=1).sum())
        raise ContractError(
            f"denoise returned NaN or infinity in {bad} of {shape[0]} images", hint="look for 0/0 at flat patches"
        )
    return np.ascontiguousarray(np.clip(denoised, 0.0, 1.0))


_ready: dict[PluginSpec, Denoiser] = {}


def make_denoiser(plugin: PluginSpec, shape: tuple[int, ...]) -> Denoiser:
    """Denoiser that is constructed and set up once per process, for the shape of its first stack of images."""
    if plugin not in _ready:
        denoiser = new_denoiser(plugin)
        denoiser.setup(shape_taken(denoiser.capabilities.channels, shape))
        require_same_content(plugin, denoiser)
        _ready[plugin] = denoiser
    return _ready[plugin]


def new_denoiser(plugin: PluginSpec) -> Denoiser:
    """Load and construct a denoiser, not yet set up."""
    denoiser: Denoiser = load_plugin(plugin, "benchbox_denoisers").make()
    return denoiser


@functools.cache
def make_metric(plugin: PluginSpec) -> Metric:
    """Load and construct a metric."""
    with _blamed(plugin):
        metric: Metric = load_plugin(plugin, "benchbox_metrics").make()
        require_same_content(plugin, metric)
    return metric


_owner: Connection[Any, Any] | None = None


def answers_to(owner: Connection[Any, Any]) -> None:
    """In a worker: who is told which metric it asks."""
    global _owner
    _owner = owner


@contextlib.contextmanager
def _blamed(plugin: PluginSpec) -> Iterator[None]:
    """Name a metric, not the denoiser, if this block fails, ends the process, hangs or takes all memory."""
    what = f"metric {plugin.spec}"
    remedy = "use another judge, or leave out this metric" if plugin.content else "leave out this metric"
    hint = f"the denoiser did not do it; {remedy}"
    # Built-in metrics are kernels that end by themselves, and two messages for each would cost a twentieth of a filter.
    owner = None if plugin.provider.kind == "built in" else _owner
    if owner:
        owner.send(Doing(what, hint))
    try:
        yield
    except BenchboxError:
        raise
    except (Exception, SystemExit) as error:  # a plugin may call sys.exit()
        raise BenchboxError(f"{what}: {first_line(error)}", hint=hint) from error
    finally:
        if owner:
            owner.send(Doing())


def score(
    plugin: PluginSpec, clean: Images, denoised: Images, labels: Mapping[str, NDArray[np.generic]], border: int = 0
) -> Scores:
    """Score a stack with a metric; NaN for images of a size that it does not take, or if it scores a denoiser.

    A metric that reads labels sees the whole image, because it recognises what the image shows.
    """
    metric = make_metric(plugin)
    if not isinstance(metric, LabelMetric):
        clean, denoised = without_border(clean, border), without_border(denoised, border)
    size = clean.shape[1:3]
    if min(size) < metric.min_size or (metric.image_size or size) != size or isinstance(metric, NoReferenceMetric):
        return np.full(len(clean), np.nan)
    with _blamed(plugin):
        scores = score_stack(metric, clean, denoised, labels)
    if np.shape(scores) != (len(clean),):
        raise BenchboxError(
            f"metric {plugin.name} returned shape {np.shape(scores)} for {len(clean)} images",
            hint="return one number for each image",
        )
    return scores


def classes_of(plugin: PluginSpec, clean: Images, denoised: Images, border: int = 0) -> dict[str, NDArray[np.int32]]:
    """Columns of what a classifier saw in clean and in denoised images; none if the metric asks no classifier."""
    metric = make_metric(plugin)
    if not isinstance(metric, AgreementMetric) or (is_colour(clean) and metric.channels == "grey"):
        return {}
    stacks = without_border(clean, border), without_border(denoised, border)
    size = stacks[0].shape[1:3]
    fits = min(size) >= metric.min_size and (metric.image_size or size) == size
    columns = {}
    for name, stack in zip(class_columns(plugin.spec), stacks, strict=True):
        with _blamed(plugin):
            seen = np.asarray(metric.seen(stack)) if fits else np.full(len(stack), NO_CLASS)
        if seen.dtype.kind not in "iu" or seen.shape != (len(stack),) or (fits and seen.min() < 0):
            raise BenchboxError(
                f"metric {plugin.name}: seen() returned {seen.dtype} of shape {seen.shape} for {len(stack)} images",
                hint="return the number of a class, from 0, for each image",
            )
        columns[name] = seen.astype(np.int32)
    return columns


def failure_of(error: BaseException) -> Failure:
    """Status, first useful line and traceback of an exception."""
    status: Status = "contract" if isinstance(error, ContractError) else "failed"
    if isinstance(error, BenchboxError):
        reason = error.message + (f" ({error.hint})" if error.hint else "")
    else:
        reason = first_line(error)
    detail = "".join(traceback.format_exception(error))
    return Failure(status, _cut(reason, _REASON), _cut(detail, _DETAIL))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]} [{len(text) - length:,} more characters]"


def crop_corner(clean: Image) -> tuple[int, int]:
    """Top and left of the part of an image that a picture shows: where a local Wiener filter would err most.

    Other denoisers err there, too: on 13 photographs with Gaussian noise of 0.05 to 0.2, the error of `bm3d_lite` and
    `nl_means` in this window is 71 to 100 % of that in their worst one (94 % on average), and 60 % in the centre. It
    depends on no denoiser and no noise of the run, so pictures of one image always match.
    """
    height, width = cropped_size(clean.shape[:2])
    if clean.shape[:2] == (height, width):
        return 0, 0
    import cv2

    variance = np.maximum(cv2.blur(np.square(clean), (5, 5)) - np.square(cv2.blur(clean, (5, 5))), 0)
    if clean.ndim == 3:
        variance = variance.sum(axis=2)
    table = cv2.integral(variance / (1 + variance / CROP_SIGMA**2))  # of a pixel, what the filter cannot restore
    sums = table[height:, width:] - table[:-height, width:] - table[height:, :-width] + table[:-height, :-width]
    top, left = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return int(top), int(left)


def cropped_size(size: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the picture of an image."""
    height, width = size
    return min(height, PICTURE_SIDE), min(width, PICTURE_SIDE)


def cropped(picture: NDArray[P], corner: tuple[int, int]) -> NDArray[P]:
    """A copy of what is shown of an image; all of it if it is no larger, as a crop is."""
    if picture.shape[:2] == cropped_size(picture.shape[:2]):
        return picture.copy()
    top, left = corner
    return picture[top : top + PICTURE_SIDE, left : left + PICTURE_SIDE].copy()
