"""Model files and programs as denoisers: what is found out, what is refused, and that they keep the contract."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import benchbox_adapters
import numpy as np
import pytest
from benchbox_adapters.command import Command as Program
from benchbox_adapters.fitting import picture
from benchbox_adapters.models import Keras, LiteRT, ModelFile, Onnx

from benchbox import BenchboxError, Images
from benchbox.engine.plan import plan_denoisers
from benchbox.registry import load_registry
from benchbox.testing import check_denoiser

Command = Callable[..., subprocess.CompletedProcess[str]]
EXAMPLE = Path(benchbox_adapters.__file__).parent / "examples" / "mean3.c"
BOX = np.full((1, 1, 3, 3), 1 / 9, np.float32)
DELTA = np.zeros((1, 1, 3, 3), np.float32)
DELTA[0, 0, 1, 1] = 1


def noisy(count: int = 3, height: int = 48, width: int = 48) -> Images:
    clean = np.stack([picture(height, width)] * count)
    return clean + np.float32(0.1) * np.random.default_rng(1).standard_normal(clean.shape, dtype=np.float32)


def mean3(images: Images) -> Images:
    """Mean of 3x3 pixels with zeros around the image, as a convolution with 'same' padding has it."""
    height, width = images.shape[1:]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    total = sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3))
    return np.asarray(total / np.float32(9), np.float32)


def ready(denoiser: ModelFile) -> ModelFile:
    denoiser.setup((1, 48, 48))
    return denoiser


def save_onnx(
    file: Path,
    *,
    kernel: Any = BOX,
    shape: Sequence[Any] = ("n", 1, "h", "w"),
    floor: float | None = None,
    dtype: str = "FLOAT",
    inputs: int = 1,
) -> Path:
    """A convolution with one 3x3 kernel; with `floor`, nothing comes out below it."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, getattr(onnx.TensorProto, dtype)
    names = [f"x{index}" for index in range(inputs)]
    if dtype == "FLOAT":
        nodes = [helper.make_node("Conv", ["x0", "kernel"], ["conv"], pads=[1, 1, 1, 1])]
        nodes.append(helper.make_node("Max", ["conv", "floor"], ["y"]))
    else:
        nodes = [helper.make_node("Identity", ["x0"], ["y"])]
    constants = {"kernel": kernel, "floor": np.float32(-1e9 if floor is None else floor)}
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
        [helper.make_tensor_value_info("y", kind, None)],
        [onnx.numpy_helper.from_array(np.asarray(value, np.float32), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(model.SerializeToString())
    return file


@functools.cache
def keras() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    return keras


def save_keras(
    file: Path, *, kernel: Any = BOX, shape: Sequence[int | None] = (None, None, 1), halves: int = 0
) -> Path:
    """A convolution; with `halves`, the image is shrunk that often and grown again, and added to itself, half each."""
    layers = keras().layers
    x = layers.Input(shape)
    y = layers.Conv2D(shape[-1], 3, padding="same", use_bias=False)(x)
    small = y
    for _ in range(halves):
        small = layers.AveragePooling2D(2)(small)
    for _ in range(halves):
        small = layers.UpSampling2D(2)(small)
    y = layers.Average()([y, small]) if halves else y
    model = keras().Model(x, y)
    channels = shape[-1] or 1
    weights = np.zeros((3, 3, channels, channels), np.float32)
    for channel in range(channels):
        weights[:, :, channel, channel] = kernel[0, 0]
    model.set_weights([weights])
    model.save(file)
    return file


def save_litert(file: Path, **options: Any) -> Path:
    import tensorflow as tf

    model = keras().models.load_model(save_keras(file.with_suffix(".keras"), **options))
    file.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return file


class TestOnnx:
    def test_a_plain_model_is_run_as_it_is(self, tmp_path: Path) -> None:
        denoiser = ready(Onnx(path=save_onnx(tmp_path / "m.onnx")))
        assert (denoiser.fit.residual, denoiser.fit.axis, denoiser.fit.batch) == (False, 1, None)
        for images in (noisy(40), noisy(2, 33, 61)):
            np.testing.assert_allclose(denoiser.denoise(images.copy(), None), mean3(images), atol=1e-6)

    def test_a_model_of_the_noise_is_found_out(self, tmp_path: Path) -> None:
        denoiser = ready(Onnx(path=save_onnx(tmp_path / "m.onnx", kernel=DELTA - BOX)))
        assert denoiser.fit.residual
        np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)

    def test_a_scale_of_255_is_found_out(self, tmp_path: Path) -> None:
        denoiser = ready(Onnx(path=save_onnx(tmp_path / "m.onnx", floor=8)))
        assert (denoiser.fit.scale, denoiser.fit.residual) == (255, False)
        expected = np.maximum(mean3(noisy()), 8 / 255)
        np.testing.assert_allclose(denoiser.denoise(noisy(), None), expected, atol=1e-6)

    def test_what_is_given_is_not_found_out(self, tmp_path: Path) -> None:
        denoiser = ready(Onnx(path=save_onnx(tmp_path / "m.onnx"), residual=True, range=255))
        assert (denoiser.fit.scale, denoiser.fit.residual) == (255, True)
        np.testing.assert_allclose(denoiser.denoise(noisy(), None), noisy() - mean3(noisy()), atol=1e-5)

    @pytest.mark.parametrize("shape", [(1, 1, 48, 48), (4, 1, 48, 48), ("n", 1, 48, 48), (2, 48, 48)])
    def test_a_fixed_batch_and_size_are_kept(self, shape: tuple[Any, ...], tmp_path: Path) -> None:
        file = save_onnx(tmp_path / "m.onnx", shape=shape)
        if len(shape) == 3:  # a convolution without a channel axis takes the first for it
            with pytest.raises(BenchboxError):
                ready(Onnx(path=file))
            return
        denoiser = ready(Onnx(path=file))
        np.testing.assert_allclose(denoiser.denoise(noisy(5), None), mean3(noisy(5)), atol=1e-6)
        assert denoiser.denoise(noisy(2, 40, 31), None).shape == (2, 40, 31)
        with pytest.raises(BenchboxError, match="takes images of 48x48 pixels, got one with a side of 49"):
            denoiser.denoise(noisy(1, 49, 48), None)

    def test_a_card_beside_the_model_is_its_card(self, tmp_path: Path) -> None:
        denoiser = Onnx(path=save_onnx(tmp_path / "m.onnx"))
        assert denoiser.card() is None
        (tmp_path / "m.json").write_text(
            '{"dataset": "mine", "split": "train", "fingerprint": "0", "images": 3, "noise": "gaussian:0.1", "seed": 0,'
            ' "epochs": 1, "command": ""}'
        )
        card = denoiser.card()
        assert card is not None
        assert card.label == "mine train"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"dtype": "UINT8"}, r"takes uint8 of shape \('any', 1, 'any', 'any'\)"),
            ({"shape": ("n", 2, "h", "w")}, "not one or three channels"),
            ({"shape": ("n", "w")}, r"takes float32 of shape \('any', 'any'\)|cannot be opened"),
            ({"kernel": -BOX}, "no range and residual improve"),
        ],
    )
    def test_another_model_is_refused_with_what_it_expects(
        self, options: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(BenchboxError, match=message) as caught:
            ready(Onnx(path=save_onnx(tmp_path / "m.onnx", **options)))
        assert caught.value.hint

    def test_more_inputs_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BenchboxError, match="has 2 inputs"):
            ready(Onnx(path=save_onnx(tmp_path / "m.onnx", inputs=2)))

    @pytest.mark.slow
    def test_it_keeps_the_contract_and_has_a_row(self, benchbox: Command, tmp_path: Path) -> None:
        file = save_onnx(tmp_path / "m.onnx")
        card = check_denoiser(f"onnx:path={file}")
        assert len(card.verdicts) > 20
        board = benchbox("run", "onnx:path=m.onnx", "identity", "--limit", "10", "--no-timing").stdout
        assert board.index("onnx:path=m.onnx") < board.index("identity")


