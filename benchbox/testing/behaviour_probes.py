"""Probes of behaviour: the same result every time, in any stack and in a new process, and what it uses and keeps."""

from __future__ import annotations

import functools
import pickle
import sys
from typing import Any

import numpy as np

from benchbox.api.arrays import Images
from benchbox.api.threads import thread_environment
from benchbox.engine.timing import TASK_VARIABLE
from benchbox.system.program import Child, ChildDied, ChildHangs
from benchbox.testing.fresh import FreshReport, FreshTask
from benchbox.testing.subject import Bench, Failed, Probe, Skipped, gaussian, stack_like

SAME = 1e-5
"""Largest difference that a different order of rounding explains; PSNR then agrees to 0.001 dB."""


def _repeatable(bench: Bench) -> str:
    if not bench.deterministic:
        return _seeded(bench)
    again = bench.denoise(bench.noisy, bench.sigma)
    apart = difference(bench.answer, again)
    if apart > 0:
        raise Failed(f"two calls with the same stack: results differ by up to {apart:.2g}")
    bench.denoise(1 - bench.noisy, bench.sigma)
    apart = difference(bench.answer, bench.denoise(bench.noisy, bench.sigma))
    if apart > 0:
        raise Failed(
            f"the same stack before and after another one: results differ by up to {apart:.2g}",
            "store nothing of a stack for the next call",
        )
    return "identical results every time"


def _seeded(bench: Bench) -> str:
    """A denoiser declared random must draw from its own generator, seeded for each object."""
    answers = []
    for _ in range(2):
        denoiser = bench.subject.make()
        denoiser.setup((len(bench.noisy), *bench.noisy.shape[1:]))
        answers.append(denoiser.denoise(bench.noisy.copy(), bench.sigma))
    apart = difference(*answers)
    if apart > SAME:
        raise Failed(
            f"declared random but not seeded: two new objects differ by up to {apart:.2g}",
            "draw from numpy.random.default_rng(self.seed), created in setup, with an option seed: int = 0",
        )
    return "declared random and seeded: two new objects agree"


def _alone(bench: Bench) -> str:
    _needs_order(bench)
    alone = np.concatenate(
        [
            bench.denoise(
                bench.noisy[index : index + 1], None if bench.sigma is None else bench.sigma[index : index + 1]
            )
            for index in range(len(bench.noisy))
        ]
    )
    return _agree(bench.answer, alone, f"alone and in a stack of {len(alone)}")


def _order(bench: Bench) -> str:
    _needs_order(bench)
    sigma = None if bench.sigma is None else np.ascontiguousarray(bench.sigma[::-1])
    back = bench.denoise(np.ascontiguousarray(bench.noisy[::-1]), sigma)[::-1]
    return _agree(bench.answer, back, "in order and reversed")


def _sigma_array(bench: Bench) -> str:
    if bench.use == "unused":
        _ignores_sigma(bench)
        raise Skipped("the denoiser uses no noise level")
    _needs_order(bench)
    levels = np.linspace(0.02, 0.3, len(bench.clean)).astype(np.float32)
    noisy, sigma = gaussian(bench.clean, levels)
    together = bench.denoise(noisy, sigma)
    alone = np.concatenate([bench.denoise(noisy[i : i + 1], sigma[i : i + 1]) for i in range(len(noisy))])
    return _agree(together, alone, f"levels {levels[0]:.2f} to {levels[-1]:.2f} in one stack and each alone")


def _ignores_sigma(bench: Bench) -> None:
    """Find out whether a denoiser that declares no use of the noise level takes it nevertheless."""
    try:
        answers = [bench.denoise(bench.noisy, np.full(len(bench.noisy), level, np.float32)) for level in (0.02, 0.3)]
    except Exception:
        return  # it never gets a level, so what it does with one does not matter
    apart = difference(*answers)
    if apart > 0 and bench.deterministic:
        raise Failed(
            f"takes sigma but does not declare it, so it never gets one: results differ by up to {apart:.2g} with it",
            "add capabilities = Capabilities(sigma='optional') to the class, or 'required'",
        )


