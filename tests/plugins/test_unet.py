"""The networks: architecture, weights, any image size, runtimes that agree, and cards that tell the truth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import benchbox_unet
import numpy as np
import pytest
from benchbox_adapters.graphs import keras_cost
from benchbox_unet import network
from benchbox_unet.ffdnet import FFDNet
from benchbox_unet.noise import TruncatedGaussian
from benchbox_unet.trainer import TrainableNetwork
from benchbox_unet.unet import PARAMETER_COUNT, UNet
from benchbox_unet.weights_file import read_converted, read_weights
from numpy.typing import NDArray

from benchbox import BenchboxError, Images
from benchbox.builtin.datasets.sample import Sample

SHIPPED = [
    (cls, weights)
    for cls in benchbox_unet.benchbox_denoisers()
    for weights in cls.shipped  # type: ignore[attr-defined]
]
NETWORKS = [UNet, FFDNet]


def faces(count: int, size: tuple[int, int] = (48, 48), sigma: float = 0.1, seed: int = 0) -> tuple[Images, Images]:
    """Smooth random pictures, clean and noisy."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]] / 24
    phases = rng.uniform(0, 6, (2, count, 1, 1))
    clean = (0.5 + 0.2 * np.sin(rows + phases[0]) + 0.2 * np.cos(columns + phases[1])).astype(np.float32)
    noise = rng.standard_normal(clean.shape, dtype=np.float32)
    return clean, np.ascontiguousarray(clean + np.float32(sigma) * noise)


def level(count: int, sigma: float = 0.1) -> NDArray[np.float32]:
    return np.full(count, sigma, np.float32)


def save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def mean_psnr(clean: Images, denoised: Images) -> float:
    error = np.square(denoised.clip(0, 1) - clean).mean(axis=(1, 2), dtype=np.float64)
    return float(np.mean(-10 * np.log10(error)))


