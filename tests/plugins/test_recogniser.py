"""Architectures by names and shapes: each public naming is recognised, loads strictly, and computes what it did."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from benchbox_adapters.recogniser import recognise
from made_networks import (
    Deepinv,
    DeepinvUnet,
    Drunet,
    IpolFfdnet,
    Ircnn,
    Kair,
    KairFfdnet,
    Milesial,
    Residual,
    SaoYan,
    Segmentation,
    randomised,
)

from benchbox import BenchboxError

# What makes it, architecture, channels, how the noise level enters, whether the noise is returned, multiple.
KNOWN: dict[str, tuple[Callable[[], Any], str, int, str, bool | None, int]] = {
    "kair dncnn": (lambda: Kair(depth=17), "DnCNN", 1, "none", True, 1),
    "kair dncnn with norm": (lambda: Kair(depth=17, norm=True), "DnCNN", 1, "none", True, 1),
    "kair dncnn in colour": (lambda: Kair(3, 3, depth=20), "DnCNN", 3, "none", True, 1),
    "kair ircnn": (Ircnn, "IRCNN", 1, "none", True, 1),
    "kair fdncnn": (lambda: Kair(2, 1, depth=20), "FDnCNN", 1, "channel", False, 1),
    "kair fdncnn in colour": (lambda: Kair(4, 3, depth=20), "FDnCNN", 3, "channel", False, 1),
    "saoyan": (SaoYan, "DnCNN", 1, "none", True, 1),
    "cszn": (lambda: SaoYan(3, first_bias=True), "DnCNN", 3, "none", True, 1),
    "deepinv dncnn": (Deepinv, "DnCNN", 3, "none", False, 1),
    "kair ffdnet": (KairFfdnet, "FFDNet", 1, "vector", False, 1),
    "kair ffdnet in colour": (lambda: KairFfdnet(3), "FFDNet", 3, "vector", False, 1),
    "ipol ffdnet": (IpolFfdnet, "FFDNet", 1, "vector", True, 1),
    "ipol ffdnet in colour": (lambda: IpolFfdnet(3), "FFDNet", 3, "vector", True, 1),
    "drunet": (Drunet, "DRUNet", 1, "channel", False, 8),
    "drunet in colour": (lambda: Drunet(3), "DRUNet", 3, "channel", False, 8),
    "milesial": (Milesial, "U-Net", 1, "none", None, 16),
    "milesial bilinear": (lambda: Milesial(3, 3, bilinear=True), "U-Net", 3, "none", None, 16),
    "milesial told": (lambda: Milesial(2, 1, bilinear=True), "U-Net", 1, "channel", None, 16),
    "mateuszbuda": (Segmentation, "U-Net", 3, "none", None, 16),
    "deepinv unet": (DeepinvUnet, "U-Net", 1, "none", False, 4),
    "leejunhyun": (lambda: DeepinvUnet(3, scales=5, flat=True), "U-Net", 3, "none", None, 16),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("sort", [False, True], ids=["saved order", "sorted by name"])
def test_a_public_naming_is_recognised_and_computes_the_same(name: str, sort: bool) -> None:
    """Files of safetensors are sorted by name, so the order of the layers has to come from elsewhere."""
    make, architecture, channels, sigma, residual, multiple = KNOWN[name]
    theirs = randomised(make())
    state = theirs.state_dict()
    if sort:
        state = {key: state[key] for key in sorted(state)}
    found = recognise(state)[0]
    assert (found.architecture, found.channels, found.sigma) == (architecture, channels, sigma)
    assert (found.residual, found.multiple) == (residual, multiple)
    assert found.parameters == sum(parameter.numel() for parameter in theirs.parameters())
    ours = found.load(state)
    inputs = channels + (sigma == "channel")
    arguments = [torch.rand(2, inputs, 16, 32, generator=torch.Generator().manual_seed(1))]
    if sigma == "vector":
        arguments.append(torch.tensor([0.1, 0.2]))
    with torch.inference_mode():
        expected = theirs(*arguments)
        assert expected.std() > 1e-4
        torch.testing.assert_close(ours(*arguments), expected)


@pytest.mark.parametrize("name", KNOWN)
def test_headers_without_weights_are_enough(name: str) -> None:
    with torch.device("meta"):
        state = KNOWN[name][0]().state_dict()
    found = recognise(state)[0]
    assert (found.architecture, found.channels, found.sigma, found.residual, found.multiple) == KNOWN[name][1:]


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_the_multiply_adds_are_those_that_torch_counts(name: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    found = recognise(KNOWN[name][0]().state_dict())[0]
    with torch.device("meta"):
        module = found.module(found.unseen).eval()
        arguments = [torch.zeros(1, found.channels + (found.sigma == "channel"), 64, 64)]
        if found.sigma == "vector":
            arguments.append(torch.zeros(1))
    with FlopCounterMode(display=False) as counter:
        module(*arguments)
    assert found.multiply_adds == pytest.approx(counter.get_total_flops() / 2 / 64**2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kair dncnn", "kair ircnn", "kair ffdnet", "drunet", "milesial", "milesial bilinear"])
def test_an_output_pixel_depends_on_the_receptive_field(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the gradient of one output pixel, with weights that cannot cancel and pooling that lets all through."""
    monkeypatch.setattr(torch.nn.functional, "max_pool2d", torch.nn.functional.avg_pool2d)
    found = recognise(KNOWN[name][0]().state_dict())[0]
    module = found.module(found.unseen).eval()
    for tensor in module.state_dict().values():
        if tensor.dim() == 4:
            tensor.fill_(1 / tensor[0].numel())
    field = found.receptive_field or 0
    channels = found.channels + (found.sigma == "channel")
    width = 32 * (field // 32 + 3)
    image = torch.rand(1, channels, 16, width, requires_grad=True)
    output = module(image, *([torch.zeros(1)] if found.sigma == "vector" else []))
    sides = []
    for at in range(width // 2, width // 2 + 2 * found.multiple):
        (gradient,) = torch.autograd.grad(output[0, 0, 8, at], image, retain_graph=True)
        reached = gradient.abs().sum((0, 1, 2)).nonzero()
        sides.append(int(reached.max() - reached.min()) + 1)
    assert max(sides) == field


def test_a_batch_norm_of_before_0_4_has_no_counter() -> None:
    state = {name: value for name, value in SaoYan().state_dict().items() if "num_batches" not in name}
    found = recognise(state)[0]
    assert found.architecture == "DnCNN"
    found.load(state)


def test_what_names_do_not_settle_gives_several_readings() -> None:
    flat = {name.replace("model", "layers"): value for name, value in Kair().state_dict().items()}
    assert [(one.residual, one.details.endswith("adds its input")) for one in recognise(flat)] == [
        (None, False),
        (False, True),
    ]
    grey = recognise(KairFfdnet().state_dict())
    assert [one.details.rpartition(", ")[2] for one in grey] == ["noise map last", "noise map first"]
    orders = recognise(Milesial(bilinear=True).state_dict())
    assert len({one.details for one in orders}) == 4
    assert all(len(one.choices["upsampling"]) * len(one.choices["pooling"]) == 6 for one in orders)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("m_body.0.res.2.weight"), "like DRUNet but for .*m_body.0.res.2.weight"),
        (lambda s: s.update({"m_extra.weight": torch.zeros(3)}), "like DRUNet but for .*m_extra.weight"),
        (lambda s: s.update({"m_tail.weight": torch.zeros(5, 4, 3, 3)}), "like DRUNet"),
    ],
)
def test_what_is_almost_a_drunet_says_what_is_wrong(change: Callable[[Any], Any], message: str) -> None:
    state = Drunet().state_dict()
    change(state)
    with pytest.raises(BenchboxError, match=message) as caught:
        recognise(state)
    assert "class=" in caught.value.hint


