"""Model files as denoisers: what is found out, what is refused, and that they keep the contract."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchbox_adapters.models import Keras, LiteRT, ModelFile, Onnx
from made_models import BOX, DELTA, keras, mean3, noisy, save_keras, save_litert, save_onnx

from benchbox import BenchboxError
from benchbox.engine.plan import plan_denoisers
from benchbox.registry import load_registry
from benchbox.testing import check_denoiser

Command = Callable[..., subprocess.CompletedProcess[str]]


def ready(denoiser: ModelFile) -> ModelFile:
    denoiser.setup((1, 48, 48))
    return denoiser


class TestOnnx:
    def test_a_plain_model_is_run_as_it_is(self, tmp_path: Path) -> None:
        denoiser = ready(Onnx(path=save_onnx(tmp_path / "m.onnx")))
        assert (denoiser.convention.residual, denoiser.convention.form.axis, denoiser.convention.sizing.batch) == (
            False,
            1,
            None,
        )
        for images in (noisy(40), noisy(2, 33, 61)):
            np.testing.assert_allclose(denoiser.denoise(images.copy(), None), mean3(images), atol=1e-6)

    def test_a_model_of_the_noise_is_found_out(self, tmp_path: Path) -> None:
        denoiser = ready(Onnx(path=save_onnx(tmp_path / "m.onnx", kernel=DELTA - BOX)))
        assert denoiser.convention.residual
        np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)

    def test_a_scale_of_255_is_found_out(self, tmp_path: Path) -> None:
        denoiser = ready(Onnx(path=save_onnx(tmp_path / "m.onnx", floor=8)))
        assert (denoiser.convention.high, denoiser.convention.residual) == (255, False)
        expected = np.maximum(mean3(noisy()), 8 / 255)
        np.testing.assert_allclose(denoiser.denoise(noisy(), None), expected, atol=1e-6)

    def test_what_is_given_is_not_found_out(self, tmp_path: Path) -> None:
        denoiser = ready(Onnx(path=save_onnx(tmp_path / "m.onnx"), residual=True, range="255"))
        assert (denoiser.convention.high, denoiser.convention.residual) == (255, True)
        np.testing.assert_allclose(denoiser.denoise(noisy(), None), noisy() - mean3(noisy()), atol=1e-5)

    @pytest.mark.parametrize("shape", [(1, 1, 48, 48), (4, 1, 48, 48), ("n", 1, 48, 48), (2, 48, 48)])
    def test_a_fixed_batch_and_size_are_kept(self, shape: tuple[Any, ...], tmp_path: Path) -> None:
        file = save_onnx(tmp_path / "m.onnx", shape=shape)
        if len(shape) == 3:  # a convolution without a channel axis takes the first for it
            with pytest.raises(BenchboxError):
                ready(Onnx(path=file))
            return
        denoiser = ready(Onnx(path=file))
        assert denoiser.details().found["size"] == "padded or cut to 48x48, overlap 12"
        np.testing.assert_allclose(denoiser.denoise(noisy(5), None), mean3(noisy(5)), atol=1e-6)
        assert denoiser.denoise(noisy(2, 40, 31), None).shape == (2, 40, 31)
        # Tiles: the middle of an image is right, whatever the seams.
        large = denoiser.denoise(noisy(2, 130, 61), None)
        np.testing.assert_allclose(large[:, 1:-1, 1:-1], mean3(noisy(2, 130, 61))[:, 1:-1, 1:-1], atol=1e-6)

    def test_a_card_beside_the_model_is_its_card(self, tmp_path: Path) -> None:
        denoiser = Onnx(path=save_onnx(tmp_path / "m.onnx"))
        assert denoiser.card().notes == "There is no training card."
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
            ({"dtype": "UINT8"}, "nothing that was tried improves .*range 255, residual false: [+-]0.0 dB"),
            ({"shape": ("n", 5, "h", "w")}, r"takes float32 of shape \(any, 5, any, any\): not images of one or three"),
            ({"shape": ("n", "w")}, r"takes float32 of shape \(any, any\)|cannot be opened"),
            ({"kernel": -BOX}, "nothing that was tried improves"),
        ],
    )
    def test_another_model_is_refused_with_what_it_expects(
        self, options: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(BenchboxError, match=message) as caught:
            ready(Onnx(path=save_onnx(tmp_path / "m.onnx", **options)))
        assert caught.value.hint

    def test_more_inputs_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BenchboxError, match="has 3 inputs"):
            ready(Onnx(path=save_onnx(tmp_path / "m.onnx", inputs=3)))

    def test_an_input_that_makes_no_difference_is_no_noise_level(self, tmp_path: Path) -> None:
        with pytest.raises(BenchboxError, match="does not follow the noise level"):
            ready(Onnx(path=save_onnx(tmp_path / "m.onnx", inputs=2)))

    @pytest.mark.slow
    def test_it_keeps_the_contract_and_has_a_row(self, benchbox: Command, tmp_path: Path) -> None:
        file = save_onnx(tmp_path / "m.onnx")
        card = check_denoiser(f"onnx:path={file}")
        assert len(card.verdicts) > 20
        board = benchbox("run", "onnx:path=m.onnx", "identity", "--limit", "10", "--no-timing").stdout
        assert board.index("onnx:path=m.onnx") < board.index("identity")


@pytest.mark.slow  # TensorFlow's import
class TestKerasAndLiteRT:
    def test_a_keras_model(self, tmp_path: Path) -> None:
        denoiser = ready(Keras(path=save_keras(tmp_path / "m.keras")))
        assert denoiser.convention.form.axis == 3
        np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)

    def test_a_network_that_shrinks_gets_sizes_that_it_can_take(self, tmp_path: Path) -> None:
        denoiser = ready(Keras(path=save_keras(tmp_path / "m.keras", halves=2)))
        assert denoiser.convention.sizing.multiple == 4
        assert denoiser.denoise(noisy(2, 47, 33), None).shape == (2, 47, 33)

    def test_three_channels_see_the_grey_image_each(self, tmp_path: Path) -> None:
        denoiser = ready(Keras(path=save_keras(tmp_path / "m.keras", shape=(48, 48, 3), kernel=DELTA - BOX)))
        assert (denoiser.convention.form.channels, denoiser.convention.residual) == (3, True)
        np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)

    @pytest.mark.parametrize("shape", [(None, None, 1), (48, 48, 1)])
    def test_a_litert_model(self, shape: tuple[Any, ...], tmp_path: Path) -> None:
        denoiser = ready(LiteRT(path=save_litert(tmp_path / "m.tflite", shape=shape)))
        for count in (1, 20, 3):
            np.testing.assert_allclose(denoiser.denoise(noisy(count), None), mean3(noisy(count)), atol=1e-6)
        assert denoiser.convention.sizing.size == (shape[0], shape[1])

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
            layers = [tmp_path / "m.json"] if name == "m.weights.h5" else []
            assert denoiser.files() == [tmp_path / name, *layers]
            np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)

    def test_an_architecture_beside_a_model_is_no_card(self, tmp_path: Path) -> None:
        file = save_keras(tmp_path / "m.keras")
        (tmp_path / "m.json").write_text(keras().models.load_model(file).to_json())
        card = Keras(path=file).card()
        assert card is not None
        assert card.dataset == "unknown"
        assert card.notes == "There is no training card: m.json describes the architecture."

    def test_a_saved_model_is_refused_with_the_command_that_converts_it(self, tmp_path: Path) -> None:
        keras().models.load_model(save_keras(tmp_path / "m.keras")).export(tmp_path / "saved", verbose=False)
        with pytest.raises(ValueError, match="a SavedModel, which can hold code and is not loaded") as caught:
            Keras(path=tmp_path / "saved")
        command = shlex.split(str(caught.value).partition("litert:path=model.tflite: ")[2])
        subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True, capture_output=True)
        denoiser = ready(LiteRT(path=tmp_path / "model.tflite"))
        np.testing.assert_allclose(denoiser.denoise(noisy(), None), mean3(noisy()), atol=1e-6)

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
        (b"PK\x03\x04", "m.pth", "a model for 'torch'; write torch:path="),
        (b"\x80\x02", "m.bin", "a model for 'torch'; write torch:path="),
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
    # The content decides, not the name.
    assert Onnx(path=(tmp_path / "m.onnx").rename(tmp_path / "m.bin")).files() == [tmp_path / "m.bin", weights]
    weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"its weights .*m\.onnx\.data are a Git LFS pointer"):
        Onnx(path=tmp_path / "m.bin")


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
