"""The Python interface: `run()` and `load_run()`, with results as pandas data frames."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from benchbox.engine.run import execute
from benchbox.engine.workers import worker_context
from benchbox.records.options import DEFAULT_METRICS, DEFAULT_NOISE, RunOptions, SigmaPolicy
from benchbox.store import IMAGE, RunStore, find_run
from benchbox.system.cache import usable_cache
from benchbox.system.program import killing_new_children

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunFrames:
    """A run as pandas data frames, each read from disk on first use.

    Attributes
    ----------
    store : RunStore
        The run's folder.
    """

    store: RunStore

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Scores per image: denoiser, noise, image id, size and labels, noise levels, one column per metric."""
        import pandas as pd

        images = pd.DataFrame(self.store.images())
        frames = []
        for cell in self.store.record.cells:
            columns = self.store.scores(cell.key)
            if columns:
                frame = images.iloc[columns[IMAGE]].reset_index(drop=True)
                frame.insert(0, "denoiser", self.store.record.denoiser_label(cell.denoiser))
                frame.insert(1, "noise", self.store.record.noise_label(cell.noise))
                frame.insert(2, "sigma_factor", cell.sigma_factor)
                frames.append(frame.assign(**{name: values for name, values in columns.items() if name != IMAGE}))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """One row per denoiser and noise: status, how the level was known, mean metrics, latency percentiles in ms."""
        import pandas as pd

        from benchbox.report import render
        from benchbox.report.build import build_leaderboard

        return pd.read_csv(
            io.StringIO(render(build_leaderboard(self.store), "csv")), keep_default_na=False, na_values=[""]
        )

    @cached_property
    def latencies(self) -> pd.DataFrame:
        """All latency samples: denoiser, batch, latency_ms."""
        import pandas as pd

        rows = [
            (self.store.record.denoiser_label(denoiser), batch, sample)
            for denoiser, timing in self.store.timings().items()
            for batch, samples in timing.samples_ms.items()
            for sample in samples
        ]
        return pd.DataFrame(rows, columns=["denoiser", "batch", "latency_ms"])


def run(
    denoisers: str | Sequence[str] = (),
    *,
    noise: str | Sequence[str] = (DEFAULT_NOISE,),
    metrics: str | Sequence[str] = DEFAULT_METRICS,
    data: str | Path = "",
    dataset: str = "",
    split: str = "",
    limit: int | None = None,
    skip_bad: bool = False,
    keep_duplicates: bool = False,
    white: int | None = None,
    seed: int = 0,
    clip: bool = False,
    quantize: bool = False,
    sigma: SigmaPolicy = "given",
    sigma_errors: float | Sequence[float] = (),
    repeats: int = 1,
    jobs: int | None = None,
    timing: bool = True,
    threads: int = 1,
    batch: int = 64,
    timing_budget_s: float = 10.0,
    timeout_s: float = 600.0,
    memory_gb: float | None = None,
    previews: int = 4,
    fresh: bool = False,
    results: str | Path = "results",
    plugins: str | Path | Sequence[str | Path] = (),
    plugin_folders: str | Path | Sequence[str | Path] = (),
) -> RunFrames:
    """Score and time denoisers, as ``benchbox run`` does.

    A single value may be given instead of a sequence.

    Parameters
    ----------
    denoisers : str or sequence of str
        Denoisers with their options, such as ``'median:size=5'``; all installed ones by default.
    noise : str or sequence of str
        Noise models, such as ``'gaussian:0.1'``; compose models with ``+``.
    metrics : str or sequence of str
        Metrics to compute; all built-in ones by default.
    data : path
        FER2013 (the csv or its folder of images) or any folder of images; the built-in sample by default.
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
    seed : int
        Random seed for noise and sampling.
    clip, quantize : bool
        Clip noisy images to [0, 1]; round them to 8 bits, which implies clipping.
    sigma : {'given', 'estimated', 'none'}
        Noise level that denoisers get: the true one, an estimate, or none.
    sigma_errors : float or sequence of float
        Also run with the given noise level multiplied by these factors.
    repeats : int
        Noise draws per image.
    jobs : int, optional
        Worker processes; by default one more than there are cores, fewer in a container with little memory.
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
    fresh : bool
        Compute everything anew, instead of reusing equal cells of earlier runs.
    results : path
        Folder that holds all runs.
    plugins : path or sequence of path
        Plugin files to load.
    plugin_folders : path or sequence of path
        Folders of plugin files to load.

    Returns
    -------
    RunFrames

    Raises
    ------
    BenchboxError
        An option has a wrong value, a name is unknown, the data cannot be opened, or the results cannot be written.
    """
    options = RunOptions(
        denoisers=_words(denoisers),
        noise=_words(noise),
        metrics=_words(metrics),
        data=str(data),
        dataset=dataset,
        split=split,
        limit=limit,
        skip_bad=skip_bad,
        keep_duplicates=keep_duplicates,
        white=white,
        seed=seed,
        clip=clip,
        quantize=quantize,
        sigma=sigma,
        sigma_errors=tuple(sigma_errors) if isinstance(sigma_errors, Sequence) else (sigma_errors,),
        repeats=repeats,
        jobs=jobs,
        timing=timing,
        threads=threads,
        batch=batch,
        timing_budget_s=timing_budget_s,
        timeout_s=timeout_s,
        memory_gb=memory_gb,
        previews=previews,
        fresh=fresh,
        results=str(results),
        plugins=_words(plugins),
        plugin_folders=_words(plugin_folders),
    )
    with usable_cache() as warning:
        if warning:
            warnings.warn(warning, stacklevel=2)
        worker_context()  # started before the block, so that it outlives it and serves the next run
        # A plugin that runs in this process, such as a data set, may start others.
        with killing_new_children(of_this_thread=True):
            return RunFrames(execute(options, lambda event: None, "benchbox.run(...)"))


def _words(value: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """One value or several as a tuple of strings."""
    return (str(value),) if isinstance(value, str | Path) else tuple(str(word) for word in value)


def load_run(name: str = "", *, results: str | Path = "results") -> RunFrames:
    """Load a run from disk.

    Parameters
    ----------
    name : str
        Run id, a unique prefix of it, or the path of its folder; empty for the newest run.
    results : path
        Folder that holds all runs.

    Returns
    -------
    RunFrames

    Raises
    ------
    BenchboxError
        There is no such run.
    """
    return RunFrames(RunStore.open(find_run(Path(results), name)))
