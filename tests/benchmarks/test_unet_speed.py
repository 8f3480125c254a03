"""Speed of the U-Net, every way to run it side by side, and of the training loop beside its bare step."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from benchbox_unet.unet import UNet
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from benchbox import threads
from benchbox.registry import load_registry
from benchbox.training import TrainConfig
from benchbox.training.batches import AHEAD, Batch, Batches
from benchbox.training.data import open_splits
from benchbox.training.mixture import Mixture

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

Run = Callable[[NDArray[np.float32]], Any]
STEPS, REPEATS = 10, 5


@pytest.fixture(scope="module")
def model() -> Any:
    return UNet().model()


def plugin(runtime: str) -> Run:
    denoiser = UNet(runtime=runtime)  # type: ignore[arg-type]
    return lambda x: denoiser.denoise(x[..., 0], None)


def keras_predict(model: Any) -> Run:
    return lambda x: model.predict(x, verbose=0, batch_size=len(x))


def keras_call(model: Any) -> Run:
    return lambda x: model(x, training=False).numpy()


def tensorflow_xla(model: Any) -> Run:
    import tensorflow as tf

    forward = tf.function(lambda x: model(x, training=False), jit_compile=True)
    return lambda x: forward(x).numpy()


def openvino(model: Any) -> Run:
    core = pytest.importorskip("openvino").Core()
    options = {"INFERENCE_NUM_THREADS": threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(UNet.path("gaussian").with_suffix(".tflite")), "CPU", options)
    return lambda x: compiled(x)[0]


WAYS: dict[str, Callable[[Any], Run]] = {
    "benchbox litert": lambda model: plugin("litert"),
    "benchbox keras": lambda model: plugin("keras"),
    "model.predict": keras_predict,
    "model(x)": keras_call,
    "tf.function, XLA": tensorflow_xla,
    "OpenVINO": openvino,
}


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("way", WAYS)
def test_denoising(benchmark: BenchmarkFixture, model: Any, way: str, batch: int) -> None:
    run = WAYS[way](model)
    x = np.random.default_rng(0).random((batch, 48, 48, 1), dtype=np.float32)
    benchmark.group = f"48x48, batch {batch}, {threads()} threads"
    benchmark.pedantic(run, (x,), rounds=20, warmup_rounds=3)
    if benchmark.stats:  # absent where benchmarks are switched off
        benchmark.extra_info["ms_a_face"] = round(1000 * benchmark.stats.stats.median / batch, 3)


def test_cold_start() -> None:
    """From a bare interpreter with numpy and benchbox to the first denoised face."""
    code = (
        "import time, numpy, benchbox; start = time.perf_counter(); from benchbox_unet.unet import UNet; d = UNet();"
        "d.setup((1, 48, 48)); print(time.perf_counter() - start)"
    )
    took = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    print(f"cold start {min(took):.3f} s")


def test_the_training_loop_keeps_up_with_its_step() -> None:
    """Batches are made in a thread beside the step: images a second of the loop, over the same steps without it."""
    registry = load_registry()
    recipe = replace(UNet.recipes["default"], batch_size=8)  # the built-in sample holds 128 images to fit
    images, _ = open_splits(TrainConfig("unet"), registry, least=recipe.batch_size)
    batches = Batches(images, Mixture(recipe.noise, registry), recipe, 0)
    trainer = UNet().trainer("default", seed=0)

    def speed(batches: Iterable[Batch]) -> float:
        start = time.perf_counter()
        for batch in batches:
            trainer.step(batch.noisy, batch.clean, batch.sigma, 1e-4)
        return STEPS * recipe.batch_size / (time.perf_counter() - start)

    ready = [batches.make(np.arange(recipe.batch_size), epoch) for epoch in range(STEPS)]
    speed(ready)
    shares = []
    for epoch in range(REPEATS):  # in turns, so that what else the machine does meets both alike
        made = batches.epoch(epoch)
        for _ in range(AHEAD + 1):  # with as many ahead as in the middle of an epoch, each step waits for one more
            next(made)
        loop = speed(itertools.islice(made, STEPS))
        made.close()
        shares.append(loop / speed(ready))
    print(f"{loop:.0f} images/s; of the bare step: {', '.join(f'{share:.1%}' for share in shares)}")
