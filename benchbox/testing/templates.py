"""What a new plugin package contains, by kind: the module and its tests."""

from __future__ import annotations

from dataclasses import dataclass

_FILTER = '''\
"""A denoiser for benchbox: replace the body of `denoise` with yours."""

from __future__ import annotations

import numpy as np
from benchbox import Capabilities, Denoiser, Images, Sigma, hookimpl


class $title(Denoiser):
    """Local mean, mixed with the original pixel where the variance exceeds that of the noise.

    Parameters
    ----------
    size : int
        Side of the window in pixels; odd.
    """

    name = "$word"
    summary = "local mean that preserves detail"
    reference = "Lee 1980, doi:10.1109/TPAMI.1980.4766994"
    capabilities = Capabilities(sigma="optional")

    def __init__(self, *, size: int = 5) -> None:
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size must be odd and at least 1, got {size}")
        self.size = size

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack of shape (N, H, W); assume sigma = 0.1 if the noise level is unknown."""
        levels = np.full(len(noisy), 0.1, np.float32) if sigma is None else sigma
        noise = np.square(levels)[:, np.newaxis, np.newaxis]
        mean = self.local_mean(noisy)
        variance = self.local_mean(np.square(noisy - mean))
        kept = np.maximum(variance - noise, 0) / np.maximum(variance, np.float32(1e-12))
        result: Images = mean + kept * (noisy - mean)
        return result

    def local_mean(self, images: Images) -> Images:
        """Mean of the window around each pixel; edge pixels are repeated beyond the border."""
        half = self.size // 2
        padded = np.pad(images, ((0, 0), (half, half), (half, half)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, (self.size, self.size), axis=(1, 2)
        )
        result: Images = windows.mean(axis=(3, 4))
        return result


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Offer the denoiser."""
    return [$title]
'''

_FILTER_TESTS = '''\
"""Tests of the contract, quality and speed of the denoiser."""

from __future__ import annotations

import pytest
from benchbox.testing import BenchmarkDenoiser, NoisyFaces, check_denoiser

from $word import $title


def test_it_fulfils_the_contract() -> None:
    check_denoiser($title)


def test_it_is_found_by_its_name() -> None:
    check_denoiser("$word:size=3", probes=["shape", "gain"])


def test_a_flat_image_comes_back_flat(noisy_faces: NoisyFaces) -> None:
    clean, _, sigma = noisy_faces("gaussian:0.1", 4)
    flat = 0 * clean + clean.dtype.type(0.5)
    assert abs($title().denoise(flat, sigma) - flat).max() < 1e-6


@pytest.mark.parametrize("batch", [1, 16])
def test_speed(benchmark_denoiser: BenchmarkDenoiser, batch: int) -> None:
    benchmark_denoiser("$word", batch)
'''

_TORCH = '''\
"""A PyTorch network as a denoiser: replace `build` with your network, and `weights` with your state dict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchbox import Denoiser, Images, Sigma, hookimpl, threads


def build() -> Any:
    """Seven layers that predict the noise; untrained, it predicts none."""
    from torch import nn

    layers: list[Any] = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()]
    for _ in range(5):
        layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    last = nn.Conv2d(32, 1, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


class $title(Denoiser):
    """A small residual network (DnCNN).

    Parameters
    ----------
    weights : Path, optional
        State dict written by ``torch.save(network.state_dict(), path)``.
    """

    name = "$word"
    summary = "a small residual network"
    reference = "Zhang et al. 2017, doi:10.1109/TIP.2017.2662206"

    def __init__(self, *, weights: Path | None = None) -> None:
        self.weights = weights

    def files(self) -> Sequence[Path]:
        """Name the weights, so that a run notices when they change."""
        return [self.weights] if self.weights else []

    def setup(self, shape: tuple[int, ...]) -> None:
        """Load the network and run it once."""
        import torch

        torch.set_num_threads(threads())
        self._network = build().eval()
        if self.weights:
            state = torch.load(self.weights, map_location="cpu", weights_only=True)
            self._network.load_state_dict(state)
        self.denoise(np.zeros(shape, np.float32)[:1], None)

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Subtract the predicted noise from a stack of shape (N, H, W)."""
        import torch

        with torch.inference_mode():
            noise = self._network(torch.from_numpy(noisy)[:, None])[:, 0].numpy()
        result: Images = noisy - noise
        return result


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Offer the denoiser."""
    return [$title]
'''