class TestKerasAndLiteRT:
    @pytest.mark.slow
    def test_a_keras_model(self, tmp_path: Path) -> None:
        denoiser = ready(Keras(path=save_keras(tmp_path / "m.keras")))
        assert denoiser.fit.axis == 3
        np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)

    @pytest.mark.slow
    def test_a_network_that_shrinks_gets_sizes_that_it_can_take(self, tmp_path: Path) -> None:
        denoiser = ready(Keras(path=save_keras(tmp_path / "m.keras", halves=2)))
        assert denoiser.fit.multiple == 4
        assert denoiser.denoise(noisy(2, 47, 33), None).shape == (2, 47, 33)

    def test_three_channels_see_the_grey_image_each(self, tmp_path: Path) -> None:
        denoiser = ready(Keras(path=save_keras(tmp_path / "m.keras", shape=(48, 48, 3), kernel=DELTA - BOX)))
        assert (denoiser.fit.channels, denoiser.fit.residual) == (3, True)
        np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)

    @pytest.mark.parametrize("shape", [(None, None, 1), (48, 48, 1)])
    def test_a_litert_model(self, shape: tuple[Any, ...], tmp_path: Path) -> None:
        denoiser = ready(LiteRT(path=save_litert(tmp_path / "m.tflite", shape=shape)))
        for count in (1, 20, 3):
            np.testing.assert_allclose(denoiser.denoise(noisy(count), None), mean3(noisy(count)), atol=1e-6)
        assert denoiser.fit.size == (shape[0], shape[1])

    def test_code_in_a_keras_file_is_not_run(self, tmp_path: Path) -> None:
        layers = keras().layers
        x = layers.Input((None, None, 1))
        keras().Model(x, layers.Lambda(lambda y: y)(x)).save(tmp_path / "m.keras")
        with pytest.raises(BenchboxError, match=r"(?i)lambda") as caught:
            ready(Keras(path=tmp_path / "m.keras"))
        assert "is not loaded" in caught.value.hint
        (tmp_path / "m.h5").unlink(missing_ok=True)
        keras().Model(x, layers.Lambda(lambda y: y)(x)).save(tmp_path / "m.h5")
        with pytest.raises(BenchboxError, match="layers that hold code or do not belong to Keras: Lambda"):
            ready(Keras(path=tmp_path / "m.h5"))

    def test_the_older_format_is_read_whole_or_with_its_layers_beside_it(self, tmp_path: Path) -> None:
        model = keras().models.load_model(save_keras(tmp_path / "m.keras"))
        model.save(tmp_path / "whole.h5")
        model.save_weights(tmp_path / "m.weights.h5")
        (tmp_path / "m.keras").unlink()
        with pytest.raises(BenchboxError, match="holds weights without the layers") as caught:
            ready(Keras(path=tmp_path / "m.weights.h5"))
        assert "m.json" in caught.value.hint
        (tmp_path / "m.json").write_text(model.to_json())
        for name in ("whole.h5", "m.weights.h5"):
            denoiser = ready(Keras(path=tmp_path / name))
            np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)

    def test_an_architecture_beside_a_model_is_no_card(self, tmp_path: Path) -> None:
        file = save_keras(tmp_path / "m.keras")
        (tmp_path / "m.json").write_text(keras().models.load_model(file).to_json())
        card = Keras(path=file).card()
        assert card is not None
        assert card.dataset == "unknown"
        assert card.notes == "There is no training card: m.json describes the architecture."

    @pytest.mark.slow
    def test_a_saved_model_is_refused_with_the_command_that_converts_it(self, tmp_path: Path) -> None:
        keras().models.load_model(save_keras(tmp_path / "m.keras")).export(tmp_path / "saved", verbose=False)
        with pytest.raises(ValueError, match="a SavedModel, which can hold code and is not loaded") as caught:
            Keras(path=tmp_path / "saved")
        command = shlex.split(str(caught.value).partition("litert:path=model.tflite: ")[2])
        subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True, capture_output=True)
        denoiser = ready(LiteRT(path=tmp_path / "model.tflite"))
        np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["keras", "litert"])
    def test_they_keep_the_contract(self, kind: str, tmp_path: Path) -> None:
        file = {"keras": save_keras, "litert": save_litert}[kind](
            tmp_path / ("m.keras" if kind == "keras" else "m.tflite")
        )
        check_denoiser(f"{kind}:path={file}")


