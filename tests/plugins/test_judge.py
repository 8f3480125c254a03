"""The judge of emotions: what it answers, what it refuses, and what a run makes of its metrics."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchbox_judge.judge import EMOTIONS, Judge, judge
from benchbox_judge.judge import WEIGHTS as BUNDLED
from benchbox_judge.metrics import EmotionAccuracy, EmotionAgreement, EmotionKl
from benchbox_judge.network import NETWORKS, both_sides
from benchbox_judge.task import TaskAgreement
from benchbox_judge.training import EmotionJudge, mix, vary

from benchbox import BenchboxError, Images, ImageSet
from benchbox.store import RunStore, class_columns, find_run

Command = Callable[..., subprocess.CompletedProcess[str]]
WEIGHTS = BUNDLED["default"]


def faces(count: int, seed: int = 0) -> Images:
    """Smooth blobs of the size of faces."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((count, 6, 6), np.float32)
    return np.ascontiguousarray(coarse.repeat(8, axis=1).repeat(8, axis=2))


def test_probabilities_add_up_to_one_whatever_the_image() -> None:
    black, white = np.zeros((1, 48, 48), np.float32), np.ones((1, 48, 48), np.float32)
    some = faces(3)
    stack = np.concatenate((black, white, some, some[:, ::-1]))
    answers = judge().log_probabilities(stack)
    assert answers.shape == (8, len(EMOTIONS))
    assert np.isfinite(answers).all()
    np.testing.assert_allclose(np.exp(answers).sum(axis=1), 1, atol=1e-12)


def test_an_answer_does_not_depend_on_the_other_faces_of_a_stack() -> None:
    stack = faces(40)
    whole, alone = judge().log_probabilities(stack), judge().log_probabilities(stack[35:36])
    np.testing.assert_allclose(whole[35:36], alone, atol=1e-4)


def test_exposure_hardly_matters() -> None:
    stack = 0.2 + 0.5 * faces(20)
    np.testing.assert_allclose(judge().log_probabilities(stack), judge().log_probabilities(stack + 0.2), atol=1e-3)


def test_colour_is_judged_by_its_luminance() -> None:
    stack = faces(4)
    colour = np.repeat(stack[..., np.newaxis], 3, axis=3)
    np.testing.assert_allclose(judge().log_probabilities(colour), judge().log_probabilities(stack), atol=1e-3)


def test_equal_faces_agree_and_have_no_divergence() -> None:
    stack = faces(20)
    assert (EmotionAgreement()(stack, stack.copy()) == 1).all()
    assert (EmotionKl()(stack, stack.copy()) == 0).all()


def test_scores_follow_from_the_probabilities() -> None:
    clean, other = faces(60, 1), faces(60, 2)
    p, q = (np.exp(judge().log_probabilities(stack)) for stack in (clean, other))
    np.testing.assert_allclose(EmotionKl()(clean, other), (p * np.log(p / q)).sum(axis=1), rtol=1e-9)
    np.testing.assert_array_equal(EmotionAgreement()(clean, other), p.argmax(axis=1) == q.argmax(axis=1))
    labels = np.arange(60) % 7
    np.testing.assert_array_equal(EmotionAccuracy().against(labels, other), q.argmax(axis=1) == labels)


@pytest.mark.parametrize("label", [-1, 8])
def test_a_label_that_is_no_emotion_is_refused(label: int) -> None:
    with pytest.raises(BenchboxError, match=f"label {label} is outside 0 to 6"):
        EmotionAccuracy().against(np.array([0, label]), faces(2))


def test_faces_labelled_other_have_no_score() -> None:
    stack = faces(3)
    labels = judge().log_probabilities(stack).argmax(axis=1)
    labels[1] = 7
    np.testing.assert_array_equal(EmotionAccuracy().against(labels, stack), [1, np.nan, 1])


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.tflite").write_bytes(WEIGHTS.read_bytes()[:1000])
    for path in (tmp_path / "cut.tflite", tmp_path / "none.tflite"):
        with pytest.raises(BenchboxError, match=path.name):
            Judge(path)


def test_a_model_of_another_shape_is_refused() -> None:
    denoiser = Path(__file__).parents[2] / "plugins/benchbox_unet/weights/ffdnet-gaussian.tflite"
    with pytest.raises(BenchboxError, match="it maps"):
        Judge(denoiser)


