"""Recognises the architecture of a denoising network by the names and shapes of its state dict.

Names settle what shapes cannot show: whether the network returns the noise, the epsilon of batch normalisation, the
order of concatenated channels. Where they do not, there are several readings, the likeliest first.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchbox import BenchboxError
from benchbox_adapters.layers import Op, Shapes, Unlike, Unseen, first_match, names_of, operations, receptive_field
from benchbox_adapters.unets import Tree, read_tree

Told = Literal["none", "channel", "vector"]
# Slopes of PyTorch's LeakyReLU and of denoisers that use it.
_SLOPES = (0.0, 0.01, 0.1, 0.2)


@dataclass(frozen=True)
class Recognised:
    """One reading of a state dict."""

    architecture: str
    """Name from the literature, such as DnCNN."""
    details: str
    """Depth, width, and what is assumed to be so in this reading."""
    module: Callable[[Unseen], Any]
    """Makes the `nn.Module`, untrained."""
    channels: int
    """Of the image: 1 or 3."""
    sigma: Told
    """How the noise level enters: not at all, as the last input channel, or as a second argument of shape (N,)."""
    residual: bool | None
    """Whether the module returns the noise, in its authors' code; None where implementations differ."""
    multiple: int
    """Height and width have to be multiples of this."""
    parameters: int
    multiply_adds: float | None
    """Of one pixel of the image."""
    receptive_field: int | None
    """Side of the square of input pixels that an output pixel depends on; None if it is the whole image or unknown."""
    minimum: int = 1
    """Smallest height and width."""
    square: bool = False
    """Whether height and width have to be equal."""
    modules: tuple[str, ...] = field(default=(), repr=False)
    """Names of the layers in the state dict, in the order of the module's; none if they are its own names."""
    unseen: Unseen = field(default_factory=Unseen)
    """What is assumed because a state dict does not show it, and has to be settled."""
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, repr=False)
    """Values that the fields of `unseen` may have."""

    @property
    def label(self) -> str:
        """Architecture and details in words."""
        return ", ".join(filter(None, (self.architecture, self.details, self.unseen.label)))

    def load(self, tensors: Mapping[str, Any]) -> Any:
        """Make the module and load its weights; raises `BenchboxError` that says which do not fit."""
        import torch

        with torch.device("meta"):  # no time is spent on random weights that are replaced at once
            module = self.module(self.unseen)
        try:
            module.load_state_dict(self._renamed(module, tensors), strict=True, assign=True)
        except (RuntimeError, KeyError) as error:
            lines = [line.strip() for line in str(error).splitlines()]
            raise BenchboxError(
                f"the weights do not fit {self.architecture} ({self.details}): {' '.join(lines[1:3] or lines)}",
                hint="name the class of the model, as in class=model.py:Net",
            ) from error
        return module.float().requires_grad_(False).eval()

    def _renamed(self, module: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
        if not self.modules:
            return dict(tensors)
        own = [name for name, inner in module.named_modules() if not any(inner.children()) and inner.state_dict()]
        names = dict(zip(self.modules, own, strict=True))
        split = ((name.rpartition("."), tensor) for name, tensor in tensors.items())
        return {f"{names[parent]}.{leaf}": tensor for (parent, _, leaf), tensor in split}


def recognise(tensors: Mapping[str, Any]) -> tuple[Recognised, ...]:
    """Every reading of a state dict, the likeliest first.

    Parameters
    ----------
    tensors : mapping of str to anything with a ``shape``
        Tensors, tensors on the device ``meta``, or the headers of `checkpoints.describe`. Our own architectures are
        recognised without torch.

    Raises
    ------
    BenchboxError
        If nothing matches; the message says what is missing of what comes closest.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    reasons = []
    families: tuple[Callable[[Shapes], tuple[Recognised, ...]], ...] = (_drunet, _chain, _unet)
    for family in families:
        try:
            return family(shapes)
        except Unlike as reason:
            reasons.append(str(reason))
    try:
        return _by_spandrel(shapes)
    except Unlike as reason:
        reasons.append(str(reason))
    raise BenchboxError(
        "the architecture is not known: " + "; ".join(dict.fromkeys(filter(None, reasons))),
        hint="name the class of the model, as in class=model.py:Net",
    )


def _parameters(shapes: Shapes) -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if name.endswith((".weight", ".bias")))


def _chain(shapes: Shapes) -> tuple[Recognised, ...]:
    """DnCNN, FDnCNN, IRCNN and FFDNet: convolutions one after another."""
    ops: list[Op] = first_match(operations(shapes), _chained)
    inputs, outputs, depth = ops[0].inputs, ops[-1].outputs, len(ops)
    normed, biased = sum(op.norm is not None for op in ops), sum(op.bias for op in ops)
    style = next((style for style in ("intermediate_dncnn", "conv_list", "dncnn", "model") if _has(ops, style)), "")
    # cszn's DnCNN has a bias in its first layer and an epsilon of 1e-4, as in MatConvNet; SaoYan's has PyTorch's.
    eps = 1e-4 if style == "model" or (style == "dncnn" and ops[0].bias) else 1e-5
    weights = float(sum(op.weights for op in ops))
    details = (
        f"{depth} layers of {ops[0].outputs} channels, {'batch normalisation' if normed else 'no normalisation'}, "
        f"{'biases' if biased == depth else 'no biases' if not biased else 'some biases'}"
    )

    def plain(dilations: Sequence[int], adds_input: bool) -> Callable[[Unseen], Any]:
        def make(unseen: Unseen) -> Any:
            from benchbox_adapters.networks import DnCNN

            return DnCNN([op.layer(by) for op, by in zip(ops, dilations, strict=True)], eps, adds_input, unseen)

        return make

    def phased(map_first: bool) -> Callable[[Unseen], Any]:
        def make(unseen: Unseen) -> Any:
            from benchbox_adapters.networks import FFDNet

            return FFDNet([op.layer() for op in ops], eps, map_first, unseen)

        return make

    once = [1] * depth
    field_of = 1 + sum(op.kernel - 1 for op in ops)
    base = Recognised(
        architecture="DnCNN",
        details=details,
        module=plain(once, False),
        channels=outputs,
        sigma="none",
        residual=True if style in ("dncnn", "model") else None,
        multiple=1,
        parameters=_parameters(shapes),
        multiply_adds=weights,
        receptive_field=field_of,
        modules=names_of(ops),
        choices={"slope": _SLOPES},
    )
    if outputs in (1, 3) and inputs == outputs:
        adding = replace(base, details=f"{details}, adds its input", module=plain(once, True), residual=False)
        if style == "conv_list":  # deepinv's
            return adding, base
        readings = (base,) if style in ("dncnn", "model") else (base, adding)
        if depth == 7 and not normed and all(op.kernel == 3 for op in ops):
            dilations = [1, 2, 3, 4, 3, 2, 1]
            dilated = replace(base, architecture="IRCNN", module=plain(dilations, False), receptive_field=33)
            readings = (dilated, *readings) if style == "model" else (*readings, dilated)
        return readings
    if outputs in (1, 3) and inputs == outputs + 1:
        return (replace(base, architecture="FDnCNN", sigma="channel", residual=False),)
    if outputs in (4, 12) and inputs in (outputs + 1, outputs + outputs // 4):
        ported = replace(
            base,
            architecture="FFDNet",
            details=f"{details}, noise map first",
            module=phased(True),
            channels=outputs // 4,
            sigma="vector",
            residual=True,
            multiply_adds=weights / 4,
            receptive_field=2 * field_of,
        )
        authors = replace(ported, module=phased(False), residual=False, details=f"{details}, noise map last")
        if style == "intermediate_dncnn":
            return (ported,)
        return (ported,) if inputs > outputs + 1 else (authors, ported) if outputs == 4 else (authors,)
    raise Unlike(f"a chain of convolutions from {inputs} to {outputs} channels is no denoiser of grey or colour images")


def _has(ops: Sequence[Op], style: str) -> bool:
    return any(style in op.name.split(".") for op in ops)


def _chained(ops: list[Op]) -> list[Op]:
    if len(ops) < 3:
        raise Unlike(f"{len(ops)} convolutions are no denoising network")
    for before, after in itertools.pairwise(ops):
        if after.inputs != before.outputs:
            raise Unlike(
                f"not a chain of convolutions: '{after.name}' takes {after.inputs} channels, '{before.name}' returns "
                f"{before.outputs}"
            )
    if not _is_sequence([op.name for op in ops[1:-1]]):  # residual blocks have the same shapes, but other names
        raise Unlike(f"not a chain of convolutions: '{ops[1].name}' and '{ops[-2].name}' are not of one sequence")
    for op in ops:
        if op.kernel % 2 == 0:
            raise Unlike(f"not a chain of convolutions: '{op.name}' has a {op.kernel}x{op.kernel} kernel")
    return ops


def _is_sequence(names: Sequence[str]) -> bool:
    """Whether names differ in one number only."""
    numbers = [re.findall(r"\d+", name) for name in names]
    alike = len({re.sub(r"\d+", "#", name) for name in names}) == 1
    return alike and sum(len(set(column)) > 1 for column in zip(*numbers, strict=True)) <= 1


def _drunet(shapes: Shapes) -> tuple[Recognised, ...]:
    """DRUNet with the names of KAIR, DPIR and deepinv."""
    if "m_head.weight" not in shapes or "m_body.0.res.0.weight" not in shapes:
        raise Unlike("")
    levels = len({name.partition(".")[0] for name in shapes if re.match(r"m_down\d+\.", name)})
    blocks = len({name.split(".")[1] for name in shapes if name.startswith("m_body.")})
    first = shapes["m_head.weight"]
    deeper = [shapes.get(f"m_down{level}.{blocks}.weight", (0,))[0] for level in range(1, levels + 1)]
    widths = [first[0], *deeper]
    inputs, outputs = first[1], shapes.get("m_tail.weight", (0,))[0]
    expected: dict[str, tuple[int, ...]] = {"m_head": (widths[0], inputs, 3, 3)}
    work = 0.0  # multiply-adds of a pixel

    def room(name: str, first: int, width: int) -> None:
        for at in range(first, first + blocks):
            expected.update({f"{name}.{at}.res.{i}": (width, width, 3, 3) for i in (0, 2)})

    for level, (wide, deep) in enumerate(itertools.pairwise(widths), 1):
        room(f"m_down{level}", 0, wide)
        expected[f"m_down{level}.{blocks}"] = (deep, wide, 2, 2)
    room("m_body", 0, widths[-1])
    for level, (wide, deep) in reversed(list(enumerate(itertools.pairwise(widths), 1))):
        expected[f"m_up{level}.0"] = (deep, wide, 2, 2)
        room(f"m_up{level}", 1, wide)
    expected["m_tail"] = (outputs, widths[0], 3, 3)
    bias = "m_head.bias" in shapes
    problems = [f"{name}.weight" for name, shape in expected.items() if shapes.get(f"{name}.weight") != shape]
    problems += [name for name in shapes if name.rpartition(".")[0] not in expected]
    problems += [f"{name}.bias" for name in expected if (f"{name}.bias" in shapes) != bias]
    if problems or outputs not in (1, 3) or inputs - outputs not in (0, 1):
        what = f"missing, of another shape, or too much: {', '.join(problems[:3])}" if problems else "its channels"
        raise Unlike(f"like DRUNet but for {what}")
    for name, shape in expected.items():
        depth = int(name[6]) - 1 if name.startswith("m_down") else int(name[4]) - 1 if name.startswith("m_up") else 0
        depth = levels if name.startswith("m_body") else depth
        work += math.prod(shape) / 4 ** (depth + (shape[2] == 2))
    residuals: list[int | str] = [3] * (2 * blocks)
    up: list[int | str] = [*residuals, "halve"]
    down: list[int | str] = ["double", *residuals]
    steps = [3, *(up * levels), *residuals, *(down * levels), 3]

    def make(_unseen: Unseen) -> Any:
        from benchbox_adapters.networks import DRUNet

        return DRUNet(inputs, outputs, widths, blocks, bias)

    return (
        Recognised(
            architecture="DRUNet",
            details=f"{levels + 1} levels of {blocks} blocks, {widths[0]} to {widths[-1]} channels",
            module=make,
            channels=outputs,
            sigma="channel" if inputs > outputs else "none",
            residual=False,
            multiple=2**levels,
            parameters=_parameters(shapes),
            multiply_adds=work,
            receptive_field=receptive_field(steps),
            modules=tuple(expected),
        ),
    )


def _unet(shapes: Shapes) -> tuple[Recognised, ...]:
    """Plain U-Nets, whatever their layers are called."""
    tree: Tree = first_match(operations(shapes), read_tree)
    inputs, outputs = tree.down[0][0].inputs, tree.last.outputs
    if outputs not in (1, 3) or inputs - outputs not in (0, 1):
        raise Unlike(f"a U-Net from {inputs} to {outputs} channels is no denoiser of grey or colour images")
    learned = tree.up[0][0]
    kinds: tuple[Any, ...] = ("nearest", "bilinear", "bilinear corners")
    if learned is None:
        kinds = ("bilinear corners", "bilinear", "nearest")
    elif learned.kernel == 2:
        kinds = ("transposed",)
    names = [op.name for op in tree.ops]
    up_first = any(re.match(r"(encoder|enc)\d", name) for name in names)  # mateuszbuda's
    deepinv = "Conv1.0" in names and "Conv_1x1" in names

    def maker(skip_first: bool, adds_input: bool) -> Callable[[Unseen], Any]:
        def make(unseen: Unseen) -> Any:
            from benchbox_adapters.networks import Step, UNet

            down = [[op.layer() for op in block] for block in tree.down]
            up = [Step(op.layer() if op else None, tuple(one.layer() for one in block)) for op, block in tree.up]
            return UNet(down, up, tree.last.layer(), unseen, skip_first, adds_input)

        return make

    readings = []
    for adds_input in (deepinv, not deepinv):
        for skip_first in (not up_first, up_first):
            assumed = ["transposed convolutions"] if kinds == ("transposed",) else []
            assumed += [f"{'skips' if skip_first else 'upsampled channels'} first"]
            assumed += ["adds its input"] if adds_input else []
            width = tree.down[0][0].outputs
            reading = Recognised(
                architecture="U-Net",
                details=f"{len(tree.down)} levels from {width} channels, {', '.join(assumed)}",
                module=maker(skip_first, adds_input),
                channels=outputs,
                sigma="channel" if inputs > outputs else "none",
                residual=False if adds_input else None,
                multiple=2 ** len(tree.up),
                parameters=_parameters(shapes),
                multiply_adds=tree.multiply_adds,
                receptive_field=tree.receptive_field(kinds[0]),
                modules=names_of(tree.ops),
                unseen=Unseen(upsampling=kinds[0]),
                choices={"upsampling": kinds, "pooling": ("maximum", "average"), "slope": _SLOPES},
            )
            readings.append(reading)
    return tuple(readings)


def _by_spandrel(shapes: Shapes) -> tuple[Recognised, ...]:
    """What spandrel knows: its module and size rules, but not its call, which would choose a noise level."""
    if importlib.util.find_spec("spandrel") is None:
        raise Unlike('more are known with: pip install "benchbox-denoise[spandrel]"')
    try:
        import torch
        from spandrel import MAIN_REGISTRY, UnsupportedModelError
    except Exception as error:  # a torchvision of another build of torch raises RuntimeError
        raise Unlike(f"spandrel cannot be imported ({str(error).splitlines()[0]})") from None

    def load(tensors: Mapping[str, Any]) -> Any:
        return MAIN_REGISTRY.load(dict(tensors))

    empty = {name: torch.zeros(shape) for name, shape in shapes.items()}
    try:
        found = load(empty)
    except UnsupportedModelError:
        raise Unlike("nor does spandrel know it") from None
    except Exception as error:  # a state dict that looks like an architecture, but is not quite it
        raise Unlike(f"spandrel cannot load it ({str(error).strip().splitlines()[0]})") from None
    name = str(found.architecture.name)
    if found.purpose != "Restoration" or found.scale != 1 or found.output_channels not in (1, 3):
        raise Unlike(f"spandrel knows it as {name} for {found.purpose}, which is no denoiser")
    rules = found.size_requirements
    first = next((shape for shape in shapes.values() if len(shape) == 4), (0, 0))
    return (
        _Spandrel(
            architecture=name,
            details=", ".join(found.tags) or "as spandrel builds it",
            module=lambda _unseen: load(empty).model,
            channels=found.output_channels,
            sigma="channel" if first[1] == found.output_channels + 1 else "none",
            residual=False,
            multiple=max(1, rules.multiple_of),
            parameters=_parameters(shapes),
            multiply_adds=None,
            receptive_field=None,
            minimum=max(1, rules.minimum),
            square=rules.square,
        ),
    )


class _Spandrel(Recognised):
    """A reading by spandrel, which loads what it makes."""

    def load(self, tensors: Mapping[str, Any]) -> Any:
        from spandrel import MAIN_REGISTRY

        return MAIN_REGISTRY.load(dict(tensors)).model.float().eval()