@pytest.mark.parametrize(("cls", "weights"), SHIPPED)
class TestShippedWeights:
    def test_any_size_comes_back_finite_and_in_its_shape(self, cls: type[TrainableNetwork], weights: str) -> None:
        denoiser = cls(weights=weights, runtime="litert")
        for size in ((48, 48), (1, 1), (5, 7), (50, 61), (8, 300)):
            _, noisy = faces(2, size)
            denoised = denoiser.denoise(noisy, level(2))
            assert denoised.shape == noisy.shape
            assert denoised.dtype == np.float32
            assert np.isfinite(denoised).all()

    def test_same_input_gives_the_same_bits(self, cls: type[TrainableNetwork], weights: str) -> None:
        _, noisy = faces(11)
        first, second = (cls(weights=weights, runtime="litert").denoise(noisy.copy(), level(11)) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_an_image_is_denoised_alike_alone_and_in_a_stack(self, cls: type[TrainableNetwork], weights: str) -> None:
        _, noisy = faces(11)
        denoiser = cls(weights=weights, runtime="litert")
        stack = denoiser.denoise(noisy.copy(), level(11))
        for index in (0, 7, 10):
            alone = denoiser.denoise(noisy[index : index + 1].copy(), level(1))
            np.testing.assert_allclose(alone[0], stack[index], atol=1e-6)

    @pytest.mark.slow
    def test_tiles_give_what_the_whole_image_gives(
        self, cls: type[TrainableNetwork], weights: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, noisy = faces(1, (200, 216), sigma=0.2)
        denoiser = cls(weights=weights, runtime="litert")
        whole = denoiser.denoise(noisy.copy(), level(1, 0.2))
        monkeypatch.setattr(network, "TILE", 40)
        np.testing.assert_allclose(denoiser.denoise(noisy.copy(), level(1, 0.2)), whole, atol=1e-5)

    def test_it_warms_up_on_a_part_of_a_photograph(self, cls: type[TrainableNetwork], weights: str) -> None:
        class Recorded(cls):  # type: ignore[valid-type,misc]
            def denoise(self, noisy: Images, sigma: NDArray[np.float32] | None) -> Images:
                shapes.append(noisy.shape)
                result: Images = super().denoise(noisy, sigma)
                return result

        shapes: list[tuple[int, ...]] = []
        for shape in ((1, 768, 1024), (455, 48, 48), (1, 5, 70)):
            Recorded(weights=weights, runtime="litert").setup(shape)
        assert shapes == [(1, 64, 64), (8, 48, 48), (1, 5, 64)]

    @pytest.mark.slow
    def test_it_leaves_less_noise_than_it_was_given(self, cls: type[TrainableNetwork], weights: str) -> None:
        images = Sample().load(None)
        clean = images.stack(np.arange(len(images)))
        rng = np.random.default_rng(0)
        for sigma in (0.05, 0.1, 0.2, 0.3) if weights == "mixed" else (0.02, 0.05, 0.1, 0.2, 0.3):
            noisy = clean + np.float32(sigma) * rng.standard_normal(clean.shape, dtype=np.float32)
            denoised = cls(weights=weights, runtime="litert").denoise(noisy.copy(), level(len(clean), sigma))
            assert mean_psnr(clean, denoised) > mean_psnr(clean, noisy) + 0.3

    def test_the_card_tells_what_was_fitted(self, cls: type[TrainableNetwork], weights: str) -> None:
        card = cls(weights=weights, runtime="litert").card()
        assert card is not None
        assert (card.dataset, card.split, card.images) == ("fer2013", "Training", 28709)
        assert len(bytes.fromhex(card.fingerprint)) == 16
        assert card.command and card.versions["tensorflow"] and card.hardware and card.epochs > 0
        levels = {"poisson:30", "salt-pepper:0.05", "speckle:0.2"}
        if weights == "gaussian":
            levels = {"gaussian:0.02", "gaussian:0.05", "gaussian:0.2"}
        assert levels | {"gaussian:0.1"} <= card.validation.keys()
        assert "PublicTest" in card.notes and "Keras 3" in card.notes

    @pytest.mark.slow
    def test_both_runtimes_agree(self, cls: type[TrainableNetwork], weights: str) -> None:
        for size in ((48, 48), (50, 61)):
            _, noisy = faces(9, size)
            one = cls(weights=weights, runtime="litert").denoise(noisy.copy(), level(9))
            other = cls(weights=weights, runtime="keras").denoise(noisy.copy(), level(9))
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("cls", NETWORKS)
def test_its_cost_is_that_of_the_graph(cls: type[TrainableNetwork], tmp_path: Path) -> None:
    cls.build().save(tmp_path / "network.keras")
    graph = keras_cost(tmp_path / "network.keras")
    details = cls(weights="gaussian", runtime="litert").details()
    assert details.parameters == graph.parameters
    scale = cls.stride**2 if cls is FFDNet else 1  # its graph begins with the sub-images
    assert details.macs_per_pixel == pytest.approx(graph.macs_per_pixel / scale)
    assert details.activations_per_pixel == pytest.approx(graph.activations_per_pixel / scale)


def test_the_unet_has_the_published_number_of_parameters() -> None:
    assert PARAMETER_COUNT == 1_937_857
    assert sum(value.size for value in read_weights(UNet.path("gaussian")).values()) == PARAMETER_COUNT


@pytest.mark.slow
def test_the_model_has_the_published_number_of_parameters() -> None:
    model = UNet.build()
    assert model.count_params() == PARAMETER_COUNT
    assert [layer.name for layer in model.layers if "conv" in layer.name][:2] == ["encoder1_conv1", "encoder1_conv2"]
    assert model.get_layer("encoder1_conv1").kernel.shape == (1, 1, 1, 32)
    assert model.get_layer("encoder4_conv2").kernel.shape == (3, 3, 256, 256)


@pytest.mark.slow
@pytest.mark.parametrize("cls", NETWORKS)
def test_an_untrained_network_gives_back_its_input(cls: type[TrainableNetwork]) -> None:
    model = cls.build()
    cls.prepare(model)
    _, noisy = faces(3, sigma=0.3)
    denoised = cls.apply(lambda x: np.asarray(model(x)), noisy, level(3, 0.3))
    np.testing.assert_allclose(denoised, noisy, atol=1e-6)


@pytest.mark.slow
def test_the_hidden_layers_of_ffdnet_start_linear() -> None:
    import keras

    model = FFDNet.build()
    FFDNet.prepare(model)
    hidden = keras.Model(model.input, model.get_layer("conv11").output)
    first, second = np.random.default_rng(0).standard_normal((2, 1, 12, 12, 5)).astype(np.float32)

    def linear(x: NDArray[np.float32]) -> NDArray[np.float32]:
        positive, negative = np.split(np.asarray(hidden(x)), 2, axis=-1)
        answer: NDArray[np.float32] = positive - negative
        return answer

    assert float(np.abs(linear(first)).mean()) > 0.05
    np.testing.assert_allclose(linear(first + second), linear(first) + linear(second), atol=1e-4)


@pytest.mark.process
def test_denoising_needs_no_tensorflow() -> None:
    code = (
        "import sys, numpy as np; from benchbox_unet.unet import UNet; d = UNet(); d.setup((1, 48, 48));"
        "d.denoise(np.zeros((1, 48, 48), np.float32), None); d.card();"
        "print([m for m in ('tensorflow', 'keras', 'cv2', 'numba', 'pandas') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.process
def test_importing_the_plugin_loads_no_runtime() -> None:
    code = (
        "import sys, benchbox_unet; benchbox_unet.benchbox_denoisers();"
        "print([m for m in ('tensorflow', 'keras', 'ai_edge_litert') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_network_that_is_told_the_level_wants_to_know_it() -> None:
    _, noisy = faces(1)
    with pytest.raises(BenchboxError, match="noise level"):
        FFDNet.apply(lambda x: x[..., :4], noisy, None)


def test_sub_images_and_back() -> None:
    _, noisy = faces(2, (6, 8))
    tensor = FFDNet.arrange(noisy, level(2, 0.25))
    assert tensor.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(tensor[..., 4], np.float32(0.25))
    np.testing.assert_array_equal(tensor[:, :, :, 1], noisy[:, ::2, 1::2])
    np.testing.assert_array_equal(FFDNet.restore(tensor[..., :4], noisy), np.zeros_like(noisy))
    clean = np.zeros_like(noisy)
    np.testing.assert_array_equal(FFDNet.restore(FFDNet.target(noisy, clean), noisy), clean)


class TestWeightsFile:
    def test_unknown_weights_name_those_that_exist(self) -> None:
        with pytest.raises(BenchboxError) as caught:
            UNet(weights="gausian").denoise(faces(1)[1], None)
        assert " or ".join(UNet.shipped) in caught.value.hint

    def test_a_pickle_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.npz"
        np.savez(path, weights=np.array([{"a": 1}], dtype=object))
        with pytest.raises(BenchboxError, match="weights"):
            read_weights(path)

    @pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
    def test_what_is_no_archive_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "weights.npz"
        path.write_bytes(content)
        with pytest.raises(BenchboxError, match=r"weights\.npz"):
            read_weights(path)

    def test_weights_that_are_not_finite_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.npz"
        save(path, {"conv.kernel": np.array([np.nan], np.float32)})
        with pytest.raises(BenchboxError, match="finite"):
            read_weights(path)

    @pytest.mark.slow
    def test_weights_of_another_network_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.npz"
        save(path, {"conv.kernel": np.zeros((3, 3, 1, 1), np.float32)})
        with pytest.raises(BenchboxError, match="missing or unknown"):
            UNet(weights=str(path), runtime="keras").denoise(faces(1)[1], None)

    def test_a_converted_model_of_other_weights_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.npz"
        path.write_bytes(UNet.path("mixed").read_bytes())
        path.with_suffix(".tflite").write_bytes(UNet.path("gaussian").with_suffix(".tflite").read_bytes())
        with pytest.raises(
            BenchboxError, match=r"weights\.tflite: 'encoder1_conv1\.kernel' differs from weights\.npz"
        ) as caught:
            UNet(weights=str(path)).denoise(faces(1)[1], None)
        assert "delete weights.tflite" in caught.value.hint

    @pytest.mark.parametrize("kept", [0, 1000, -20])
    def test_a_converted_model_that_is_cut_off_is_refused(self, tmp_path: Path, kept: int) -> None:
        path = tmp_path / "weights.npz"
        path.write_bytes(FFDNet.path("gaussian").read_bytes())
        whole = FFDNet.path("gaussian").with_suffix(".tflite").read_bytes()
        path.with_suffix(".tflite").write_bytes(whole[:kept])
        with pytest.raises(BenchboxError, match=r"weights\.tflite: ") as caught:
            FFDNet(weights=str(path)).denoise(faces(1)[1], level(1))
        assert "together" in caught.value.hint or "copy both files again" in caught.value.hint

    @pytest.mark.parametrize(("cls", "other"), [(UNet, FFDNet), (FFDNet, UNet)])
    def test_a_converted_model_of_another_network_is_refused(
        self, cls: type[TrainableNetwork], other: type[TrainableNetwork]
    ) -> None:
        mine = cls(weights=str(other.path("gaussian")), runtime="litert")
        with pytest.raises(BenchboxError, match=r"tflite: they are for another network"):
            mine.denoise(faces(1)[1], level(1))

    def test_a_path_with_a_card_is_told_in_the_row(self, tmp_path: Path) -> None:
        source = UNet.path("gaussian")
        for ending in (".npz", ".tflite", ".json"):
            (tmp_path / f"weights{ending}").write_bytes(source.with_suffix(ending).read_bytes())
        mine = UNet(weights=str(tmp_path / "weights.npz"))
        assert mine.card() == UNet().card()
        _, noisy = faces(2)
        np.testing.assert_array_equal(mine.denoise(noisy.copy(), None), UNet().denoise(noisy.copy(), None))

    def test_a_path_without_a_card_is_told_in_the_row_too(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.npz"
        path.write_bytes(UNet.path("gaussian").read_bytes())
        card = UNet(weights=str(path)).card()
        assert (card.label, card.images) == ("unknown", 0)
        assert "mine.json is missing" in card.notes

    def test_files_in_the_package_belong_together(self) -> None:
        for cls, weights in SHIPPED:
            path = cls.path(weights)  # type: ignore[attr-defined]
            assert path.parent == network.WEIGHTS
            assert path.with_suffix(".json").is_file()
            converted = path.with_suffix(".tflite")
            assert read_converted(converted, path) == converted.read_bytes()


class TestTruncatedGaussian:
    def test_its_level_is_what_truncation_leaves(self) -> None:
        model = TruncatedGaussian()
        clean = np.full((1000, 1000), 0.5, np.float32)
        noise = model.apply(clean, np.random.default_rng(0)) - clean
        assert model.sigma_of(clean) * 255 == pytest.approx(9.61, abs=0.005)
        assert float(noise.std()) == pytest.approx(model.sigma_of(clean), rel=3e-3)
        np.testing.assert_allclose(noise * 255, np.rint(noise * 255), atol=1e-3)

    def test_a_level_outside_its_range_is_refused(self) -> None:
        with pytest.raises(ValueError, match="outside"):
            TruncatedGaussian(level=0)
