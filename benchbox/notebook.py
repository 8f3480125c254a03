"""The Python interface: `run()` and `load_run()`, with pandas data frames and pictures."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from benchbox.engine.plan import DEFAULT_METRICS, DEFAULT_NOISE, RunConfig, default_jobs
from benchbox.engine.run import execute
from benchbox.records.run import DataRequest, Protocol, SigmaPolicy
from benchbox.store import IMAGE, RunStore, find_run
from benchbox.system.cache import usable_cache

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunFrames:
    """A run as pandas data frames, read from disk when asked for.

    Attributes
    ----------
    store : RunStore
        The run's folder.
    """

    store: RunStore

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Per-image scores: denoiser, noise, the image's id, size and labels, one column a metric, noise levels."""
        import pandas as pd

        images = pd.DataFrame(self.store.images())
        frames = []
        for cell in self.store.record.cells:
            columns = self.store.scores(cell.key)
            if columns:
                frame = images.iloc[columns[IMAGE]].reset_index(drop=True)
                frame.insert(0, "denoiser", cell.denoiser)
                frame.insert(1, "noise", cell.noise)
                frame.insert(2, "sigma_factor", cell.sigma_factor)
                frames.append(frame.assign(**{name: values for name, values in columns.items() if name != IMAGE}))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """One row a denoiser and noise: status, what it knew, mean of each metric, latency percentiles in ms."""
        import pandas as pd

        from benchbox.report import render
        from benchbox.report.build import build_leaderboard

        return pd.read_csv(
            io.StringIO(render(build_leaderboard(self.store), "csv")), keep_default_na=False, na_values=[""]
        )

    @cached_property
    def latencies(self) -> pd.DataFrame:
        """Every latency sample: denoiser, batch, latency_ms."""
        import pandas as pd

        rows = [
            (denoiser, batch, sample)
            for denoiser, timing in self.store.timings().items()
            for batch, samples in timing.samples_ms.items()
            for sample in samples
        ]
        return pd.DataFrame(rows, columns=["denoiser", "batch", "latency_ms"])


def run(
    denoisers: Sequence[str] = (),
    *,
    noise: str | Sequence[str] = DEFAULT_NOISE,
    data: str | Path | None = None,
    split: str = "",
    limit: int | None = None,
    drop_duplicates: bool = False,
    seed: int = 0,
    clip: bool = False,
    quantize: bool = False,
    sigma: SigmaPolicy = "given",
    metrics: Sequence[str] = DEFAULT_METRICS,
    jobs: int | None = None,
    timing: bool = True,
    previews: int = 4,
    plugins: Sequence[str | Path] = (),
    results: str | Path = "results",
) -> RunFrames:
    """Score denoisers, as ``benchbox run`` does.

    Parameters
    ----------
    denoisers : sequence of str
        Specifications such as ``'median:size=5'``; empty for all that are installed.
    noise : str or sequence of str
        Specifications such as ``'gaussian:0.1'``.
    data : path, optional
        FER2013's csv or folder, or a folder of images; the built-in sample without it.
    split : str
        Split of FER2013; PublicTest by default.
    limit : int, optional
        Number of images to draw from the split.
    drop_duplicates : bool
        Leave out images that have a duplicate in the Training split or repeat another one.
    seed : int
        Seed of noise and draw.
    clip, quantize : bool
        Clip noisy images to [0, 1]; round them to 8 bit (after clipping).
    sigma : {'given', 'estimated', 'none'}
        What denoisers are told of the noise level.
    metrics : sequence of str
    jobs : int, optional
        Worker processes; one more than there are cores by default.
    timing : bool
        Whether each denoiser is timed alone.
    previews : int
        Images of each noise whose pictures are kept for a report.
    plugins : sequence of path
        Plugins of one file.
    results : path
        Folder of all runs.

    Returns
    -------
    RunFrames

    Raises
    ------
    BenchboxError
        What was asked for does not exist or cannot be opened.
    """
    config = RunConfig(
        denoisers=tuple(denoisers),
        noises=(noise,) if isinstance(noise, str) else tuple(noise),
        metrics=tuple(metrics),
        data=DataRequest(
            path=str(data) if data else "", split=split, limit=limit, seed=seed, drop_duplicates=drop_duplicates
        ),
        protocol=Protocol(seed, clip or quantize, quantize, sigma),
        jobs=jobs or default_jobs(),
        timing=timing,
        previews=previews,
        results=Path(results),
        plugin_files=tuple(Path(plugin) for plugin in plugins),
        command="benchbox.run(...)",
    )
    with usable_cache() as warning:
        if warning:
            warnings.warn(warning, stacklevel=2)
        return RunFrames(execute(config, lambda event: None))


def load_run(name: str = "", *, results: str | Path = "results") -> RunFrames:
    """Load a run from disk.

    Parameters
    ----------
    name : str
        Its id, a unique start of it, or the path of its folder; empty for the newest.
    results : path
        Folder of all runs.

    Returns
    -------
    RunFrames

    Raises
    ------
    BenchboxError
        There is no such run.
    """
    return RunFrames(RunStore.open(find_run(Path(results), name)))