@pytest.mark.parametrize("recipe", BUNDLED)
def test_the_weights_are_small_and_have_a_card(recipe: str) -> None:
    path = BUNDLED[recipe]
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert path.stat().st_size < 2**20
    assert 60_000 < path.stat().st_size / 4 < 155_000  # float32, and the structure of the network
    assert (card["split"], card["validated_on"]) == ("Training", "PublicTest")
    assert bool(card["noise"]) == (recipe == "robust")
    confusion = np.array(card["confusion"])
    assert np.trace(confusion) / confusion.sum() == pytest.approx(card["accuracy"], abs=1e-4)
    if recipe == "robust":  # its epoch is chosen by faces with noise
        assert card["validation"]["accuracy"] < card["accuracy"]
    else:
        assert card["validation"]["accuracy"] == pytest.approx(card["accuracy"], abs=5e-4)
    assert card["classes"] == list(EMOTIONS)


def test_the_judges_are_two_networks_with_the_same_classes() -> None:
    stack = faces(30)
    one, other = EmotionAgreement(), EmotionAgreement(judge="robust")
    assert one.files() != other.files()
    assert np.abs(one.ask(stack) - other.ask(stack)).max() > 0.1
    np.testing.assert_array_equal(other.seen(stack), judge("robust").log_probabilities(stack).argmax(axis=1))


def test_predicting_imports_no_tensorflow() -> None:
    code = (
        "import sys, numpy as np; from benchbox_judge.judge import judge;"
        "judge().log_probabilities(np.zeros((1, 48, 48), np.float32)); print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_run_scores_faces_with_their_labels(benchbox: Command, csv: Path, tmp_path: Path) -> None:
    words = ["--metric", "psnr", "--metric", "emotion_agreement", "--metric", "emotion_accuracy"]
    benchbox("run", "identity", "--data", csv, "--noise", "gaussian:0.1", *words, "--no-timing")
    store = RunStore.open(find_run(tmp_path / "results"))
    (cell,) = store.record.cells
    scores = store.scores(cell.key)
    for name in ("emotion_agreement", "emotion_accuracy"):
        assert np.isin(scores[name], (0, 1)).all()
    assert [metric.proportion for metric in store.record.metrics] == [False, True, True]
    clean, denoised = (scores[name] for name in class_columns("emotion_agreement"))
    np.testing.assert_array_equal(clean == denoised, scores["emotion_agreement"] == 1)
    np.testing.assert_array_equal(denoised == store.images()["label_emotion"], scores["emotion_accuracy"] == 1)


def test_a_report_shows_what_the_judge_sees(benchbox: Command, csv: Path, tmp_path: Path) -> None:
    words = ["--metric", "psnr", "--metric", "emotion_agreement", "--no-timing", "--repeats", "2", "--report"]
    words += ["--previews", "1"]
    benchbox("run", "identity", "median", "--data", csv, "--noise", "gaussian:0.2", *words)
    folder = find_run(tmp_path / "results")
    page = (folder / "report.html").read_text(encoding="utf-8")
    for text in (
        "What a classifier recognises",
        "clean (ceiling)",
        "identity (noisy, floor)",
        "seen: ",
        "changed in 1 of",
    ):
        assert text in page
    assert "images seen as labelled, by emotion" in (folder / "leaderboard.md").read_text(encoding="utf-8")
    printed = benchbox("show", "--format", "terminal").stdout
    assert any(emotion in printed for emotion in EMOTIONS)
    written = json.loads(benchbox("leaderboard", "--format", "json").stdout)
    (recognition,) = written["blocks"][0]["recognition"]
    assert [row["role"] for row in recognition["rows"]].count("ceiling") == 1


def test_photographs_are_skipped_with_the_reason(benchbox: Command) -> None:
    words = ["--metric", "psnr", "--metric", "emotion_accuracy", "--limit", "2", "--no-timing", "--verbose"]
    printed = benchbox("run", "identity", "--noise", "gaussian:0.1", *words).stdout
    assert "have no label 'emotion'" in " ".join(printed.split())
    said = benchbox("run", "identity", "--limit", "2", "--metric", "emotion_accuracy", code=2).stderr
    assert "error: --metric emotion_accuracy: these images of 'sample' have no label 'emotion'" in " ".join(
        said.split()
    )


def test_any_file_may_be_the_judge() -> None:
    clean, other = faces(40, 1), faces(40, 2)
    asked = TaskAgreement(path=WEIGHTS, classes=7)
    np.testing.assert_array_equal(asked(clean, other), EmotionAgreement()(clean, other))
    large = np.ascontiguousarray(clean.repeat(2, axis=1).repeat(2, axis=2))
    with pytest.raises(BenchboxError, match=r"classes=|size="):
        TaskAgreement(path=WEIGHTS, classes=10)(clean, other)
    np.testing.assert_allclose(
        TaskAgreement(path=WEIGHTS, size=48).answers(large), TaskAgreement(path=WEIGHTS).answers(clean), atol=1e-3
    )


def onnx_judge(path: Path, side: int = 16, layout: str = "nchw") -> Path:
    """A classifier of three classes, by the mean of three rows of an image of three channels in -1 to 1."""
    onnx = pytest.importorskip("onnx")
    shape = [1, 3, side, side] if layout == "nchw" else [1, side, side, 3]
    size = 3 * side * side
    weights = np.zeros((size, 3), np.float32)
    weights[np.arange(size), np.arange(size) % 3] = np.linspace(-1, 1, size)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])],
        "judge",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, [1, 3])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_model_gets_its_own_size_channels_and_range(tmp_path: Path, layout: str) -> None:
    path = onnx_judge(tmp_path / "judge.onnx", layout=layout)
    stack = faces(5)
    asked = TaskAgreement(path=path, range="-1..1")
    small = stack.reshape(5, 16, 3, 16, 3).mean(axis=(2, 4))
    colour = np.repeat(small[..., np.newaxis], 3, axis=3) * 2 - 1
    flat = (colour.transpose(0, 3, 1, 2) if layout == "nchw" else colour).reshape(5, -1)
    weights = np.zeros((768, 3))
    weights[np.arange(768), np.arange(768) % 3] = np.linspace(-1, 1, 768)
    np.testing.assert_allclose(asked.answers(stack), flat @ weights, atol=1e-3)


