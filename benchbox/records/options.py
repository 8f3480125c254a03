"""The options of a run: one list for the command line, `benchbox.run()` and run.json.

To add a run option, add a field to `RunOptions`: its type, default, command-line spelling and help are only there.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from benchbox.api.errors import BenchboxError
from benchbox.api.threads import cgroup_memory, usable_cores
from benchbox.records.protocol import NAMED, Protocol, ProtocolName, SigmaPolicy

DEFAULT_NOISE = "gaussian:0.1"
LOCAL = "local"
"""The engine that computes on this machine."""
DASK = "dask"
NO_CLUSTER = "the run has no cluster", "name it with --scheduler or --scheduler-file, or omit --timing-on"
RECORDED = "recorded"
"""The noise of images that are noisy as they come, with or without clean ones."""

_WORKER_BYTES = 1 << 29
"""What a worker with a common library in it takes."""

SigmaChoice = Literal["auto", "given", "estimated", "none"]
Color = Literal["auto", "grey", "rgb"]
"""Keep colour if all images have it; turn it into luminance; keep it and refuse grey images."""
T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """How a field of `RunOptions` appears on the command line.

    Attributes
    ----------
    flag : str
        Its spelling; of a positional argument, the word in the usage line.
    group : str
        Title of its section in the help; empty for a positional argument.
    help : str
    metavar : str
        What stands for the value; empty to derive it from the type, N for a whole number.
    least, most : float
        Range of a number; whole numbers include its ends, others do not.
    otherwise : str
        What happens where the option is left out, if the default does not say it.
    path : bool
        Whether the value names a file or folder.
    variable : str
        Environment variable that sets it.
    resumable : bool
        Whether it may differ when an interrupted run continues, as all options of the cluster and limits may.
    """

    flag: str
    group: str
    help: str
    metavar: str = ""
    least: float = -math.inf
    most: float = math.inf
    otherwise: str = ""
    path: bool = False
    variable: str = ""
    resumable: bool = False


DATA, NOISE, TIMING, LIMITS = "Data", "Noise and protocol", "Timing", "Limits"
CLUSTER, OUTPUT, PLUGINS = "Cluster", "Output", "Plugins"


def _option(default: T, flag: str, group: str, text: str, **more: Any) -> T:
    """A field with its default, and how it appears on the command line."""
    option = Option(flag, group, text, **{"resumable": group in (CLUSTER, LIMITS), **more})
    return field(default=default, metadata={"option": option})


@dataclass(frozen=True)
class RunOptions:
    """The options of a run; `Option` describes each field on the command line."""

    denoisers: tuple[str, ...] = _option((), "DENOISERS", "", "Denoisers with their options, such as median:size=5.")
    noise: tuple[str, ...] = _option(
        (),
        "--noise",
        NOISE,
        "Noise model, as in 'benchbox list noises'; compose models with +. Repeatable.",
        metavar="NOISE",
        otherwise=f"{DEFAULT_NOISE}, or what was recorded with the images",
    )
    metrics: tuple[str, ...] = _option(
        (),
        "--metric",
        OUTPUT,
        "Metric to compute, as in 'benchbox list metrics'. Repeatable.",
        metavar="METRIC",
        otherwise="those marked as default there",
    )
    judges: tuple[str, ...] = _option(
        (),
        "--judge",
        OUTPUT,
        "Classifier whose answers denoising should keep: keras:path=FILE, onnx:path=FILE or litert:path=FILE, with "
        "[,size=64,range=-1..1,classes=7]. Repeatable.",
        metavar="JUDGE",
    )
    data: str = _option(
        "",
        "--data",
        DATA,
        "FER2013 (the csv or its folder of images), any folder of images or pairs, or a .npy file.",
        path=True,
        otherwise="built-in sample",
    )
    noisy: str = _option(
        "", "--noisy", DATA, "Folder of noisy images, instead of --data; with --clean.", path=True, metavar="FOLDER"
    )
    clean: str = _option("", "--clean", DATA, "Folder of their clean images.", path=True, metavar="FOLDER")
    dataset: str = _option(
        "", "--dataset", DATA, "Dataset type, if it cannot be detected from the files.", metavar="NAME"
    )
    split: str = _option(
        "",
        "--split",
        DATA,
        "Split of the data set, as in 'benchbox list datasets'.",
        metavar="NAME",
        otherwise="the test split, if there is one",
    )
    limit: int | None = _option(None, "--limit", DATA, "Sample N images from the split, using --seed.", least=1)
    skip_bad: bool = _option(False, "--skip-bad", DATA, "Skip and count images that cannot be decoded.")
    keep_duplicates: bool = _option(
        False,
        "--keep-duplicates",
        DATA,
        "Also score images that a denoiser may have seen in training; its row is ranked, with a mark.",
    )
    white: int | None = _option(
        None,
        "--white",
        DATA,
        "Grey level of white in 16-bit images, such as 4095 for 12-bit data.",
        least=1,
        most=65535,
        otherwise="65535",
    )
    color: Color = _option(
        "auto",
        "--color",
        DATA,
        "Keep colour if all images have it (auto), turn it into luminance (grey), or require it (rgb).",
    )
    seed: int = _option(0, "--seed", NOISE, "Random seed for noise and sampling.", least=0)
    protocol_name: ProtocolName = _option(
        "literature",
        "--protocol",
        NOISE,
        "Named rules of noise and scoring: noise clipped, rounded or drawn once, output rounded, edges not scored.",
    )
    clip: bool = _option(False, "--clip", NOISE, "Clip noisy images to [0, 1].")
    quantize: bool = _option(False, "--quantize", NOISE, "Round noisy images to 8 bits; implies --clip.")
    sigma: SigmaChoice = _option(
        "auto",
        "--sigma",
        NOISE,
        "Noise level that denoisers get: the true one, an estimate, or none; auto estimates that of recorded noise "
        "only.",
    )
    sigma_errors: tuple[float, ...] = _option(
        (),
        "--sigma-error",
        NOISE,
        "Also run with the given noise level multiplied by these factors, such as 0.5,1,2.",
        metavar="F,F,...",
        least=0,
        most=100,
    )
    repeats: int = _option(1, "--repeats", NOISE, "Noise draws per image.", least=1, most=1000)
    jobs: int | None = _option(
        None,
        "--jobs",
        LIMITS,
        "Worker processes; on a cluster, the most shards at once.",
        least=1,
        otherwise="one more than cores; fewer in a container with little memory; no limit on a cluster",
    )
    engine: str = _option(
        LOCAL,
        "--engine",
        CLUSTER,
        "Where to score: local, dask (processes here, or the cluster of --scheduler), or another installed engine.",
        metavar="NAME",
    )
    scheduler: str = _option(
        "",
        "--scheduler",
        CLUSTER,
        "Score on the Dask cluster of this scheduler, such as tcp://HOST:8786 or tls://HOST:8786.",
        metavar="ADDRESS",
    )
    scheduler_file: str = _option(
        "",
        "--scheduler-file",
        CLUSTER,
        "Score on the Dask cluster whose scheduler wrote this file.",
        path=True,
        metavar="FILE",
    )
    wait_s: float = _option(
        300.0, "--wait", CLUSTER, "How long to wait for a usable worker before the run stops, to be resumed.", least=0
    )
    send_data: bool = _option(
        False, "--send-data", CLUSTER, "Send images to workers that do not see the data; small data are sent anyway."
    )
    timing_on: str = _option(
        "",
        "--timing-on",
        CLUSTER,
        "Time denoisers on this worker of the cluster, by its name or address in Dask.",
        metavar="WORKER",
        otherwise="where the command runs",
    )
    timing: bool = _option(
        True, "--timing/--no-timing", TIMING, "Time each denoiser alone (the default), or not at all.", resumable=True
    )
    threads: int = _option(1, "--threads", TIMING, "Threads a denoiser may use while timed.", least=1)
    batch: int = _option(
        64,
        "--batch",
        TIMING,
        "Images per call when measuring throughput, at most; large or slow ones go in smaller batches.",
        least=1,
    )
    timing_budget_s: float = _option(
        10.0,
        "--timing-budget",
        TIMING,
        "Longest time for timing one denoiser after its cold start; it ends sooner if p50 is precise.",
        least=0,
    )
    timeout_s: float = _option(
        600.0, "--timeout", LIMITS, "Time limit for one shard of images, or for timing one denoiser.", least=0
    )
    memory_gb: float | None = _option(
        None,
        "--memory",
        LIMITS,
        "Memory limit for a denoiser's process, in GiB.",
        metavar="GIB",
        least=0,
        otherwise="80 % of a container's memory",
    )
    previews: int = _option(
        4, "--previews", OUTPUT, "Images per noise whose pictures are kept for the report.", least=0, most=32
    )
    save_images: bool = _option(
        False, "--save-images", OUTPUT, "Keep every denoised image in the run's folder, 4 bytes per pixel."
    )
    fresh: bool = _option(
        False, "--fresh", OUTPUT, "Compute everything anew, instead of reusing equal cells of earlier runs."
    )
    results: str = _option(
        "results", "--results", OUTPUT, "Folder that holds all runs.", path=True, metavar="FOLDER", resumable=True
    )
    plugins: tuple[str, ...] = _option(
        (), "--plugin", PLUGINS, "Load a plugin from this file. Repeatable.", path=True, metavar="FILE", resumable=True
    )
    plugin_folders: tuple[str, ...] = _option(
        (),
        "--plugins-dir",
        PLUGINS,
        "Load every plugin file in this folder. Repeatable.",
        path=True,
        metavar="FOLDER",
        variable="BENCHBOX_PLUGINS_DIR",
    )

    @property
    def path(self) -> Path | None:
        """File or folder of the images, of noisy ones if they come with their clean ones; None for built-in data."""
        path = self.noisy or self.data
        return Path(path) if path else None

    @property
    def protocol(self) -> Protocol:
        """The rules for every denoiser."""
        sigma: SigmaPolicy = "given" if self.sigma == "auto" else self.sigma
        base = NAMED[self.protocol_name]
        quantize = self.quantize or base.quantize
        clip = self.clip or base.clip or quantize
        return replace(base, seed=self.seed, clip=clip, quantize=quantize, sigma=sigma, repeats=self.repeats)

    @property
    def workers(self) -> int:
        """Worker processes; by default one more than cores, so that no core idles while a worker writes.

        In a container with little memory, there are fewer.
        """
        memory = cgroup_memory()
        most = usable_cores() + 1 if memory is None else min(usable_cores() + 1, memory // _WORKER_BYTES)
        return self.jobs or max(1, most)

    @property
    def engine_name(self) -> str:
        """The engine; naming a scheduler means Dask."""
        return DASK if self.engine == LOCAL and (self.scheduler or self.scheduler_file) else self.engine

    def settled(self, *, recorded: bool, has_clean: bool) -> RunOptions:
        """These options with what the images decide: a noise and a noise level, and what to do without clean images.

        `recorded` says whether the images come with their noise.

        Raises
        ------
        BenchboxError
            An option does not fit the images.
        """
        if not recorded:
            sigma = "given" if self.sigma == "auto" else self.sigma
            return replace(self, noise=self.noise or (DEFAULT_NOISE,), sigma=sigma)
        if self.noise not in ((), (RECORDED,)):
            raise BenchboxError(
                f"--noise {self.noise[0]}: the noise of these images was recorded, and none can be added",
                hint="omit --noise, or give only the clean images with --data",
            )
        if self.sigma == "given":
            raise BenchboxError(
                "--sigma given: the level of recorded noise is not known", hint="use --sigma estimated or none"
            )
        for name in ("protocol_name", "clip", "quantize", "repeats", "sigma_errors"):
            if getattr(self, name) != self.__dataclass_fields__[name].default:
                raise BenchboxError(
                    f"{option_of(name).flag}: the noise of these images was recorded, and cannot be changed",
                    hint=f"omit {option_of(name).flag}",
                )
        found = replace(self, noise=(RECORDED,), sigma="estimated" if self.sigma == "auto" else self.sigma)
        return found if has_clean else replace(found, previews=0)

    def check(self) -> None:
        """Reject wrong types, numbers out of range, and options that exclude each other.

        Raises
        ------
        BenchboxError
            Names the option.
        """
        try:
            msgspec.convert(asdict(self), RunOptions, strict=True)
        except msgspec.ValidationError as error:
            raise BenchboxError(f"run options: {error}", hint="see help(benchbox.run)") from error
        for chosen in fields(self):
            option, value = option_of(chosen.name), getattr(self, chosen.name)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, bool) or not isinstance(number, int | float):
                    continue
                whole = isinstance(number, int) and not isinstance(chosen.default, float)
                inside = option.least <= number <= option.most if whole else option.least < number < option.most
                if not inside:
                    raise BenchboxError(f"{chosen.name} is {number}", hint=range_words(option, whole))
        if bool(self.noisy) != bool(self.clean) or (self.noisy and self.data):
            raise BenchboxError(
                "noisy and clean images are two folders", hint="give --noisy FOLDER --clean FOLDER, without --data"
            )
        if self.scheduler and self.scheduler_file:
            raise BenchboxError("two schedulers are named", hint="give --scheduler or --scheduler-file")
        if self.timing_on and self.engine_name == LOCAL:
            raise BenchboxError(f"--timing-on {self.timing_on}: {NO_CLUSTER[0]}", hint=NO_CLUSTER[1])
        if self.timing_on and not self.timing:
            raise BenchboxError(
                f"--timing-on {self.timing_on}: the run has no timing (--no-timing)",
                hint="omit --timing-on, or --no-timing",
            )
        if self.sigma_errors and self.sigma not in ("auto", "given"):
            raise BenchboxError(
                f"sigma errors need sigma 'given'; it is '{self.sigma}'",
                hint="use sigma 'given', or omit the sigma errors",
            )


CLUSTER_OPTIONS = tuple(field.name for field in fields(RunOptions) if field.metadata["option"].group == CLUSTER)


def option_of(name: str) -> Option:
    """How a run option appears on the command line."""
    option = RunOptions.__dataclass_fields__[name].metadata["option"]
    assert isinstance(option, Option)
    return option


def range_words(option: Option, whole: bool) -> str:
    """The range of an option as an instruction."""
    least = "" if option.least == -math.inf else f"{option.least:g} or more" if whole else f"more than {option.least:g}"
    most = "" if option.most == math.inf else f"at most {option.most:g}" if whole else f"less than {option.most:g}"
    return "give " + " and ".join(filter(None, (least, most)))
