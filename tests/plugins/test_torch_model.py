"""`torch`: checkpoints and modules as rows; what is recognised, detected, refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchbox_adapters.fitting import picture
from benchbox_adapters.models import Onnx
from benchbox_adapters.recogniser import recognise
from benchbox_adapters.torch_model import ClassName, Torch
from benchbox_unet.ffdnet import FFDNet
from made_checkpoints import deep_dncnn_state, dncnn_state, ffdnet_state
from made_models import mean3, noisy

import benchbox as front
from benchbox import BenchboxError, Images
from benchbox.engine.plan import plan_denoisers
from benchbox.registry import load_registry
from benchbox.testing import check_denoiser

torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
Command = Callable[..., subprocess.CompletedProcess[str]]
LEVELS = np.array([0.05, 0.1, 0.2], np.float32)
NET = """
import torch
from torch import nn

open("ran", "w").close()


class Net(nn.Module):
    def __init__(self, width=1, kind="plain"):
        super().__init__()
        assert kind == "plain"
        layers = [nn.Conv2d(1, width, 3, padding=1, bias=False), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.ReLU()]
        self.model = nn.ModuleDict({"body": nn.Sequential(*layers, nn.Conv2d(width, 1, 3, padding=1, bias=False))})

    def forward(self, x, sigma=None):
        return x - self.model["body"](x)