_TORCH_TESTS = '''\
"""Tests of the contract, and of loading weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchbox.testing import check_denoiser

from $word import $title, build

torch = pytest.importorskip("torch")


def test_it_fulfils_the_contract() -> None:
    check_denoiser($title)


def test_weights_are_loaded(tmp_path: Path) -> None:
    network = build()
    torch.nn.init.constant_(network[-1].bias, 0.25)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    denoiser = $title(weights=tmp_path / "weights.pth")
    denoiser.setup((1, 16, 16))
    denoised = denoiser.denoise(np.ones((1, 16, 16), np.float32), None)
    assert np.allclose(denoised, 0.75)
'''

_ONNX = '''\
"""An ONNX model as a denoiser, for models that `onnx:path=model.onnx` of benchbox cannot run by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchbox import BenchboxError, Denoiser, Images, Sigma, hookimpl, threads


class $title(Denoiser):
    """A model that maps images of shape (N, 1, H, W) to images.

    Parameters
    ----------
    path : Path
        The ``.onnx`` file.
    """

    name = "$word"
    summary = "an ONNX model"
    default_rows = ()

    def __init__(self, *, path: Path | None = None) -> None:
        self.path = path

    def files(self) -> Sequence[Path]:
        """Name the model, so that a run notices when it changes."""
        return [self.path] if self.path else []

    def setup(self, shape: tuple[int, ...]) -> None:
        """Open the model and run it once."""
        import onnxruntime

        if self.path is None:
            hint = "give one: $word:path=model.onnx"
            raise BenchboxError("$word needs a model", hint=hint)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads()
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(str(self.path), options, providers=providers)
        self._input = self._session.get_inputs()[0].name
        self.denoise(np.zeros(shape, np.float32)[:1], None)

    def denoise(self, noisy: Images, sigma: Sigma | None) -> Images:
        """Denoise a stack of shape (N, H, W)."""
        (denoised,) = self._session.run(None, {self._input: noisy[:, None]})
        return np.ascontiguousarray(denoised[:, 0], dtype=np.float32)


@hookimpl
def benchbox_denoisers() -> list[type[Denoiser]]:
    """Offer the denoiser."""
    return [$title]
'''

_ONNX_TESTS = '''\
"""Tests with a model that blurs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from $word import $title

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def test_it_runs_the_model(tmp_path: Path) -> None:
    image = onnx.helper.make_tensor_value_info
    kernel = onnx.numpy_helper.from_array(np.full((1, 1, 3, 3), 1 / 9, np.float32), "kernel")
    node = onnx.helper.make_node("Conv", ["x", "kernel"], ["y"], pads=[1, 1, 1, 1])
    sides = ["n", 1, "h", "w"]
    values = [image(name, onnx.TensorProto.FLOAT, sides) for name in ("x", "y")]
    graph = onnx.helper.make_graph([node], "blur", values[:1], values[1:], [kernel])
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, tmp_path / "blur.onnx")
    denoiser = $title(path=tmp_path / "blur.onnx")
    denoiser.setup((2, 9, 8))
    noisy = np.random.default_rng(0).random((2, 9, 8), dtype=np.float32)
    denoised = denoiser.denoise(noisy, None)
    assert denoised[1, 4, 4] == pytest.approx(noisy[1, 3:6, 3:6].mean(), abs=1e-6)
    assert denoiser.files() == [tmp_path / "blur.onnx"]
'''

_METRIC = '''\
"""A metric for benchbox: replace the body of `__call__` with yours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchbox import Images, Metric, Scores, hookimpl


@dataclass(frozen=True)
class $title(Metric):
    """Quantile of the absolute errors of an image."""

    name = "$word"
    summary = "quantile of the absolute errors"
    higher_is_better = False
    quantile: float = 0.99

    def __post_init__(self) -> None:
        if not 0 <= self.quantile <= 1:
            raise ValueError(f"quantile must be from 0 to 1, got {self.quantile}")

    def __call__(self, clean: Images, denoised: Images) -> Scores:
        """Score a stack: one value for each image."""
        errors = np.abs(clean - denoised).reshape(len(clean), -1)
        scores: Scores = np.quantile(errors, self.quantile, axis=1).astype(np.float64)
        return scores


@hookimpl
def benchbox_metrics() -> list[type[Metric]]:
    """Offer the metric."""
    return [$title]
'''

