"""Reads plain U-Nets from the convolutions of a state dict: levels down, levels up, and what doubles the size."""

from __future__ import annotations

from dataclasses import dataclass

from benchbox_adapters.layers import Op, Unlike, Upsampling, receptive_field


@dataclass(frozen=True)
class Tree:
    """A U-Net read from a state dict."""

    down: list[list[Op]]
    up: list[tuple[Op | None, list[Op]]]
    last: Op

    @property
    def ops(self) -> list[Op]:
        """All convolutions in the order in which they run."""
        up = [op for learned, block in self.up for op in ([learned] if learned else []) + block]
        return [*(op for block in self.down for op in block), *up, self.last]

    @property
    def multiply_adds(self) -> float:
        """Of one pixel of the image."""
        work = float(self.last.weights)
        for level, block in enumerate(self.down):
            work += sum(op.weights for op in block) / 4**level
        for level, (learned, block) in zip(reversed(range(len(self.up))), self.up, strict=True):
            work += sum(op.weights for op in block) / 4**level
            work += learned.weights / 4 ** (level + (learned.kernel == 2)) if learned else 0
        return work

    def receptive_field(self, kind: Upsampling) -> int:
        """Side of the square of input pixels that an output pixel depends on."""
        steps: list[int | str] = [self.last.kernel]
        for learned, block in reversed(self.up):
            steps += [op.kernel for op in block]
            steps += [learned.kernel] if learned and learned.kernel != 2 else []
            steps.append("blend" if kind.startswith("bilinear") else "halve")
        for block in reversed(self.down):
            steps += [*(op.kernel for op in block), "double"]
        return receptive_field(steps[:-1])


def read_tree(ops: list[Op]) -> Tree:
    """Read the levels of a U-Net from its convolutions; raises `Unlike` if they are none."""
    *blocks, end = _blocks(ops)
    if len(end) != 1 or end[0].kernel % 2 == 0:
        raise Unlike("not a U-Net: it does not end with a single convolution")
    down: list[list[Op]] = []
    while blocks and not _doubles(blocks[0]) and (not down or blocks[0][0].inputs == down[-1][-1].outputs):
        down.append(blocks.pop(0))
    skips = [block[-1].outputs for block in down]
    current = skips.pop() if skips else 0
    up: list[tuple[Op | None, list[Op]]] = []
    while blocks and skips:
        learned = blocks.pop(0)[0] if _doubles(blocks[0]) else None
        if learned is not None:
            if learned.inputs != current or (learned.kernel == 2 and learned.norm):
                raise Unlike(f"not a plain U-Net: '{learned.name}'")
            current = learned.outputs
        block = blocks.pop(0) if blocks else []
        skip = skips.pop()
        if not block or block[0].inputs != current + skip:
            name = block[0].name if block else "the last block"
            raise Unlike(f"not a plain U-Net: '{name}' does not take {current} channels and a skip of {skip}")
        current = block[-1].outputs
        up.append((learned, block))
    if blocks or skips or not up or end[0].inputs != current:
        raise Unlike("not a plain U-Net: its levels down and up do not match")
    if len({None if learned is None else learned.kernel for learned, _ in up}) > 1:
        raise Unlike("not a plain U-Net: its levels are doubled in different ways")
    return Tree(down, up, end[0])


def _doubles(block: list[Op]) -> bool:
    """Whether a block is the convolution of a doubling: transposed, or alone and with fewer channels than before."""
    return len(block) == 1 and (block[0].kernel == 2 or block[0].outputs < block[0].inputs)


def _blocks(ops: list[Op]) -> list[list[Op]]:
    """Neighbours of the same room; rooms with many convolutions are parted where the channels change."""
    blocks: list[list[Op]] = []
    for op in ops:
        before = blocks[-1][-1] if blocks else None
        flat = sum(other.parent == op.parent for other in ops) > 3
        joined = before is not None and before.parent == op.parent and before.outputs == op.inputs
        if joined and 2 not in (op.kernel, before.kernel if before else 0) and not (flat and op.inputs != op.outputs):
            blocks[-1].append(op)
        else:
            blocks.append([op])
    return blocks
