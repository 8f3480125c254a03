"""`BenchboxError`: an error message with a hint that says what to do next."""

from __future__ import annotations

import signal
from collections.abc import Iterable


class BenchboxError(Exception):
    """An error that tells the user what to do; the command line shows it without a traceback.

    Parameters
    ----------
    message : str
        What is wrong and where, in one line.
    hint : str, optional
        What to do next, as an instruction.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Message and hint, which is what a traceback shows."""
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the hint when the error crosses a process boundary."""
        return _rebuild, (type(self), self.message, self.hint)


class ContractError(BenchboxError):
    """A plugin broke the contract: wrong shape, dtype, count or a value that is not finite."""


def _rebuild(cls: type[BenchboxError], message: str, hint: str) -> BenchboxError:
    return cls(message, hint=hint)


def describe_exit(code: int) -> str:
    """Describe how a process ended, as the end of a sentence that starts with its name.

    Parameters
    ----------
    code : int
        Its ``returncode`` from `subprocess.Popen`: negative for a signal.

    Returns
    -------
    str
        ``was ended by SIGSEGV``, ``was ended by signal 40`` (not every signal has a name), or ``ended with exit code
        3``.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Hint for an unknown word: the closest known names, or all of them if none is close."""
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(f"'{name}'" for name in close) + "?"
    return "known: " + ", ".join(names) if names else "none are known"
