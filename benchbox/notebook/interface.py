"""`run()`: score and time denoisers from Python."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from benchbox.api.denoiser import Denoiser
from benchbox.api.errors import BenchboxError
from benchbox.engine.engines import engine_from
from benchbox.engine.events import CellDone, ClusterChanged, Event, RunStarted, ShardDone, TimingDone, TimingStarted
from benchbox.engine.run import execute
from benchbox.engine.workers import worker_context
from benchbox.notebook.finished import Run, shell
from benchbox.notebook.given import hand_over, save_array
from benchbox.records.options import LOCAL, Color, RunOptions, SigmaChoice
from benchbox.records.protocol import ProtocolName
from benchbox.system.files import usable_cache
from benchbox.system.program import killing_new_children
from benchbox.system.text import printable

if TYPE_CHECKING:
    from tqdm import tqdm

Given = str | type[Denoiser] | Denoiser | Callable[..., Any]


class _Progress:
    """Bars of a run: images scored, then denoisers timed. Outside a notebook, they are shown in a terminal only."""

    def __init__(self) -> None:
        # Standard error of a notebook is no terminal either. Where ipywidgets is missing, its bars are text.
        self._disable = None if shell() is None else False
        self._bar: tqdm[Any] | None = None
        self._timed = 0
        self._timing = False

    def __call__(self, event: Event) -> None:
        """Show an event."""
        from tqdm import TqdmWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TqdmWarning)  # says that ipywidgets is missing
            from tqdm.auto import tqdm

        match event:
            case RunStarted(record, done, timed):
                self._record, self._timed = record, timed
                cells = sum(not cell.skipped for cell in record.cells)
                total = cells * record.data.images * record.protocol.repeats
                self._bar = tqdm(total=total, initial=done, desc="scoring", unit=" images", disable=self._disable)
            case ClusterChanged(note=note) if note:
                tqdm.write(printable(note), file=sys.stderr)
            case ShardDone(_, images) if self._bar is not None:
                self._bar.update(images)
            case CellDone(cell, outcome) if outcome.status not in ("ok", "skipped"):
                failed = f"{outcome.status}: {self._record.cell_label(cell)}: {outcome.reason}"
                tqdm.write(printable(failed), file=sys.stderr)
            case TimingStarted(label):
                if self._bar is None or not self._timing:
                    self.close()
                    self._timing = True
                    total = len(self._record.denoisers)
                    self._bar = tqdm(total=total, initial=self._timed, unit=" denoisers", disable=self._disable)
                self._bar.set_description(printable(f"timing {label}"))
            case TimingDone() if self._bar is not None:
                self._bar.update()

    def close(self) -> None:
        """End the bar, which stays visible."""
        if self._bar is not None:
            self._bar.close()


def run(
    denoisers: Given | Sequence[Given] = (),
    *,
    noise: str | Sequence[str] = (),
    metrics: str | Sequence[str] = (),
    judges: str | Sequence[str] = (),
    data: str | Path | ArrayLike = "",
    noisy: str | Path = "",
    clean: str | Path = "",
    dataset: str = "",
    split: str = "",
    limit: int | None = None,
    skip_bad: bool = False,
    keep_duplicates: bool = False,
    white: int | None = None,
    color: Color = "auto",
    seed: int = 0,
    protocol_name: ProtocolName = "literature",
    clip: bool = False,
    quantize: bool = False,
    sigma: SigmaChoice = "auto",
    sigma_errors: float | Sequence[float] = (),
    repeats: int = 1,
    jobs: int | None = None,
    engine: object = LOCAL,
    scheduler: str = "",
    scheduler_file: str | Path = "",
    wait_s: float = 300.0,
    send_data: bool = False,
    timing_on: str = "",
    timing: bool = True,
    threads: int = 1,
    batch: int = 64,
    timing_budget_s: float = 10.0,
    timeout_s: float = 600.0,
    memory_gb: float | None = None,
    previews: int = 4,
    save_images: bool = False,
    fresh: bool = False,
    results: str | Path = "results",
    plugins: str | Path | Sequence[str | Path] = (),
    plugin_folders: str | Path | Sequence[str | Path] = (),
    progress: bool = True,
) -> Run:
    """Score and time denoisers, as ``benchbox run`` does.

    A single value may be given instead of a sequence.

    Parameters
    ----------
    denoisers : str, Denoiser, function, or sequence of these
        Denoisers with their options, such as ``'median:size=5'``; classes or instances of `Denoiser`; functions
        ``f(noisy, sigma)`` of stacks, as `Denoiser.denoise`. All installed denoisers by default.
    noise : str or sequence of str
        Noise models, such as ``'gaussian:0.1'``, the default; compose models with ``+``. Omit it for images with
        recorded noise.
    metrics : str or sequence of str
        Metrics to compute, by default those that `benchbox list metrics` marks as default.
    judges : str or sequence of str
        Classifiers whose answers denoising should keep, such as ``'onnx:path=judge.onnx,size=64'``.
    data : path or array_like, shape (N, H, W) or (N, H, W, 3)
        FER2013 (the csv or its folder of images), any folder of images, or an array: uint8, uint16, or floating-point
        values in [0, 1]. The built-in sample by default.
    noisy, clean : path
        Folders of noisy images and of their clean ones, instead of `data`.
    dataset : str
        Dataset type, if it cannot be detected from the files.
    split : str
        Split of the data set, as in `benchbox list datasets`; by default the test split, if there is one.
    limit : int, optional
        Number of images to sample from the split, using `seed`.
    skip_bad : bool
        Skip and count images that cannot be decoded.
    keep_duplicates : bool
        Also score images that a denoiser may have seen in training; its row is ranked, with a mark.
    white : int, optional
        Grey level of white in 16-bit images, such as 4095 for 12-bit data; 65535 by default.
    color : {'auto', 'grey', 'rgb'}
        Keep colour if all images have it; turn it into luminance; keep it and refuse grey images.
    seed : int
        Random seed for noise and sampling.
    protocol_name : {'literature', 'rounded-output', 'dncnn', 'matlab-imnoise', 'ntire', 'fer2013-unet'}
        Rules of noise and scoring, described in the manual under "Fairness and statistics".
    clip, quantize : bool
        Clip noisy images to [0, 1]; round them to 8 bits, which implies clipping.
    sigma : {'auto', 'given', 'estimated', 'none'}
        Noise level that denoisers get: the true one, an estimate, or none; ``'auto'`` estimates that of recorded noise
        only.
    sigma_errors : float or sequence of float
        Also run with the given noise level multiplied by these factors.
    repeats : int
        Noise draws per image.
    jobs : int, optional
        Worker processes; by default one more than there are cores, fewer in a container with little memory. On a
        cluster, the most shards at once.
    engine : str or dask.distributed.Client
        Where to score: ``'local'``, ``'dask'`` (a cluster of processes here, or the one of `scheduler`), the name of
        another installed engine, or an open client, which stays open.
    scheduler : str
        Address of the scheduler of a Dask cluster, such as ``'tcp://HOST:8786'``.
    scheduler_file : path
        File that the scheduler of a Dask cluster wrote.
    wait_s : float
        Seconds to wait for a usable worker of the cluster before the run stops, to be resumed.
    send_data : bool
        Send images to workers that do not see the data; small data are sent anyway.
    timing_on : str
        Name or address of the worker that times denoisers; empty for this machine.
    timing : bool
        Time each denoiser alone.
    threads : int
        Threads a denoiser may use while timed.
    batch : int
        Images per call when measuring throughput, at most; large or slow ones go in smaller batches.
    timing_budget_s : float
        Longest time in seconds for timing one denoiser after its cold start; it ends sooner if p50 is precise.
    timeout_s : float
        Time limit in seconds for one shard of images, or for timing one denoiser.
    memory_gb : float, optional
        Memory limit for a denoiser's process, in GiB; by default 80 % of a container's memory.
    previews : int
        Images per noise whose pictures are kept for the report.
    save_images : bool
        Keep every denoised image in the run's folder, 4 bytes per pixel.
    fresh : bool
        Compute everything anew, instead of reusing equal cells of earlier runs.
    results : path
        Folder that holds all runs.
    plugins : path or sequence of path
        Plugin files to load.
    plugin_folders : path or sequence of path
        Folders of plugin files to load.
    progress : bool
        Show bars in a notebook or a terminal.

    Returns
    -------
    Run

    Raises
    ------
    BenchboxError
        An option has a wrong value or type, a name is unknown, the data cannot be opened, or the results cannot be
        written.
    """
    several = isinstance(denoisers, Sequence) and not isinstance(denoisers, str)
    specs, own_plugins = hand_over(denoisers if several else (denoisers,), Path(results))  # type: ignore[arg-type]
    own_engine = None if isinstance(engine, str) else engine_from(engine)
    if own_engine is not None and (scheduler or scheduler_file):
        raise BenchboxError("engine= is an open client, and a scheduler is named, too", hint="give one of them")
    options = RunOptions(
        denoisers=specs,
        noise=_words("noise", noise),
        noisy=str(noisy),
        clean=str(clean),
        metrics=_words("metrics", metrics),
        judges=_words("judges", judges),
        data=str(data if isinstance(data, str | Path) else save_array(data, Path(results))),
        dataset=dataset,
        split=split,
        limit=limit,
        skip_bad=skip_bad,
        keep_duplicates=keep_duplicates,
        white=white,
        color=color,
        seed=seed,
        protocol_name=protocol_name,
        clip=clip,
        quantize=quantize,
        sigma=sigma,
        sigma_errors=tuple(sigma_errors) if isinstance(sigma_errors, Sequence) else (sigma_errors,),
        repeats=repeats,
        jobs=jobs,
        engine=str(engine) if own_engine is None else own_engine.name,
        scheduler=scheduler,
        scheduler_file=str(scheduler_file),
        wait_s=wait_s,
        send_data=send_data,
        timing_on=timing_on,
        timing=timing,
        threads=threads,
        batch=batch,
        timing_budget_s=timing_budget_s,
        timeout_s=timeout_s,
        memory_gb=memory_gb,
        previews=previews,
        save_images=save_images,
        fresh=fresh,
        results=str(results),
        plugins=(*_words("plugins", plugins), *own_plugins),
        plugin_folders=_words("plugin_folders", plugin_folders),
    )
    with usable_cache() as warning:
        if warning:
            warnings.warn(warning, stacklevel=2)
        worker_context()  # started before the block, so that it outlives it and serves the next run
        shown = _Progress()
        # A plugin that runs in this process, such as a data set, may start others.
        with killing_new_children(of_this_thread=True):
            try:
                return Run(execute(options, shown if progress else lambda event: None, "benchbox.run(...)", own_engine))
            finally:
                shown.close()


def _words(name: str, value: Any) -> tuple[str, ...]:
    """One value or several as a tuple of strings; raises `BenchboxError` for anything else."""
    values = (value,) if isinstance(value, str | Path) else value
    if not isinstance(values, Sequence) or not all(isinstance(word, str | Path) for word in values):
        raise BenchboxError(f"{name}={value!r} is not text", hint=f"give a string or a list of strings for {name}")
    return tuple(map(str, values))