def test_another_content_of_the_file_makes_other_cells(tmp_path: Path) -> None:
    from benchbox.engine.plan import plan_metrics
    from benchbox.registry import load_registry

    path = onnx_judge(tmp_path / "judge.onnx")
    (before,) = plan_metrics([f"task_agreement:path={path}"], load_registry())
    onnx_judge(path, side=24)
    (after,) = plan_metrics([f"task_agreement:path={path}"], load_registry())
    assert before.spec == after.spec
    assert before.identity != after.identity


def test_a_run_asks_the_judge_that_it_is_given(benchbox: Command, csv: Path, tmp_path: Path) -> None:
    words = ["--noise", "gaussian:0.1", "--no-timing", "--metric", "psnr", "--metric", "emotion_agreement"]
    asked = ["--judge", f"litert:path={WEIGHTS},classes=7"] * 2  # the second one says nothing new
    benchbox("run", "identity", "--data", csv, *words, *asked)
    store = RunStore.open(find_run(tmp_path / "results"))
    (cell,) = store.record.cells
    scores = store.scores(cell.key)
    np.testing.assert_array_equal(scores[store.record.metrics[2].spec], scores["emotion_agreement"])
    assert store.record.metrics[2].title == f"task kept by {WEIGHTS.stem}"  # no table has room for all options
    for wrong, reason in (
        ("onnx", "it names no file"),
        ("torch:path=judge.pt", "torch is not auto|keras|onnx|litert"),
        (f"onnx:path={tmp_path / 'none.onnx'}", "there is no such file"),
        (f"litert:path={WEIGHTS},kinds=7", "has no option 'kinds'"),
        (f"litert:path={WEIGHTS},range=1..0", "black must be below white"),
    ):
        said = " ".join(benchbox("run", "identity", *words, "--judge", wrong, code=2).stderr.split())
        assert said.startswith(f"error: --judge {wrong}: ")
        assert reason in said
        assert "hint: write --judge onnx:path=judge.onnx" in said
    said = benchbox("run", "identity", "--data", csv, "--metric", "task_agreement", code=2).stderr
    assert "task_agreement needs a model" in said


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"path": Path("none.onnx")}, "there is no such file"),
        ({"path": Path(__file__)}, "the name of a model file ends in"),
        ({"range": "1..0"}, "black must be below white"),
        ({"range": "dark"}, "is not two numbers"),
        ({"size": -1}, "is outside 0 to 1024"),
    ],
)
def test_options_of_a_judge_are_checked(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TaskAgreement(**options)


def test_a_size_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(BenchboxError, match="it takes images of 48 x 48 pixels, not size=64") as raised:
        TaskAgreement(path=WEIGHTS, size=64).answers(faces(2))
    assert raised.value.hint == "omit size="


@pytest.mark.parametrize("name", ["judge.onnx", "judge.tflite"])
def test_a_file_that_is_no_model_is_refused_as_a_judge(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"no model" * 20)
    with pytest.raises(BenchboxError, match=f"^judge .*{name} cannot be opened as an? ") as raised:
        TaskAgreement(path=path).answers(faces(2))
    assert raised.value.hint.startswith("use another file")


def test_layers_beside_weights_are_part_of_a_judge(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "judge.weights.h5"
    with h5py.File(path, "w"):
        pass
    (tmp_path / "judge.json").write_text('{"class_name": "Functional", "config": {"layers": []}}', encoding="ascii")
    assert TaskAgreement(path=path).files() == [path, tmp_path / "judge.json"]


def test_a_denoiser_is_no_judge() -> None:
    network = Path(__file__).parents[2] / "plugins/benchbox_unet/weights/unet-gaussian.tflite"
    with pytest.raises(BenchboxError, match="it answers with shape"):
        TaskAgreement(path=network)(faces(2), faces(2, 1))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", BUNDLED)
def test_training_writes_a_judge_that_answers_as_keras_does(tmp_path: Path, recipe: str) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 256)
    stack = faces(256) * np.float32(0.5)
    stack[labels == 1, 12:36, 12:36] += 0.5
    ids, shapes = tuple(map(str, range(256))), np.full((256, 2), 48)
    images = ImageSet("faces", "", ids, shapes, "", lambda indices: stack[indices], {"emotion": labels})
    classifier = EmotionJudge()
    told = replace(classifier.recipes[recipe], epochs=3, batch_size=64)
    steps = list(classifier.fit(recipe, told, images, images, None, seed=0, budget_s=None))
    assert [step.epoch for step in steps if step.accuracy is not None] == [1, 2, 3]
    assert len(steps) == 3 * (256 // 64 + 1)
    path = classifier.save(tmp_path)
    answers = classifier.probabilities(path, stack[:40])
    logits = np.asarray(classifier._kept(stack[:40, ..., np.newaxis], training=False), np.float64)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(answers, expected / expected.sum(axis=1, keepdims=True), atol=1e-4)


def test_variants_of_a_face_stay_in_range_and_sharp() -> None:
    stack = faces(200)
    varied = vary(stack, np.random.default_rng(0))
    assert varied.min() >= 0
    assert varied.max() <= 1
    edges = [np.abs(np.diff(images, axis=2)).max(axis=(1, 2)).mean() for images in (stack, varied)]
    assert edges[1] > 0.7 * edges[0]
    np.testing.assert_array_equal(varied, vary(stack, np.random.default_rng(0)))


def test_variants_of_a_face_are_mirrored_moved_or_turned_about_its_centre() -> None:
    face = np.zeros((48, 48), np.float32)
    face[23:25, 9:13] = 1  # a bar of 4 by 2 pixels on the left of the centre
    varied = vary(np.repeat(face[np.newaxis], 400, axis=0), np.random.default_rng(0))
    bright = varied - np.median(varied, axis=(1, 2), keepdims=True)
    bright[bright < 0.3] = 0
    seen = bright[bright.any(axis=(1, 2))]  # a rectangle may cover the bar
    rows, columns = np.indices((48, 48))
    down = (seen * rows).sum(axis=(1, 2)) / seen.sum(axis=(1, 2)) - 23.5
    right = (seen * columns).sum(axis=(1, 2)) / seen.sum(axis=(1, 2)) - 23.5
    assert len(seen) > 300
    assert 0.4 < (right < 0).mean() < 0.6
    assert np.abs(right).min() > 13 - 4 - 2
    assert np.abs(right).max() < 13 + 4 + 2
    assert 3 < np.abs(down).max() < 4 + 13 * np.sin(np.deg2rad(12)) + 1


def test_mixed_faces_carry_the_targets_of_both() -> None:
    stack, targets = np.zeros((500, 48, 48), np.float32), np.eye(7, dtype=np.float32)[np.arange(500) % 7]
    stack += np.arange(500, dtype=np.float32)[:, np.newaxis, np.newaxis] % 7
    mixed, told = mix(stack, targets, np.random.default_rng(0))
    np.testing.assert_allclose(told.sum(axis=1), 1, atol=1e-6)
    assert told.max(axis=1).min() >= 0.5
    np.testing.assert_allclose(mixed[:, 0, 0], told @ np.arange(7), atol=1e-5)
    assert (told.argmax(axis=1) == np.arange(500) % 7).all()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", NETWORKS)
def test_a_face_and_its_mirror_image_get_the_same_answer(recipe: str) -> None:
    network = both_sides(NETWORKS[recipe]("float32"))
    stack = faces(20)[..., np.newaxis]
    answers, mirrored = (network.predict(images, verbose=0) for images in (stack, stack[:, :, ::-1]))
    np.testing.assert_allclose(answers, mirrored, atol=1e-5)
    assert np.abs(np.diff(answers, axis=0)).max() > 1e-3
