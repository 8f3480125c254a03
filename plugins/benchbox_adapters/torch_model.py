"""`torch`: a PyTorch checkpoint, or a module of a notebook, as a denoiser."""

from __future__ import annotations

import ast
import copy
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from benchbox import BenchboxError, Details, Inspection, threads
from benchbox_adapters import exported, inspection
from benchbox_adapters.checkpoints import State, describe, loadable, read_state, safe_torch
from benchbox_adapters.conventions import Convention, Input, Opened, Tensor
from benchbox_adapters.fitting import fit
from benchbox_adapters.graphs import Cost
from benchbox_adapters.models import Network, given_of
from benchbox_adapters.readings import Reading, best_of, first_input, inputs_of, inputs_of_module, settled, unwrapped
from benchbox_adapters.recogniser import Recognised, recognise
from benchbox_adapters.runtimes import kind_of

_SIDE = 256


class ClassName(str):
    """``package.module:Name`` or ``file.py:Name``; the path of a file is made absolute, as other paths are."""

    def __new__(cls, text: str) -> Self:
        """Raise `ValueError` if the text names no class, or a file that is not there."""
        source, _, name = text.rpartition(":")
        if not source or not name.isidentifier():
            raise ValueError("write class=model.py:Net or class=package.module:Net")
        file = Path(source).expanduser().absolute() if source.endswith(".py") else None
        if file is not None and not file.is_file():
            raise ValueError(f"there is no file {source}")
        return super().__new__(cls, text if file is None else f"{file}:{name}")

    @property
    def source(self) -> str:
        """Module or file."""
        return self.rpartition(":")[0]

    @property
    def name(self) -> str:
        """Class in it."""
        return self.rpartition(":")[2]