def _sigma_none(bench: Bench) -> str:
    if bench.use == "required":
        raise Skipped("declared sigma='required', so it always gets a noise level")
    denoised = bench.denoise(bench.noisy, None)
    if not np.isfinite(denoised).all():
        raise Failed("NaN or infinity if sigma is None")
    return f"works without a noise level, as declared (sigma='{bench.use}')"


def _needs_order(bench: Bench) -> None:
    if not bench.deterministic:
        raise Skipped("declared random, so two calls differ")


def _agree(expected: Images, denoised: Images, what: str) -> str:
    apart = difference(expected, denoised)
    if not apart <= SAME:
        image = int(np.abs(expected - denoised).reshape(len(expected), -1).max(axis=1).argmax())
        raise Failed(f"{what}: results differ by up to {apart:.2g}, most in image {image}")
    return f"{what}: " + ("identical results" if apart == 0 else f"results equal to within {apart:.1g}")


def difference(left: Images, right: Images) -> float:
    """Largest absolute difference; infinite if a pixel is finite in only one of the two."""
    if not np.array_equal(np.isfinite(left), np.isfinite(right)):
        return float("inf")
    return float(np.abs(np.nan_to_num(left) - np.nan_to_num(right)).max(initial=0))


REPEAT_PROBES = (
    Probe(
        "repeatable",
        "the same stack gives the same result, or the denoiser is declared random and seeded",
        "draw no random numbers, or declare Capabilities(deterministic=False) and seed your own generator",
        _repeatable,
    ),
    Probe(
        "alone",
        "an image gives the same result alone as in a stack",
        "compute nothing across the stack: no shared mean, range or normalisation",
        _alone,
    ),
    Probe(
        "order",
        "the order of the images in a stack does not matter",
        "carry no state from one image to the next",
        _order,
    ),
    Probe(
        "sigma_array",
        "each image is denoised with its own noise level",
        "use sigma[i] for image i, not the mean or the first value of sigma",
        _sigma_array,
    ),
    Probe(
        "sigma_none",
        "sigma may be None, unless the denoiser is declared sigma='required'",
        "use a default level if sigma is None, or declare Capabilities(sigma='required')",
        _sigma_none,
    ),
)


_DEAR_S = 1.0
_MOST_RUNNING = 1.5
_LEAK_MB = 1.0


class _Fresh:
    """The observations of a denoiser in one new process."""

    def __init__(self, bench: Bench) -> None:
        cls = bench.subject.cls
        if "<locals>" in cls.__qualname__ or cls.__module__ == "__main__":
            where = "inside a function" if "<locals>" in cls.__qualname__ else "in the main script"
            raise Failed(
                f"{cls.__qualname__} is defined {where}, where another process cannot find it",
                "define the class at the top level of a module",
            )
        task = FreshTask(
            bench.subject.provider,
            cls.__module__,
            cls.__qualname__,
            bench.subject.spec,
            tuple(sys.path),
            bench.noisy,
            bench.sigma,
        )
        # As in timing, so that a plugin that detects timing, to be quicker there, behaves here as it does there.
        environment = thread_environment(1) | {TASK_VARIABLE: "health card"}
        with Child("benchbox.testing.fresh", environment) as child:
            child.send(task)
            # Both answers together must fit the time limit of a probe.
            limit_s = 0.45 * bench.timeout_s
            self.report: FreshReport | str = _ask(child, limit_s)
            self.revived: object = None
            if isinstance(self.report, FreshReport):
                self.unsent = _send(child, bench)
                if not self.unsent:
                    self.revived = _ask(child, limit_s)
            self.output = child.output()


def _ask(child: Child, limit_s: float) -> Any:
    try:
        return child.receive(limit_s)
    except (ChildDied, ChildHangs) as error:
        return str(error)


def _send(child: Child, bench: Bench) -> str:
    """Send the denoiser as constructed; return why it cannot be pickled, or an empty string."""
    try:
        child.send(bench.subject.make())
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


@functools.lru_cache(maxsize=1)
def _fresh(bench: Bench) -> _Fresh:
    return _Fresh(bench)


def _report(bench: Bench) -> FreshReport:
    report = _fresh(bench).report
    if isinstance(report, str):
        raise Failed(report, "make it work in a new process that imports only its plugin")
    return report


