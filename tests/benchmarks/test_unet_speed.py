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
from benchbox.training.batches import AHEAD, Batch, Batches, Mixture
from benchbox.training.config import open_splits

pytestmark = pytest.mark.slow

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


def onnx_of(model: Any) -> bytes:
    """The Keras model as ONNX, layer by layer, channels first; the export of Keras itself needs tf2onnx."""
    import onnx
    from onnx import helper

    constants = {"scales": np.array([1, 1, 2, 2], np.float32)}
    nodes = []
    for layer in model.layers[1:]:
        taken = [one.name for one in (layer.input if isinstance(layer.input, list) else [layer.input])]
        given = layer.output.name
        kind = type(layer).__name__
        if kind == "Conv2D":
            kernel, bias = layer.get_weights()
            values = {
                f"{layer.name}.kernel": np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)),
                f"{layer.name}.bias": bias,
            }
            constants |= values
            rectified = layer.activation.__name__ == "relu"
            answer = f"{given}.linear" if rectified else given
            nodes.append(helper.make_node("Conv", [*taken, *values], [answer], auto_pad="SAME_UPPER"))
            if rectified:
                nodes.append(helper.make_node("Relu", [answer], [given]))
        elif kind == "MaxPooling2D":
            nodes.append(helper.make_node("MaxPool", taken, [given], kernel_shape=[2, 2], strides=[2, 2]))
        elif kind == "UpSampling2D":
            modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            nodes.append(helper.make_node("Resize", [*taken, "", "scales"], [given], **modes))
        else:
            assert kind == "Concatenate", kind
            nodes.append(helper.make_node("Concat", taken, [given], axis=1))
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, "h", "w"])
        for name in (model.inputs[0].name, model.outputs[0].name)
    ]
    arrays = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "unet", ends[:1], ends[1:], arrays)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(whole)
    return bytes(whole.SerializeToString())


def onnx_runtime(model: Any) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(onnx_of(model), options, ["CPUExecutionProvider"])
    name = model.inputs[0].name
    # One channel, so that first and last are the same numbers.
    return lambda x: session.run(None, {name: x.reshape(len(x), 1, *x.shape[1:3])})[0].reshape(x.shape)


WAYS: dict[str, Callable[[Any], Run]] = {
    "benchbox litert": lambda model: plugin("litert"),
    "benchbox keras": lambda model: plugin("keras"),
    "model.predict": keras_predict,
    "model(x)": keras_call,
    "tf.function, XLA": tensorflow_xla,
    "ONNX Runtime": onnx_runtime,
    "OpenVINO": openvino,
}


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("way", WAYS)
def test_denoising(benchmark: BenchmarkFixture, model: Any, way: str, batch: int) -> None:
    run = WAYS[way](model)
    x = np.random.default_rng(0).random((batch, 48, 48, 1), dtype=np.float32)
    np.testing.assert_allclose(np.reshape(run(x), x.shape), keras_call(model)(x), atol=1e-5)
    benchmark.group = f"48x48, batch {batch}, {threads()} threads"
    benchmark.pedantic(run, (x,), rounds=20, warmup_rounds=3)
    if benchmark.stats:  # absent where benchmarks are switched off
        benchmark.extra_info["ms_a_face"] = round(1000 * benchmark.stats.stats.median / batch, 3)


def test_cold_start(measured: bool) -> None:
    """From a bare interpreter with numpy and benchbox to the first denoised face."""
    code = (
        "import time, numpy, benchbox; start = time.perf_counter(); from benchbox_unet.unet import UNet; d = UNet();"
        "d.setup((1, 48, 48)); print(time.perf_counter() - start)"
    )
    took = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3 if measured else 1)
    ]
    print(f"cold start {min(took):.3f} s")


def test_the_training_loop_keeps_up_with_its_step(measured: bool) -> None:
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
    for epoch in range(REPEATS if measured else 1):  # in turns, so that what else the machine does meets both alike
        made = batches.epoch(epoch)
        for _ in range(AHEAD + 1):  # with as many ahead as in the middle of an epoch, each step waits for one more
            next(made)
        loop = speed(itertools.islice(made, STEPS))
        made.close()
        shares.append(loop / speed(ready))
    print(f"{loop:.0f} images/s; of the bare step: {', '.join(f'{share:.1%}' for share in shares)}")
