"""Which noises are of one kind: strengths of the same thing, that a curve may join."""

from __future__ import annotations

from benchbox.api.errors import BenchboxError
from benchbox.api.spec import parse_composition


def kind_of(noise: str) -> tuple[str, ...]:
    """Name the noise models of a specification, in their order.

    Parameters
    ----------
    noise : str
        Canonical specification, of one noise model or of a composition; what is none is a kind of its own.

    Returns
    -------
    tuple of str
        ``('gaussian', 'salt-pepper')`` for ``gaussian:0.05+salt-pepper:0.1``.
    """
    try:
        return tuple(spec.name for spec in parse_composition(noise))
    except BenchboxError:  # the record of a run may come from anybody
        return (noise,)


def differ_in_one(one: str, other: str) -> bool:
    """Whether all but one of the parts of two noises of a kind are equal, so that one of the two is the stronger."""
    pairs = zip(parse_composition(one), parse_composition(other), strict=True)
    return sum(left != right for left, right in pairs) == 1