"""


def saved(file: Path, content: Any) -> Path:
    torch.save(content, file)
    return file


def ready(denoiser: Torch, shape: tuple[int, ...] = (1, 48, 48)) -> Torch:
    denoiser.setup(shape)
    return denoiser


def colour() -> Images:
    drawn = picture(48, 52)
    clean = np.stack([np.dstack([drawn, drawn[::-1], 0.8 - 0.5 * drawn])] * 3)
    noise = np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32)
    return clean.astype(np.float32) + LEVELS[:, None, None, None] * noise


@pytest.mark.parametrize("form", ["ipol", pytest.param("kair", marks=pytest.mark.slow)])
def test_ffdnet_is_the_one_that_it_was_made_of(form: str, tmp_path: Path) -> None:
    denoiser = Torch(path=saved(tmp_path / "ffdnet.pth", {"params": ffdnet_state(form)}))
    assert (denoiser.capabilities.sigma, denoiser.capabilities.channels) == ("required", "grey")
    original = FFDNet()
    original.setup((1, 48, 48))
    expected = original.denoise(noisy(3, 47, 52), LEVELS)
    np.testing.assert_allclose(ready(denoiser).denoise(noisy(3, 47, 52), LEVELS), expected, atol=2e-6)
    assert "FFDNet, 12 layers" in denoiser.details().found["architecture"]
    assert denoiser.details().found["sigma_scale"] == "1"


@pytest.mark.slow
def test_ffdnet_in_colour_takes_grey_too(tmp_path: Path) -> None:
    denoiser = ready(Torch(path=saved(tmp_path / "color.pth", ffdnet_state("kair", 3))))
    assert denoiser.capabilities.channels == "any"
    original = FFDNet()
    original.setup((1, 48, 48))
    images = colour()
    apart = [original.denoise(np.ascontiguousarray(images[..., c]), LEVELS) for c in range(3)]
    np.testing.assert_allclose(denoiser.denoise(images.copy(), LEVELS), np.stack(apart, axis=3), atol=2e-6)
    grey = denoiser.denoise(noisy(), LEVELS)
    np.testing.assert_allclose(grey, original.denoise(noisy(), LEVELS), atol=2e-6)


@pytest.mark.parametrize("given", [{}, {"range": "1", "residual": True}], ids=["nothing given", "all given"])
def test_the_reading_that_denoises_best_is_kept_whatever_is_given(given: dict[str, Any], tmp_path: Path) -> None:
    """Seven layers may be an IRCNN, with dilations, or a DnCNN, without."""
    denoiser = ready(Torch(path=saved(tmp_path / "seven.pth", deep_dncnn_state()), **given))
    assert denoiser.details().found["architecture"].startswith("DnCNN, 7 layers")
    np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)


@pytest.mark.parametrize("style", ["model", "dncnn"])
def test_dncnn_below_wrappers_and_prefixes(style: str, tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in dncnn_state(style).items()}
    file = saved(tmp_path / "dncnn.ckpt", {"epoch": 3, "state_dict": state, "optimizer": {"state": {}}})
    denoiser = Torch(path=file)
    assert denoiser.capabilities.sigma == "unused"
    np.testing.assert_allclose(ready(denoiser).denoise(noisy(), None), mean3(noisy()), atol=1e-6)
    assert denoiser.details().parameters == 72
    assert denoiser.details().found["key"] == "state_dict"


def test_half_precision_and_safetensors(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    half = {name: tensor.to(torch.bfloat16) for name, tensor in dncnn_state().items()}
    save_file(half, tmp_path / "dncnn.safetensors")
    denoiser = ready(Torch(path=tmp_path / "dncnn.safetensors"))
    np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=2e-3)


def test_a_class_in_a_file_is_code_that_is_run_only_by_whoever_names_it(
    tmp_path: Path, benchbox: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(NET)
    saved(tmp_path / "own.pth", {f"model.{name}": tensor for name, tensor in dncnn_state("body").items()})
    spec = 'torch:path=own.pth,class=model.py:Net,args="width=2,kind=plain"'
    # A run can be repeated from any folder.
    assert load_registry().denoiser(spec).spec == (
        f'torch:path={tmp_path / "own.pth"},class={tmp_path / "model.py"}:Net,args="width=2,kind=plain"'
    )
    (record,) = plan_denoisers([spec], load_registry())
    assert record.starts_programs
    assert record.sigma_use == "optional"
    assert not (tmp_path / "ran").exists()  # planning does not import it
    denoiser = ready(load_registry().denoiser(spec).make())  # type: ignore[arg-type]
    assert denoiser.capabilities.sigma == "unused"
    np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)
    assert denoiser.files() == [tmp_path / "own.pth", tmp_path / "model.py"]


def test_modules_that_the_file_of_a_class_imports_are_part_of_the_row(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(f"import blocks\n{NET}")
    (tmp_path / "blocks.py").write_text("DEPTH = 3\n")
    saved(tmp_path / "own.pth", {f"model.{name}": tensor for name, tensor in dncnn_state("body").items()})
    spec = f'torch:path={tmp_path / "own.pth"},class={tmp_path / "model.py"}:Net,args="width=2"'
    before = plan_denoisers([spec], load_registry())[0].plugin.content
    (tmp_path / "blocks.py").write_text("DEPTH = 4\n")
    assert plan_denoisers([spec], load_registry())[0].plugin.content != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"args": "nb"}, "write names and values"),
        ({"args": "nb=(1,2"}, "write names and values"),
        ({"args": "**nb"}, "write names and values"),
        ({"overlap": -1}, "overlap must be at least 0"),
        ({"range": "white"}, "write the value of white"),
        ({"channels": 2}, "channels must be 1 or 3"),
        ({"tile": 32, "overlap": 20}, "overlap must be"),
    ],
)
def test_a_wrong_option_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Torch(**options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.py", "write class=model.py:Net"),
        ("missing.py:Net", "there is no file missing.py"),
        (":Net", "write class=model.py:Net"),
    ],
)
def test_a_wrong_class_name_is_refused_at_once(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassName(name)
    with pytest.raises(BenchboxError, match=f"torch: class={name} is not classname"):
        load_registry().denoiser(f"torch:class={name}")


def test_weights_of_another_network_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(NET)
    file = saved(tmp_path / "own.pth", {f"model.{name}": tensor for name, tensor in dncnn_state("body").items()})
    with pytest.raises(BenchboxError, match="do not fit Net") as caught:
        ready(Torch(path=file, class_=ClassName("model.py:Net"), args="width=3"))
    assert "args=" in (caught.value.hint or "")
    with pytest.raises(BenchboxError, match="cannot be made: AssertionError"):
        ready(Torch(path=file, class_=ClassName("model.py:Net"), args="width=2,kind=other"))
    strange = saved(tmp_path / "strange.pth", {"a.weight": torch.zeros(7, 5), "b.weight": torch.zeros(3, 3)})
    with pytest.raises(BenchboxError, match="the architecture is not known") as unknown:
        Torch(path=strange)
    assert "class=model.py:Net" in (unknown.value.hint or "")


def test_a_file_that_holds_code_is_refused_before_the_run(tmp_path: Path, benchbox: Command) -> None:
    import argparse

    saved(tmp_path / "args.pth", {"net": dncnn_state(), "args": argparse.Namespace(nb=17)})
    refused = benchbox("run", "torch:path=args.pth", "--limit", "2", code=2).stderr
    assert "argparse.Namespace" in refused
    assert "save_file" in refused
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_an_exported_program_is_run_as_it_is(tmp_path: Path) -> None:
    class Mean(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kernel", torch.full((1, 1, 3, 3), 1 / 9))

        def forward(self, x: Any) -> Any:
            return torch.nn.functional.conv2d(x, self.kernel, padding=1)

    sides = {axis: torch.export.Dim(f"side{axis}") for axis in (0, 2, 3)}
    program = torch.export.export(Mean(), (torch.rand(2, 1, 64, 48),), dynamic_shapes={"x": sides})
    torch.export.save(program, tmp_path / "mean.pt2")
    denoiser = ready(Torch(path=tmp_path / "mean.pt2"))
    np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)


def test_arguments_are_literals_or_words() -> None:
    arguments = Torch(args="nb=17, act_mode=R,sizes=(1, 2),text='a,b',name=x-y").arguments
    assert arguments == {"nb": 17, "act_mode": "R", "sizes": (1, 2), "text": "a,b", "name": "x-y"}
    assert Torch(args="").arguments == {}


class Told(torch.nn.Module):  # type: ignore[misc,name-defined]
    """FFDNet that is told the level from 0 to 255."""

    def __init__(self) -> None:
        super().__init__()
        state = ffdnet_state()
        self.inner = recognise(state)[0].load(state)

    def forward(self, x: Any, sigma: Any) -> Any:
        return x - self.inner(x, sigma.reshape(-1) / 255)


def test_a_module_of_a_notebook_is_found_out_and_stays_as_it_is() -> None:
    module = Told().train().requires_grad_(True)
    denoiser = front.torch(module)
    assert denoiser.capabilities.sigma == "required"
    denoiser.setup((1, 48, 48))
    found = denoiser.details()
    assert found is not None
    assert (found.found["sigma"], found.found["sigma_scale"], found.found["range"]) == ("vector", "255", "1")
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.filterwarnings("ignore")  # torch.jit.script is deprecated
def test_a_torchscript_module_has_no_signature() -> None:
    class Mean(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)

    denoiser = front.torch(torch.jit.trace(Mean(), torch.rand(1, 1, 32, 32)))
    denoiser.setup((1, 48, 48))
    np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (3, {}, "int is not a PyTorch network"),
        (Told(), {"sgma": "vector"}, "unexpected keyword argument 'sgma'"),
        (Told(), {"range": "white"}, "write the value of white"),
    ],
)
def test_what_is_no_module_or_option_is_refused(module: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchboxError, match=message):
        front.torch(module, **options)


@pytest.mark.slow
def test_a_notebook_runs_modules_beside_names(tmp_path: Path) -> None:
    run = front.run([Told(), Told(), "ffdnet"], limit=20, timing=False, results=tmp_path)
    psnr = run.frame().set_index("denoiser")["psnr"]
    assert set(psnr.index) == {"Told", "Told 2", "ffdnet"}
    assert psnr["Told"] == pytest.approx(psnr["ffdnet"], abs=1e-4)
    assert psnr["Told 2"] == psnr["Told"]


@pytest.mark.slow
def test_rows_keep_the_contract(tmp_path: Path, benchbox: Command) -> None:
    saved(tmp_path / "ffdnet.pth", ffdnet_state("kair"))
    saved(tmp_path / "dncnn.pth", dncnn_state())
    check_denoiser(f"torch:path={tmp_path / 'dncnn.pth'}")  # one that is told the level: below, in colour
    board = benchbox("run", "torch:path=ffdnet.pth", "torch:path=dncnn.pth", "identity", "--limit", "20").stdout
    assert board.index("ffdnet.pth") < board.index("dncnn.pth") < board.index("identity")


@pytest.mark.slow
def test_colour_rows_are_joint_for_colour_networks(tmp_path: Path, benchbox: Command) -> None:
    saved(tmp_path / "color.pth", ffdnet_state("kair", 3))
    check_denoiser(f"torch:path={tmp_path / 'color.pth'}", noise="gaussian:0.1")
    shown = benchbox("run", "torch:path=color.pth", "--color", "rgb", "--limit", "4", "--no-timing", "--format", "json")
    assert '"channels": "joint"' in shown.stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter, about its own age and what it traces
@pytest.mark.parametrize("form", ["vector", "channel"])
def test_an_export_that_is_told_the_level_is_the_network_itself(form: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")

    class Channel(torch.nn.Module):  # type: ignore[misc,name-defined]
        """Takes the level from 0 to 255 behind the image, and values from -1 to 1."""

        def __init__(self) -> None:
            super().__init__()
            self.told = Told()

        def forward(self, x: Any) -> Any:
            return 2 * self.told((x[:, :1] + 1) / 2, x[:, 1, 0, 0]) - 1

    vector = form == "vector"
    example = (torch.rand(1, 1, 64, 64), torch.rand(1)) if vector else (torch.rand(1, 2, 64, 64),)
    axes = {"x": {0: "n", 2: "h", 3: "w"}} | ({"sigma": {0: "n"}} if vector else {})
    torch.onnx.export(
        Told() if vector else Channel(),
        example,
        str(tmp_path / "m.onnx"),
        dynamo=False,
        input_names=["x", "sigma"][: len(example)],
        output_names=["y"],
        dynamic_axes=axes,
    )
    denoiser = Onnx(path=tmp_path / "m.onnx")
    assert denoiser.capabilities.sigma == "required"
    denoiser.setup((1, 48, 48))
    found = denoiser.details().found
    assert (found["sigma"], found["sigma_scale"], found["range"]) == (form, "255", "1" if vector else "-1..1")
    original = FFDNet()
    original.setup((1, 48, 48))
    expected = original.denoise(noisy(3, 48, 52), LEVELS)
    np.testing.assert_allclose(denoiser.denoise(noisy(3, 48, 52), LEVELS), expected, atol=1e-5)