class Torch(Network):
    """A PyTorch checkpoint, loaded without running code from it; its architecture is recognised, or its class is named.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file, or a ``.pth``, ``.pt``, ``.ckpt``, ``.bin`` or ``.pt2`` file with a state dict.
    class_ : ClassName, optional
        Class of the network, as ``package.module:Name`` or ``file.py:Name``, if its architecture is not recognised. Its
        code is run.
    args : str
        Arguments of the class, such as ``nb=17,act_mode=R``.
    key : str, optional
        Which state dict to take from a file with several, such as ``params_ema``.
    device : {'cpu', 'cuda'}
        Where it runs.

    The other parameters are those of every model file.
    """

    name = "torch"
    summary = "a trained PyTorch model in a .pth, .pt, .ckpt or .safetensors file"
    reference = "https://pytorch.org"
    example = "model.pth"
    packages = ("torch",)
    install = 'pip install "benchbox-denoise[torch]"'
    layout = "nchw"

    def __init__(
        self,
        *,
        path: Path | None = None,
        class_: ClassName | None = None,
        args: str = "",
        key: str | None = None,
        sigma: Literal["none", "channel", "input", "vector", "scalar"] | None = None,
        sigma_scale: float | None = None,
        range: str | None = None,
        residual: bool | None = None,
        channels: int | None = None,
        bgr: bool | None = None,
        multiple: int | None = None,
        pad: Literal["reflect", "replicate"] = "reflect",
        tile: int | None = None,
        overlap: int = 32,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        self.class_ = class_
        self.arguments = _arguments(args)
        self.key = key
        self.device = device
        self.module: Any = None
        self.label = ""
        self._architecture = ""
        if class_ is not None:
            self.starts_programs = True
        super().__init__(
            path, given_of(sigma, sigma_scale, range, residual, channels, bgr, multiple, pad, tile, overlap)
        )

    @classmethod
    def adopt(cls, model: object, **options: Any) -> Self | None:
        """Make a denoiser of an `nn.Module`; the options are those of the class, without `path`."""
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(model, torch.nn.Module):
            return None
        denoiser = cls(**options)
        model = unwrapped(model)
        denoiser.module = copy.deepcopy(model)  # it is set to evaluate, and moved; the caller's stays as it is
        denoiser.label = type(model).__name__
        denoiser.capabilities = denoiser._capabilities_from(*inputs_of_module(model))
        return denoiser

    def declared(self, path: Path) -> tuple[tuple[Input, ...], int]:
        """Inputs of the likeliest reading of the file, or of a class that is not imported yet."""
        found = loadable(path, self.key)
        if self.class_ is not None or found.format == exported.FORMAT:
            return (first_input(found.tensors), Input(None)), 1
        return inputs_of(recognise(found.tensors)[0]), 0

    @classmethod
    def inspect(cls, path: Path) -> Inspection | None:
        """Read what a model file is, without running it; None if it is for another denoiser."""
        return inspection.of_checkpoint(path) if kind_of(path) == cls.name else None

    def files(self) -> list[Path]:
        """The model file, and the file of its class."""
        source = Path(self.class_.source) if self.class_ else None
        return [*super().files(), *([source] if source is not None and source.suffix == ".py" else [])]

    def open(self) -> tuple[Opened, Convention]:
        """Load the module and find out how to call it; of several readings, the one that denoises best."""
        torch = safe_torch()
        torch.set_num_threads(threads())
        # Where an operation has a deterministic form, it is used; filling new memory would only cost time.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        if self.device == "cuda":
            if not torch.cuda.is_available():
                raise BenchboxError("torch finds no CUDA device here", hint="omit device=cuda")
            # The same arithmetic as on the processor, and the same result each time.
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            torch.cuda.reset_peak_memory_stats()
        best = best_of(self._readings(), self._where, self.given)
        reading, convention = self._settled(*best)
        self._architecture, self._ready = reading.label, reading.module
        return reading.opened, convention

    def _settled(self, reading: Reading, convention: Convention) -> tuple[Reading, Convention]:
        """The reading with what its weights do not show, and the convention that fits it."""
        if reading.recognised is None:
            return reading, convention
        recognised = settled(reading.recognised, lambda trial: self._recognised(trial).opened, convention)
        if recognised == reading.recognised:
            return reading, convention
        reading = replace(self._recognised(recognised), given=reading.given)
        return reading, fit(reading.opened, self._where, reading.given, user=self.given)

    @property
    def _where(self) -> str:
        return str(self.path) if self.path is not None else self.label

    def _readings(self) -> Iterator[Reading]:
        """What the file may be."""
        if self.path is None and self.module is None:
            raise BenchboxError("torch needs a model file", hint=f"give one, for example torch:path={self.example}")
        if self.module is not None:
            yield self._of_class(self.module, self.label)
            return
        assert self.path is not None
        if describe(self.path, self.key).format == exported.FORMAT and self.class_ is None:
            # The program says how its weights are used, which their names and shapes only suggest.
            yield self._of_class(exported.open_program(self.path), "exported program")
            return
        if self.class_ is not None:
            module = self._instance()
            _load(module, self._state, self.path)
            yield self._of_class(module, self.class_.name)
            return
        found = recognise(self._state.tensors)
        yield from map(self._recognised, found)
        for reading in map(self._recognised, found):
            # Others may have used the authors' names for a network that returns something else.
            yield replace(reading, given=replace(reading.given, residual=self.given.residual), doubtful=True)

    @cached_property
    def _state(self) -> State:
        assert self.path is not None
        return read_state(self.path, self.key)

    @property
    def _key_found(self) -> str:
        """Where the weights are, if there was a choice and it was not given; prefixes of names end with a dot."""
        if "_state" not in vars(self) or self.key is not None:
            return ""
        return ".".join(wrapper for wrapper in self._state.wrappers if not wrapper.endswith("."))

    def _recognised(self, recognised: Recognised) -> Reading:
        """A module of our own with the weights of the file."""
        module = recognised.load(self._state.tensors)
        given = replace(
            self.given,
            sigma=self.given.sigma or recognised.sigma,
            residual=recognised.residual if self.given.residual is None else self.given.residual,
            channels=self.given.channels or recognised.channels,
            multiple=self.given.multiple or recognised.multiple,
            square=recognised.square,
        )
        opened = Opened(inputs_of(recognised), self.layout, self._runner(module))
        return Reading(recognised.label, module, opened, given, recognised)

    def _of_class(self, module: Any, name: str) -> Reading:
        """A module of which only its signature is known."""
        inputs, needed = inputs_of_module(module)
        return Reading(name, module, Opened(inputs, self.layout, self._runner(module), needed), self.given)

    def _instance(self) -> Any:
        assert self.class_ is not None
        try:
            return getattr(_import(self.class_.source), self.class_.name)(**self.arguments)
        except Exception as error:
            lines = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
            raise BenchboxError(
                f"class={self.class_} cannot be made: {reason}",
                hint='see that the class is there, and give its arguments as in args="nb=17,act_mode=R"',
            ) from error

    def _runner(self, module: Any) -> Any:
        """The function that runs a module on arrays."""
        torch = safe_torch()
        module = module.float().to(self.device)
        if not isinstance(module, torch.fx.GraphModule):  # an exported program is in its mode for good
            module = module.eval()
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        # oneDNN and cuDNN convolve faster where the channels of a pixel are next to each other.
        last = any(parameter.ndim == 4 for parameter in module.parameters())
        if last:
            module = module.to(memory_format=torch.channels_last)

        def run(image: Tensor, level: Tensor | None = None) -> Tensor:
            with torch.inference_mode():
                x = torch.from_numpy(image).to(self.device)
                if last:
                    x = x.contiguous(memory_format=torch.channels_last)
                if level is None:
                    y = module(x)
                else:
                    y = module(x, float(level) if level.ndim == 0 else torch.from_numpy(level).to(self.device))
                if not isinstance(y, torch.Tensor):
                    raise BenchboxError(
                        f"the network returns {type(y).__name__}, not a tensor",
                        hint="wrap it in a module that returns the image only",
                    )
                # Copying to the processor waits for the device.
                return np.asarray(y.to("cpu", torch.float32).contiguous().numpy())

        return run

    def details(self) -> Details:
        """Architecture, cost and device, and what was detected."""
        device, peak_mb = "", 0.0
        if self.device == "cuda":
            # Before the cost is counted, which takes memory of its own.
            cuda = safe_torch().cuda
            device, peak_mb = str(cuda.get_device_name()), cuda.max_memory_allocated() / 2**20
        details = super().details()
        found = {"architecture": self._architecture, "key": self._key_found} | details.found
        found = {name: value for name, value in found.items() if value}
        return replace(details, found=found, device=device, device_peak_mb=peak_mb)

    @cached_property
    def _cost(self) -> Cost:
        """Count while it denoises a small image, because a state dict does not show how its layers are used."""
        from torch.utils.flop_counter import FlopCounterMode

        written = 0

        def count(module: Any, given: Any, result: Any) -> None:
            nonlocal written
            written += result.numel()

        leaves = [module for module in self._ready.modules() if any(True for _ in module.parameters(recurse=False))]
        layers = [leaf for leaf in leaves if getattr(getattr(leaf, "weight", None), "ndim", 0) > 1]
        hooks = [layer.register_forward_hook(count) for layer in layers]
        try:
            with FlopCounterMode(display=False) as counter:
                images = np.full((1, _SIDE, _SIDE, self.convention.form.channels or 1), 0.5, np.float32)
                self.convention.answer(self._opened, images, np.full(1, 0.1, np.float32))
        finally:
            for hook in hooks:
                hook.remove()
        parameters = sum(parameter.numel() for parameter in self._ready.parameters())
        # It counts a multiply-add as two operations.
        return Cost(parameters, counter.get_total_flops() / 2 / _SIDE**2, written / _SIDE**2)


def _load(module: Any, state: State, path: Path) -> None:
    # A prefix that looks like a wrapper may be an attribute of this class.
    prefix = "".join(wrapper for wrapper in state.wrappers if wrapper.endswith("."))
    names = module.state_dict().keys()
    whole = {prefix + name: tensor for name, tensor in state.tensors.items()}
    try:
        module.load_state_dict(whole if whole.keys() <= names else state.tensors, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise BenchboxError(
            f"the weights of {path} do not fit {type(module).__name__}: {' '.join(lines[1:3] or lines)}",
            hint='give the arguments that it was trained with, as args="nb=17,act_mode=R"',
        ) from error


def _import(source: str) -> Any:
    if not source.endswith(".py"):
        return importlib.import_module(source)
    name = f"benchbox_class_{hashlib.blake2b(source.encode(), digest_size=8).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # The file may import its neighbours.
    sys.path.insert(0, str(Path(source).parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(Path(source).parent))
    return module


def _arguments(text: str) -> dict[str, Any]:
    """Read ``nb=17,act_mode=R``: Python literals, or words; raises `ValueError` for anything else."""
    source = f"call({text})"
    try:
        call: ast.expr | None = ast.parse(source, mode="eval").body
    except SyntaxError:
        call = None
    if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
        raise ValueError(f"args={text}: write names and values, such as nb=17,act_mode=R")
    return {str(keyword.arg): _literal(keyword.value, source) for keyword in call.keywords}


def _literal(value: ast.expr, source: str) -> Any:
    """What a value is; one that is no Python literal is a word."""
    try:
        return ast.literal_eval(value)
    except ValueError:
        return ast.get_source_segment(source, value)
