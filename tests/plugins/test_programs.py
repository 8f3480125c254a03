"""Programs as denoisers, and the authors' BM3D: what they are given, and what is said where they fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import benchbox_adapters
import numpy as np
import pytest
from benchbox_adapters.command import Command as Program
from benchbox_adapters.fitting import picture
from made_models import mean3, noisy

from benchbox import BenchboxError
from benchbox.engine.plan import plan_denoisers
from benchbox.registry import load_registry
from benchbox.testing import check_denoiser

Command = Callable[..., subprocess.CompletedProcess[str]]
EXAMPLE = Path(benchbox_adapters.__file__).parent / "examples" / "mean3.c"


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
        assert not labels & {"bm3d_reference", "command", "keras", "litert", "onnx", "torch"}

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