@pytest.mark.parametrize("cls", [Keras, LiteRT, Onnx])
def test_a_model_that_is_missing_or_broken_is_an_error_with_a_hint(cls: type[ModelFile], tmp_path: Path) -> None:
    with pytest.raises(BenchboxError, match="needs a model file"):
        ready(cls())
    with pytest.raises(ValueError, match="no such file"):
        cls(path=tmp_path / "missing")
    broken = tmp_path / f"broken{Path(cls.example).suffix}"
    broken.write_bytes(b"no model")
    with pytest.raises(ValueError, match=f"not a {cls.name} model"):
        cls(path=broken)
    broken.write_bytes({"keras": b"PK", "litert": b"0000TFL3", "onnx": b"\x08"}[cls.name] + b"no model")
    with pytest.raises(BenchboxError, match="cannot be opened") as caught:
        ready(cls(path=broken))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "m.onnx", "a Git LFS pointer"),
        (b"0000TFL3", "m.onnx", "a model for 'litert'; write litert:path="),
        (b"PK\x03\x04", "m.keras", "a model for 'keras'; write keras:path="),
        (b"PK\x03\x04", "m.pth", "a PyTorch file"),
        (b"\x80\x02", "m.pt", "a PyTorch file"),
        (b"text", "m.onnx", "not a onnx model"),
    ],
)
def test_a_file_of_another_kind_is_refused_before_the_run(
    content: bytes, name: str, message: str, tmp_path: Path, benchbox: Command
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Onnx(path=tmp_path / name)
    assert message in benchbox("run", f"onnx:path={name}", "--limit", "2", code=2).stderr
    assert not (tmp_path / "results").exists()


def test_weights_beside_an_onnx_model_are_part_of_its_identity(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(save_onnx(tmp_path / "m.onnx"))
    options = {"location": "deep/m.onnx.data", "size_threshold": 0, "convert_attribute": True}
    (tmp_path / "deep").mkdir()
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, **options)
    weights = tmp_path / "deep/m.onnx.data"
    assert Onnx(path=tmp_path / "m.onnx").files() == [tmp_path / "m.onnx", weights]
    before = planned(f"onnx:path={tmp_path / 'm.onnx'}")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert planned(f"onnx:path={tmp_path / 'm.onnx'}") != before


def test_a_path_is_absolute_and_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_onnx(tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    specs = {load_registry().denoiser(f"onnx:path={path}").spec for path in ("m.onnx", "~/m.onnx")}
    assert specs == {f"onnx:path={tmp_path / 'm.onnx'}"}


def planned(spec: str) -> str:
    """The digest of the files of a row."""
    (record,) = plan_denoisers([spec], load_registry())
    return record.plugin.content


def python(script: str) -> str:
    """A command that runs a few lines of Python on the files."""
    return f'{sys.executable} -c "import sys, numpy as np; i, o, *rest = sys.argv[1:]; {script}" {{in}} {{out}}'


class TestCommand:
    def test_a_program_gets_the_image_and_the_level(self) -> None:
        program = Program(run=python("np.save(o, np.load(i) * float(rest[0]))") + " {sigma}")
        images = noisy(2)
        expected = images * np.array([0.25, 0.5], np.float32)[:, None, None]
        np.testing.assert_array_equal(program.denoise(images, np.array([0.25, 0.5], np.float32)), expected)
        with pytest.raises(BenchboxError, match=r"needs \{sigma\}, the noise level"):
            program.denoise(images, None)

    def test_png_is_8_bit(self) -> None:
        program = Program(run="cp {in} {out}", format="png")
        images = np.array([[[-0.5, 0.0, 0.5001, 1.0, 1.5]]], np.float32)
        expected = np.array([[[0, 0, 128 / 255, 1, 1]]], np.float32)
        np.testing.assert_allclose(program.denoise(images, None), expected, atol=1e-7)

    @pytest.mark.parametrize(
        "change", ["a[None, None]", "a[..., None]", "np.stack([a] * 3, axis=-1)", "a.astype('f8')"]
    )
    def test_other_shapes_of_one_grey_image_are_accepted(self, change: str) -> None:
        images = noisy(1)
        program = Program(run=python(f"a = np.load(i); np.save(o, {change})"))
        np.testing.assert_array_equal(program.denoise(images, None), images)

    @pytest.mark.parametrize(("kind", "largest"), [("u1", 255), ("u2", 65535)])
    def test_unsigned_integers_are_scaled_by_their_type(self, kind: str, largest: int) -> None:
        program = Program(run=python(f"np.save(o, np.full((48, 48), {largest} // 5, dtype='{kind}'))"))
        np.testing.assert_allclose(program.denoise(noisy(1), None), 0.2, rtol=1e-6)

    def test_a_program_without_the_level_is_blind(self) -> None:
        assert Program(run="cp {in} {out}").capabilities.sigma == "unused"
        assert Program(run="./mine {in} {out} {sigma}").capabilities.sigma == "optional"

    def test_an_unknown_placeholder_is_refused(self) -> None:
        for word in ("{level}", "--noise={noise}"):
            with pytest.raises(ValueError, match=r"is unknown; placeholders are \{in\}, \{out\} and \{sigma\}"):
                Program(run=f"./mine {{in}} {{out}} {word}")
        assert Program(run="./mine {in} --out={out} --sigma={sigma} -e '{ print }'").words[-1] == "{ print }"

    @pytest.mark.parametrize(
        ("run", "message"),
        [
            (
                python("np.save(o, np.zeros((48, 48), dtype='i4'))"),
                "its type is int32, but unsigned integers or floats",
            ),
            (python("np.save(o, np.arange(6912.0).reshape(48, 48, 3))"), r"shape \(48, 48, 3\) for an input of"),
            ("no-such-program {in} {out}", "cannot start no-such-program"),
            ("false {in} {out}", "ended with exit code 1"),
            ("true {in} {out}", "did not write {out}"),
            (python("sys.exit('no licence')"), "ended with exit code 1: no licence"),
            (python("import os; os.abort()"), "was ended by SIGABRT"),
            (python("import os; os.kill(os.getpid(), 40)"), "was ended by signal 40"),
            (python("open(o, 'w').write('text')"), "wrote an invalid .npy file"),
            (python("np.save(o, np.zeros((2, 2)))"), r"shape \(2, 2\) for an input of shape \(48, 48\)"),
            (python("np.save(o, np.array([{}]), allow_pickle=True)"), "wrote an invalid .npy file"),
            ("cp {in} {out};touch", "did not write {out}"),
        ],
    )
    def test_what_goes_wrong_is_said(self, run: str, message: str) -> None:
        with pytest.raises(BenchboxError, match=message) as caught:
            Program(run=run).denoise(noisy(1), None)
        assert caught.value.hint

    @pytest.mark.slow
    def test_a_program_that_hangs_is_ended_with_what_it_started(self, tmp_path: Path) -> None:
        mark = tmp_path / "late"
        script = python(
            f"import subprocess, time; subprocess.Popen(['sh', '-c', 'sleep 3; touch {mark}']); time.sleep(60)"
        )
        with pytest.raises(BenchboxError, match=r"took longer than 1\.5 s"):
            Program(run=script, timeout=1.5).denoise(noisy(1), None)
        time.sleep(3)
        assert not mark.exists()

    @pytest.mark.parametrize("run", ["./mine", "./mine {in}", 'unclosed " {in} {out}'])
    def test_a_command_without_its_files_is_refused_at_once(self, run: str, benchbox: Command) -> None:
        with pytest.raises(ValueError, match=r"\{out\}|quotation"):
            Program(run=run)
        with pytest.raises(BenchboxError, match="needs a program"):
            Program().setup((1, 8, 8))

    @pytest.mark.slow
    @pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
    def test_the_example_in_c_keeps_the_contract_and_has_a_row(self, benchbox: Command, tmp_path: Path) -> None:
        subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-o", tmp_path / "mean3", EXAMPLE], check=True)
        spec = 'command:run="./mean3 {in} {out}"'
        assert spec in EXAMPLE.read_text()
        board = benchbox("run", spec, "identity", "--limit", "10", "--no-timing").stdout
        assert board.index("mean3") < board.index("identity")
        images = noisy(1, 20, 30)
        denoised = Program(run=f"{tmp_path}/mean3 {{in}} {{out}}").denoise(images, None)
        np.testing.assert_allclose(denoised[:, 1:-1, 1:-1], mean3(images)[:, 1:-1, 1:-1], atol=1e-6)
        check_denoiser(f'command:run="{tmp_path}/mean3 {{in}} {{out}}"')


class TestBM3DReference:
    def test_its_licence_stands_in_the_listing(self, benchbox: Command) -> None:
        listing = benchbox("list", "denoisers").stdout
        assert "non-commercial use only" in listing[listing.index("bm3d_reference") :].split("\n")[0]

    @pytest.mark.slow
    def test_its_licence_stands_in_its_row(self, benchbox: Command, tmp_path: Path) -> None:
        pytest.importorskip("bm3d")
        shown = benchbox("run", "bm3d_reference", "identity", "--limit", "1", "--no-timing").stdout
        note = "bm3d_reference: the licence of the package bm3d allows non-commercial use only"
        assert note in " ".join(shown.split())
        assert note in benchbox("leaderboard", "--format", "markdown").stdout.replace("\\", "")

    def test_neither_it_nor_an_adapter_takes_a_row_unasked(self) -> None:
        labels = {record.label for record in plan_denoisers((), load_registry())}
        assert "bm3d_lite" in labels
        assert not labels & {"bm3d_reference", "command", "keras", "litert", "onnx"}

    def test_it_denoises(self) -> None:
        pytest.importorskip("bm3d")
        from benchbox_bm3d_reference import BM3DReference

        images = noisy(1, 16, 40)
        denoised = BM3DReference().denoise(images, np.array([0.1], np.float32))
        clean = picture(16, 40)
        assert np.square(denoised - clean).mean() < 0.5 * np.square(images - clean).mean()
        np.testing.assert_array_equal(BM3DReference().denoise(images, np.array([0], np.float32)), images)

    @pytest.mark.slow
    def test_it_denoises_colour_jointly(self) -> None:
        pytest.importorskip("bm3d")
        from benchbox_bm3d_reference import BM3DReference

        clean = np.stack([picture(32, 40), 0.8 * picture(32, 40), 0.1 + 0.6 * picture(32, 40)], axis=2)
        images = (clean + 0.1 * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)[None]
        level = np.array([0.1], np.float32)
        joint = BM3DReference().denoise(images, level)[0]
        apart = np.dstack([BM3DReference().denoise(images[..., c].copy(), level)[0] for c in range(3)])
        assert np.square(joint - clean).mean() < 0.9 * np.square(apart - clean).mean()

    @pytest.mark.slow
    def test_it_denoises_colour_whose_channels_are_equal(self) -> None:
        """The package returns NaN, because it divides by the range of every opponent channel."""
        pytest.importorskip("bm3d")
        from benchbox_bm3d_reference import BM3DReference

        level, grey = np.array([0.1], np.float32), noisy(1, 32, 40)
        colour = np.repeat(grey[..., None], 3, axis=3)
        expected = np.repeat(BM3DReference().denoise(grey, level)[..., None], 3, axis=3)
        np.testing.assert_array_equal(BM3DReference().denoise(colour, level), expected)

    @pytest.mark.slow
    def test_a_row_survives_that_it_ends_its_process(self, benchbox: Command, tmp_path: Path) -> None:
        """On images of 8x8 the package ends its process; the run goes on and says so."""
        pytest.importorskip("bm3d")
        import cv2

        (tmp_path / "small").mkdir()
        for index in range(3):
            cv2.imwrite(str(tmp_path / "small" / f"{index}.png"), np.full((8, 8), 60 * index + 50, np.uint8))
        file = tmp_path / "raw.py"
        file.write_text(
            "from benchbox import Capabilities, hookimpl\n"
            "from benchbox_bm3d_reference import BM3DReference\n\n\n"
            "class Raw(BM3DReference):\n    name = 'raw'\n    capabilities = Capabilities(sigma='required')\n\n\n"
            "@hookimpl\ndef benchbox_denoisers():\n    return [Raw]\n"
        )
        board = benchbox("run", "raw", "identity", "--data", "small", "--plugin", file, "--no-timing", code=1).stdout
        assert "SIGSEGV" in board or "SIGABRT" in board
        assert "identity" in board