_METRIC_TESTS = '''\
"""Tests of the values, and that images are scored one by one."""

from __future__ import annotations

import numpy as np
import pytest

from $word import $title


def test_a_known_error_is_measured() -> None:
    clean = np.full((1, 10, 10), 0.5, np.float32)
    denoised = clean.copy()
    denoised[0, 0, :5] += np.float32(0.25)
    assert $title(quantile=1.0)(clean, denoised).tolist() == [0.25]
    assert $title(quantile=0.9)(clean, denoised).tolist() == [0.0]


def test_an_image_has_the_same_score_alone() -> None:
    rng = np.random.default_rng(0)
    clean, denoised = rng.random((2, 4, 12, 12), dtype=np.float32)
    together = $title()(clean, denoised)
    assert together.shape == (4,)
    assert together[2] == pytest.approx($title()(clean[2:3], denoised[2:3])[0])
'''

_NOISE = '''\
"""A noise model for benchbox: replace the body of `apply` with yours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchbox import Image, NoiseModel, hookimpl


@dataclass(frozen=True)
class $title(NoiseModel):
    """Independent noise of a Laplace distribution."""

    name = "$dashed"
    summary = "Laplacian noise, with heavier tails than Gaussian noise"
    level_title = "sigma"
    formula = "y = x + n, n of a Laplace distribution"
    example = "$dashed:0.1"
    white = True
    sigma: float = 0.1

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"sigma must be greater than 0, got {self.sigma}")

    def apply(self, clean: Image, rng: np.random.Generator) -> Image:
        """Draw one noisy image; `rng` is the only source of randomness."""
        noise = rng.laplace(0, self.sigma / np.sqrt(2), clean.shape)
        result: Image = clean + noise.astype(np.float32)
        return result

    def sigma_of(self, clean: Image) -> float:
        """Standard deviation of the noise, on the scale from 0 to 1."""
        return self.sigma


@hookimpl
def benchbox_noise_models() -> list[type[NoiseModel]]:
    """Offer the noise model."""
    return [$title]
'''

_NOISE_TESTS = '''\
"""Tests that the noise is as strong as it says, and depends on its generator alone."""

from __future__ import annotations

import numpy as np
import pytest

from $word import $title


def test_the_level_is_true() -> None:
    clean = np.full((200, 200), 0.5, np.float32)
    model = $title(sigma=0.2)
    noise = model.apply(clean, np.random.default_rng(0)) - clean
    assert noise.std() == pytest.approx(model.sigma_of(clean), rel=0.02)
    assert abs(noise.mean()) < 0.005


def test_the_same_generator_draws_the_same_noise() -> None:
    clean = np.zeros((8, 8), np.float32)
    first, again = ($title().apply(clean, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, again)


def test_a_level_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="sigma must be greater than 0"):
        $title(sigma=0.0)
'''


@dataclass(frozen=True)
class PluginTemplate:
    """A kind of plugin.

    Attributes
    ----------
    kind : str
        What it is, in words.
    module, tests : str
        Templates of the two files.
    commands : tuple of str
        Templates of commands to try it with.
    dependencies : tuple of str
        Packages that it needs besides benchbox and NumPy.
    more : str
        A paragraph for the README.
    """

    kind: str
    module: str
    tests: str
    commands: tuple[str, ...]
    dependencies: tuple[str, ...] = ()
    more: str = ""


_CHECKED = "\n`benchbox plugins check` shows, for each rule of the contract, what it observed and what to fix.\n"
_DENOISER = "benchbox run $word identity --noise gaussian:0.1", "benchbox plugins check $word"
TEMPLATES = {
    "filter": PluginTemplate("denoiser", _FILTER, _FILTER_TESTS, _DENOISER, more=_CHECKED),
    "torch": PluginTemplate("PyTorch denoiser", _TORCH, _TORCH_TESTS, _DENOISER, ("torch",), _CHECKED),
    "onnx": PluginTemplate(
        "denoiser that runs an ONNX model",
        _ONNX,
        _ONNX_TESTS,
        ("benchbox run $word:path=model.onnx identity", "benchbox plugins check $word:path=model.onnx"),
        ("onnxruntime",),
        _CHECKED,
    ),
    "metric": PluginTemplate(
        "metric", _METRIC, _METRIC_TESTS, ("benchbox run median identity --metric psnr --metric $word",)
    ),
    "noise": PluginTemplate("noise model", _NOISE, _NOISE_TESTS, ("benchbox run median identity --noise $dashed:0.1",)),
}
"""The kinds of `benchbox plugins new --template`."""