def test_a_chain_that_does_not_fit_names_the_layer() -> None:
    state = Kair().state_dict()
    state["model.4.weight"] = torch.zeros(8, 7, 3, 3)
    with pytest.raises(BenchboxError, match=re.escape("'model.4' takes 7 channels, 'model.2' returns 8")):
        recognise(state)
    with pytest.raises(BenchboxError, match="'fc' is neither a convolution nor batch normalisation"):
        recognise({"fc.weight": torch.zeros(3, 3)})
    with pytest.raises(BenchboxError, match="the architecture is not known: it has no convolution"):
        recognise({})
    with pytest.raises(BenchboxError, match="from 5 to 7 channels"):
        recognise({f"net.{i}.weight": torch.zeros(7, 5 if i == 0 else 7, 3, 3) for i in range(4)})


def test_residual_blocks_are_no_chain() -> None:
    """Their convolutions have the shapes of a chain, and would give another image without a warning."""
    with pytest.raises(BenchboxError, match=re.escape("'body.0.res.0' and 'body.2.res.2' are not of one sequence")):
        recognise(Residual().state_dict())
    blocks = {name.replace("dncnn.", "blocks.9.dncnn."): value for name, value in SaoYan().state_dict().items()}
    assert recognise(blocks)[0].architecture == "DnCNN"


def test_weights_that_do_not_fit_are_named() -> None:
    state = Kair().state_dict()
    found = recognise(state)[0]
    del state["model.2.weight"]
    with pytest.raises(BenchboxError, match="the weights do not fit DnCNN"):
        found.load(state)


def test_half_precision_weights_become_float32() -> None:
    state = {name: tensor.half() for name, tensor in Kair().state_dict().items()}
    assert {p.dtype for p in recognise(state)[0].load(state).parameters()} == {torch.float32}


@pytest.mark.parametrize("make", [KairFfdnet, IpolFfdnet])
def test_ffdnet_takes_the_noise_level_in_every_form(make: Callable[[], Any]) -> None:
    net = recognise(randomised(make()).state_dict())[0].load(make().state_dict())
    images, levels = torch.rand(2, 1, 15, 22), torch.tensor([0.1, 0.4])
    with torch.inference_mode():
        expected = net(images, levels)
        for form in (levels.view(2, 1, 1, 1), levels.view(2, 1, 1, 1).expand(2, 1, 15, 22)):
            torch.testing.assert_close(net(images, form), expected)
        assert not torch.allclose(net(images, levels.flip(0)), expected)
