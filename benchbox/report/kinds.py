"""Which noises are of one kind: strengths of the same thing, that a curve may join."""

from __future__ import annotations

from benchbox.api.errors import BenchboxError
from benchbox.api.spec import parse_composition


def kind_of(noise: str) -> str:
    """Name what a noise is a strength of: its noise models in their order, with all options but the first.

    Parameters
    ----------
    noise : str
        Canonical specification, of one noise model or of a composition; what is none is a kind of its own.

    Returns
    -------
    str
        ``'correlated (width=3)+salt-pepper'`` for ``'correlated:0.1,width=3+salt-pepper:0.05'``.
    """
    try:
        parts = parse_composition(noise)
    except BenchboxError:  # the record of a run may come from anybody
        return noise
    options = [", ".join(f"{key}={value}" for key, value in part.options) for part in parts]
    return "+".join(part.name + (f" ({own})" if own else "") for part, own in zip(parts, options, strict=True))


def differ_in_one(one: str, other: str) -> bool:
    """Whether all but one of the parts of two noises of a kind are equal, so that one of the two is the stronger."""
    pairs = zip(parse_composition(one), parse_composition(other), strict=True)
    return sum(left != right for left, right in pairs) == 1
