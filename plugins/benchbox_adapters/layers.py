"""Reads the layers of a network from the names and shapes of its state dict, and the order in which they may run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from benchbox_adapters.networks import Layer

Shapes = Mapping[str, tuple[int, ...]]
Upsampling = Literal["transposed", "bilinear corners", "bilinear", "nearest"]
Pooling = Literal["maximum", "average"]


@dataclass(frozen=True)
class Unseen:
    """What a state dict does not show of a network."""

    upsampling: Upsampling = "transposed"
    """How a U-Net doubles the size; ``bilinear corners`` keeps the corners in place."""
    pooling: Pooling = "maximum"
    """How a U-Net halves the size."""
    slope: float = 0.0
    """Of the rectifiers, below zero."""

    @property
    def label(self) -> str:
        """In words, what is not usual."""
        words = [f"{self.upsampling} upsampling"] if self.upsampling != "transposed" else []
        words += [f"{self.pooling} pooling"] if self.pooling != "maximum" else []
        words += [f"slope {self.slope:g} below zero"] if self.slope else []
        return ", ".join(words)


class Unlike(Exception):
    """Why a state dict is not of an architecture."""


@dataclass(frozen=True)
class Op:
    """A convolution of a state dict."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    bias: bool
    norm: str | None

    @property
    def parent(self) -> str:
        """Name of the room that the convolution is in."""
        return self.name.rpartition(".")[0]

    @property
    def weights(self) -> int:
        """Number of its weights, without biases."""
        return self.inputs * self.outputs * self.kernel**2

    def layer(self, dilation: int = 1) -> Layer:
        """The same as an argument of our modules."""
        from benchbox_adapters.networks import Layer

        return Layer(
            self.inputs, self.outputs, self.kernel, self.bias, self.norm is not None, self.kernel == 2, dilation
        )


def operations(shapes: Shapes) -> list[Op]:
    """The convolutions with their batch normalisation, in the order of the file."""
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        parent, _, leaf = name.rpartition(".")
        modules.setdefault(parent, {})[leaf] = shape
    convolutions, norms = [], []
    for name, leaves in modules.items():
        weight = leaves.get("weight", ())
        if leaves.keys() <= {"weight", "bias"} and len(weight) == 4 and weight[2] == weight[3]:
            convolutions.append(name)
        elif leaves.keys() - {"num_batches_tracked"} == {"weight", "bias", "running_mean", "running_var"}:
            norms.append(name)
        else:
            raise Unlike(f"'{name}' is neither a convolution nor batch normalisation")
    if not convolutions:
        raise Unlike("it has no convolution")
    pairs = _pairs(convolutions, norms)
    ops = []
    for name in convolutions:
        first, second, kernel, _ = modules[name]["weight"]
        inputs, outputs = (first, second) if kernel == 2 else (second, first)
        norm = pairs.get(name)
        if norm and modules[norm]["weight"] != (outputs,):
            raise Unlike(f"the {modules[norm]['weight'][0]} channels of '{norm}' are not the {outputs} of '{name}'")
        ops.append(Op(name, inputs, outputs, kernel, "bias" in modules[name], norm))
    return ops


def _pairs(convolutions: Sequence[str], norms: Sequence[str]) -> dict[str, str]:
    """Which normalisation belongs to which convolution, room by room: by number, in order, or by what comes before."""
    pairs: dict[str, str] = {}
    for parent in dict.fromkeys(name.rpartition(".")[0] for name in norms):
        near = sorted((name for name in norms if name.rpartition(".")[0] == parent), key=_natural)
        beside = sorted((name for name in convolutions if name.rpartition(".")[0] == parent), key=_natural)
        by_number = {_last_number(name): name for name in beside}
        if not near[0].rpartition(".")[2].isdigit() and all(_last_number(name) in by_number for name in near):
            chosen = [by_number[_last_number(name)] for name in near]
        elif len(near) == len(beside):
            chosen = beside
        else:
            before = [[name for name in beside if _natural(name) < _natural(norm)] for norm in near]
            if not all(before):
                raise Unlike(f"'{near[0]}' follows no convolution")
            chosen = [names[-1] for names in before]
        if len(set(chosen)) < len(near):
            raise Unlike(f"two normalisations follow one convolution below '{parent}'")
        pairs.update(zip(chosen, near, strict=True))
    return pairs


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _last_number(name: str) -> str:
    numbers: list[str] = re.findall(r"\d+", name)
    return numbers[-1] if numbers else ""


# What the names of rooms say about their place, which files sorted by name have lost.
_OUT = re.compile(r"(out|final|last|tail|conv_?1x1|conv_last|conv$)", re.I)
_UP = re.compile(r"(up|dec|expan|right)", re.I)
_MIDDLE = re.compile(r"(bottle|mid|body|center|bridge|conv_list|layers|hidden)", re.I)
_FIRST = re.compile(r"(in|first|head|start)", re.I)


def orders(ops: list[Op]) -> Iterator[list[Op]]:
    """Orders in which the layers may run: that of the file, by number, and by what their names say."""
    yield ops
    yield sorted(ops, key=lambda op: _natural(op.name))
    rooms = [op.parent for op in ops]
    for deepest_first in (1, -1):

        def place(op: Op, direction: int = deepest_first) -> tuple[Any, ...]:
            level = -1 if _FIRST.match(op.name) else int((re.findall(r"\d+", op.name) or ["0"])[0])
            stage = 3 if _OUT.match(op.name) else 2 if _UP.match(op.name) else 1 if _MIDDLE.match(op.name) else 0
            alone = op.kernel == 2 or rooms.count(op.parent) == 1
            return stage, level * (direction if stage == 2 else 1), not alone, _natural(op.name)

        yield sorted(ops, key=place)


def first_match(ops: list[Op], parse: Callable[[list[Op]], Any]) -> Any:
    """What the first order that can be parsed gives; raises `Unlike` with the reason of the file's own order."""
    reasons = []
    for order in orders(ops):
        try:
            return parse(order)
        except Unlike as reason:
            reasons.append(reason)
    raise reasons[0]


def names_of(ops: Sequence[Op]) -> tuple[str, ...]:
    """Names of convolutions and their normalisations, in the order in which our modules register them."""
    return tuple(name for op in ops for name in ((op.name, op.norm) if op.norm else (op.name,)))


def receptive_field(steps: Sequence[int | str]) -> int:
    """Side of the square of input pixels that an output pixel depends on.

    `steps` lead from the output to the input: the kernel of a convolution, ``halve`` for a layer that doubles the size,
    ``blend`` if it interpolates, ``double`` for one that halves it. The largest square of any pixel counts, because
    those of neighbours differ.
    """
    widths = []
    for start in range(2 ** max(1, steps.count("double"))):
        first = last = start
        for step in steps:
            if isinstance(step, int):
                first, last = first - step // 2, last + step // 2
            elif step == "double":
                first, last = 2 * first, 2 * last + 1
            else:
                first, last = (first - (step == "blend")) // 2, (last + (step == "blend")) // 2
        widths.append(last - first + 1)
    return max(widths)
