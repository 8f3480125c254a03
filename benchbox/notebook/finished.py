"""`Run`, what a notebook shows of a finished run: its leaderboard, tables, pictures and charts; `load_run()`."""

from __future__ import annotations

import dataclasses
import io
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbox.api.errors import BenchboxError
from benchbox.store import IMAGE, RunStore, find_run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchbox.report.board import Leaderboard

_TIDY = {
    "latency_p50_ms": "latency_ms",
    "throughput": "images_per_s",
    "noise_level": "sigma",
}


def load_run(name: str = "", *, results: str | Path = "results") -> Run:
    """Load a run from disk.

    Parameters
    ----------
    name : str
        Run id, a unique prefix of it, or the path of its folder; empty for the newest run.
    results : path
        Folder that holds all runs.

    Returns
    -------
    Run

    Raises
    ------
    BenchboxError
        There is no such run.
    """
    return Run(RunStore.open(find_run(Path(results), name)))


class Run:
    """A finished run; a notebook shows it as its leaderboard.

    Attributes
    ----------
    store : RunStore
        The run's folder.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store

    def __repr__(self) -> str:
        """Return the id, and the first row of each noise."""
        best = ", ".join(f"{block.rows[0].denoiser} leads on {block.noise}" for block in self._board.blocks)
        return f"<Run {self.store.record.run_id}: {best}>"

    def _repr_html_(self) -> str:
        """Return the leaderboard as HTML, which a notebook shows."""
        from benchbox.report.export import render_notebook

        return render_notebook(self._board)

    def frame(self, *, all: bool = False) -> pd.DataFrame:
        """Return the leaderboard, one row per denoiser and noise.

        Parameters
        ----------
        all : bool
            Every column of ``benchbox leaderboard --format csv``, instead of ten.

        Returns
        -------
        pandas.DataFrame
            By default: noise, rank, denoiser, the metric that ranks with the ends of its 95 % interval, the next
            metric, latency_ms (p50), images_per_s, and sigma (how the noise level was known). Without timing, the
            columns of speed are missing.
        """
        import pandas as pd

        from benchbox.report import render

        frame = pd.read_csv(io.StringIO(render(self._board, "csv")), keep_default_na=False, na_values=[""])
        if all:
            return frame
        main = self._board.sort
        other = next((metric.spec for metric in self._board.metrics if metric.spec != main), None)
        names = ["noise", "rank", "denoiser", main, f"{main}_low", f"{main}_high", other, *_TIDY]
        return frame[[name for name in names if name in frame]].rename(columns=_TIDY)

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

    def report(self) -> Path:
        """Write the HTML report into the run's folder.

        Returns
        -------
        pathlib.Path
            The page.
        """
        from benchbox.report.html.page import write_html

        return write_html(self.store, self._board)

    def show(self, image: str = "", *, noise: str = "") -> Figure:
        """Draw denoised images above their errors.

        Parameters
        ----------
        image : str
            Id of an image or a unique part of it; empty for all images with stored pictures.
        noise : str
            Noise to show; empty for the first.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        BenchboxError
            The run has no such noise or image, or no pictures.
        """
        from benchbox.report.show import draw_grid, read_shown

        _let_figures_show()
        return draw_grid(read_shown(self.store, self._board, noise, image))

    def plot(self, *, noise: str = "") -> Axes:
        """Draw quality against latency, with the Pareto front.

        Parameters
        ----------
        noise : str
            Noise to show; empty for the first.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        BenchboxError
            The run has no such noise, or fewer than two denoisers were timed.
        """
        from benchbox.report.figures.axes import charts_style, looks_of
        from benchbox.report.figures.charts import front_chart
        from benchbox.report.show import find_block

        block = find_block(self._board, noise)
        with charts_style():
            chart = front_chart(self._board, block, looks_of([row.denoiser for row in block.rows]))
        if chart is None:
            raise BenchboxError(
                "a chart of quality against latency needs two denoisers with latencies", hint="run without timing=False"
            )
        if _let_figures_show():
            from IPython.display import display

            display(chart.figure)  # type: ignore[no-untyped-call]
        axes: Axes = chart.figure.axes[0]
        return axes

    def compare(self, other: Run) -> pd.DataFrame:
        """Compare with a later run, image by image.

        Parameters
        ----------
        other : Run

        Returns
        -------
        pandas.DataFrame
            One row per noise, denoiser and metric: before, after, difference (after minus before) with the ends of its
            simultaneous 95 % interval, adjusted p, significant, images.

        Raises
        ------
        BenchboxError
            The runs differ in data or protocol, or share no row.
        """
        import pandas as pd

        from benchbox.report.compare import Change, compare_runs

        rows = [
            {"noise": row.noise, "denoiser": row.denoiser, "metric": metric, **dataclasses.asdict(change)}
            for row in compare_runs(self.store, other.store).rows
            for metric, change in row.changes.items()
        ]
        columns = ["noise", "denoiser", "metric", *(field.name for field in dataclasses.fields(Change))]
        return pd.DataFrame(rows, columns=columns).drop(columns="lost").rename(columns={"apart": "significant"})

    @cached_property
    def _board(self) -> Leaderboard:
        from benchbox.report.build import build_leaderboard

        return build_leaderboard(self.store)


def shell() -> Any:
    """The shell of a notebook or of IPython, None elsewhere."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    return get_ipython()


def _let_figures_show() -> Any:
    """In a notebook, let a figure that a cell returns appear; returns the shell, None elsewhere."""
    found = shell()
    if found is not None:
        from IPython.core.pylabtools import select_figure_formats

        select_figure_formats(found, {"png"})  # type: ignore[no-untyped-call]
    return found