def _spawn(bench: Bench) -> str:
    _report(bench)
    fresh = _fresh(bench)
    if fresh.unsent:
        raise Failed(f"cannot be pickled after construction: {fresh.unsent}")
    if isinstance(fresh.revived, str):
        raise Failed(f"after unpickling in a new process: {fresh.revived}")
    return _agreement(bench, fresh.revived, "here and unpickled in a new process")


def _timed(bench: Bench) -> str:
    report = _report(bench)
    sigma = None if bench.sigma is None else bench.sigma[:1]
    if bench.deterministic:
        apart = difference(bench.denoise(bench.noisy[:1], sigma), stack_like(report.alone, bench.noisy[:1]))
        if not apart <= SAME:
            raise Failed(f"one image: the scored and timed results differ by up to {apart:.2g}")
    return _agreement(bench, report.denoised, "scored and timed")


def _agreement(bench: Bench, result: Any, what: str) -> str:
    denoised = stack_like(result, bench.noisy)
    if not bench.deterministic:
        raise Skipped("declared random, so two processes differ")
    return _agree(bench.answer, denoised, what)


def _setup(bench: Bench) -> str:
    report = _report(bench)
    seen = (
        f"processor time: import and construct {report.make_s:.2f} s, setup {report.setup_s:.2f} s, "
        f"first call {1e3 * report.first_s:.3g} ms, later calls {1e3 * report.call_s:.3g} ms per image"
    )
    if report.make_s > _DEAR_S:
        raise Failed(seen, "move heavy imports and loading from the module and the constructor into setup")
    if report.first_s > _DEAR_S + 2 * report.call_s:
        raise Failed(seen, "warm up in setup, which is timed separately, not in the first call")
    return seen


def _memory(bench: Bench) -> str:
    report = _report(bench)
    grown = f"{report.grown_mb:.1f} MiB of it during {report.calls} calls"
    seen = f"{report.memory_mb:.0f} MiB added to the process, {grown}"
    if report.grown_mb > _LEAK_MB * report.calls:
        raise Failed(seen)
    return seen


def _threads(bench: Bench) -> str:
    report = _report(bench)
    seen = f"one thread allowed: {report.running:.3g} running during calls, {report.threads} more alive"
    if report.running > _MOST_RUNNING:
        raise Failed(seen)
    return seen


def _quiet(bench: Bench) -> str:
    _report(bench)
    output = _fresh(bench).output
    if output:
        raise Failed(f"wrote {len(output)} characters to standard output: {output.strip().splitlines()[:1]}")
    return "nothing written to standard output"


def _random(bench: Bench) -> str:
    changed = _report(bench).random_changed
    if changed:
        raise Failed("changed the global state of " + " and ".join(changed))
    return "numpy.random and random unchanged"


def _files(bench: Bench) -> str:
    unnamed = _report(bench).unnamed
    if unnamed:
        raise Failed(f"read {', '.join(unnamed[:3])}, which files() does not name")
    return "every data file that it was seen to read is named by files()"


PROCESS_PROBES = (
    Probe(
        "spawn",
        "can be pickled after construction, and works in a new process",
        "store only options in the constructor; open files, models and libraries in setup",
        _spawn,
    ),
    Probe(
        "timed",
        "timed calls compute the same result as scored calls",
        "do the same work in every call, regardless of the number of calls, threads and images",
        _timed,
    ),
    Probe("setup", "import and construction are fast, and setup does the warm-up", "see Denoiser.setup", _setup),
    Probe("memory", "repeated calls do not leak memory", "free what a call allocates; bound every cache", _memory),
    Probe("threads", "uses no more threads than allowed", "limit the library to benchbox.threads() threads", _threads),
    Probe("quiet", "writes nothing to standard output", "remove print, or use the logging module", _quiet),
    Probe(
        "random_state",
        "does not change the global random states",
        "use numpy.random.default_rng(seed) instead of numpy.random.seed and random.seed",
        _random,
    ),
    Probe(
        "files",
        "names the data files that its results depend on, such as weights",
        "return them from files(), so that a run notices when one changes",
        _files,
    ),
)
