"""Plugins are found, loaded and looked up; broken ones are one line each and take nothing along."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchbox import BenchboxError
from benchbox.engine.shard import failure_of
from benchbox.records.run import PluginSpec
from benchbox.registry import Registry, first_line, load_plugin, load_registry

pytestmark = pytest.mark.process

Command = Callable[..., subprocess.CompletedProcess[str]]
FIXTURES = Path(__file__).parents[1] / "fixtures"

GOOD = """
from benchbox import Denoiser, hookimpl
class Box(Denoiser):
    name = "{name}"
    summary = "mean of a square"
    def denoise(self, noisy, sigma):
        return noisy
@hookimpl
def benchbox_denoisers():
    return [Box]
"""
CLASS = """
from benchbox import Denoiser, NoiseModel, hookimpl
{body}
@hookimpl
def benchbox_denoisers():
    return {offer}
"""
BROKEN = {
    "import error": ("import no_such_module", "ModuleNotFoundError", ""),
    "syntax error": ("def f(:\n  pass", "SyntaxError", ""),
    "raises on import": ("raise RuntimeError('no licence')", "RuntimeError: no licence", ""),
    "misspelt hook": (
        "from benchbox import hookimpl\n@hookimpl\ndef benchbox_denoiser():\n    return []",
        "there is no hook 'benchbox_denoiser'",
        "did you mean 'benchbox_denoisers'",
    ),
    "hook raises": (CLASS.format(body="", offer="1 / 0"), "ZeroDivisionError", ""),
    "hook returns a class": (CLASS.format(body="", offer="Denoiser"), "not a list", "Denoiser subclasses"),
    "hook returns a number": (CLASS.format(body="", offer="3"), "not a list", ""),
    "hook takes an argument": (
        "from benchbox import hookimpl\n@hookimpl\ndef benchbox_denoisers(size):\n    return []",
        "size",
        "",
    ),
    "an object": (CLASS.format(body="", offer="[3]"), "not a class", "return the class"),
    "another class": (CLASS.format(body="class A: name = 'a'", offer="[A]"), "is not a Denoiser", "benchbox.Denoiser"),
    "no name": (
        CLASS.format(body="class A(Denoiser):\n    def denoise(self, noisy, sigma): return noisy", offer="[A]"),
        "has no name",
        "name = 'a'",
    ),
    "no denoise": (CLASS.format(body="class A(Denoiser): name, summary = 'a', ''", offer="[A]"), "lacks denoise", ""),
    "invalid name": (
        CLASS.format(
            body="class A(Denoiser):\n    name = summary = '../A'\n    def denoise(self, noisy, sigma): return noisy",
            offer="[A]",
        ),
        "not a valid name",
        "lower-case",
    ),
    "option without default": (
        CLASS.format(
            body="class A(Denoiser):\n    name = summary = 'a'\n    def __init__(self, *, size: int): ...\n"
            "    def denoise(self, noisy, sigma): return noisy",
            offer="[A]",
        ),
        "no default",
        "",
    ),
    "option of an unknown type": (
        CLASS.format(
            body="class A(Denoiser):\n    name = summary = 'a'\n    def __init__(self, *, size: list[int] = []): ...\n"
            "    def denoise(self, noisy, sigma): return noisy",
            offer="[A]",
        ),
        "has type list[int], which text cannot be turned into",
        "use bool, int",
    ),
    "option without type": (
        CLASS.format(
            body="class A(Denoiser):\n    name = summary = 'a'\n    def __init__(self, *, size=None): ...\n"
            "    def denoise(self, noisy, sigma): return noisy",
            offer="[A]",
        ),
        "has no type",
        "annotate it",
    ),
    "hook without its mark": (
        "from benchbox import Denoiser\ndef benchbox_denoisers():\n    return []",
        "benchbox_denoisers is not marked as a hook",
        "@benchbox.hookimpl",
    ),
    "exits on import": ("raise SystemExit(0)", "SystemExit", ""),
    "hook exits": (CLASS.format(body="", offer="exit(3)"), "SystemExit", ""),
}


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_bundled_plugins_come_through_their_entry_points() -> None:
    registry = load_registry()
    assert registry.broken == []
    median = registry.denoiser("median")
    assert (median.provider.kind, median.provider.distribution) == ("entry point", "benchbox-denoise")
    assert registry.noise_model("gaussian").provider.kind == "built in"
    assert "psnr" in registry.metrics
    assert "fer2013" in registry.datasets


@pytest.fixture(scope="module")
def beside_broken_ones(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Every broken plugin and a good one, loaded from one folder."""
    folder = tmp_path_factory.mktemp("plugins")
    for fault, (text, _, _) in BROKEN.items():
        write(folder, f"{fault}.py", text)
    write(folder, "good.py", GOOD.format(name="box3"))
    return load_registry(folders=[folder])


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_a_line_and_the_rest_goes_on(fault: str, beside_broken_ones: Registry) -> None:
    _, reason, hint = BROKEN[fault]
    assert "box3" in beside_broken_ones.denoisers
    (broken,) = (each for each in beside_broken_ones.broken if Path(each.provider.target).stem == fault)
    assert reason in broken.reason
    assert "\n" not in broken.reason
    assert hint in broken.hint


def test_a_plugin_that_was_asked_for_must_work(tmp_path: Path) -> None:
    with pytest.raises(BenchboxError, match="no_such_module"):
        load_registry(files=[write(tmp_path, "bad.py", "import no_such_module")])
    with pytest.raises(BenchboxError, match="no such file"):
        load_registry(files=[tmp_path / "missing.py"])
    with pytest.raises(BenchboxError, match="no such folder"):
        load_registry(folders=[tmp_path / "missing"])


def test_a_name_offered_twice_names_both(tmp_path: Path) -> None:
    first = write(tmp_path, "first.py", GOOD.format(name="box3"))
    second = write(tmp_path, "second.py", GOOD.format(name="box3"))
    registry = load_registry(folders=[tmp_path])
    with pytest.raises(BenchboxError) as caught:
        registry.denoiser("box3")
    assert str(first) in caught.value.message
    assert str(second) in caught.value.message


def test_an_unknown_name_gets_a_suggestion() -> None:
    registry = load_registry()
    with pytest.raises(BenchboxError) as caught:
        registry.denoiser("medain")
    assert caught.value.hint == "did you mean 'median'?"


def test_the_reason_of_a_broken_plugin_comes_when_its_name_is_used(tmp_path: Path) -> None:
    text, _, _ = BROKEN["option without default"]
    write(tmp_path, "bad.py", text)
    with pytest.raises(BenchboxError, match="no default"):
        load_registry(folders=[tmp_path]).denoiser("a")


def test_nothing_is_loaded_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "benchbox_evil.py", GOOD.format(name="evil"))
    (tmp_path / "plugins").mkdir()
    write(tmp_path / "plugins", "evil.py", GOOD.format(name="evil"))
    monkeypatch.chdir(tmp_path)
    assert "evil" not in load_registry().denoisers


def test_only_the_hooks_that_are_asked_for_are_called(tmp_path: Path) -> None:
    file = tmp_path / "both.py"
    file.write_text(
        "from pathlib import Path\n"
        "import benchbox\n"
        "class Own(benchbox.ImageDenoiser):\n"
        "    name = 'own'\n"
        "    def denoise_image(self, noisy, sigma): return noisy\n"
        "@benchbox.hookimpl\n"
        "def benchbox_denoisers(): return [Own]\n"
        "@benchbox.hookimpl\n"
        f"def benchbox_metrics(): Path({str(tmp_path / 'called')!r}).touch(); return []\n"
    )
    provider = load_registry([file]).denoisers["own"].provider
    assert (tmp_path / "called").exists()
    (tmp_path / "called").unlink()
    registry = Registry()
    registry.add(provider, ["benchbox_denoisers"])
    assert list(registry.denoisers) == ["own"]
    assert not (tmp_path / "called").exists()


def test_a_class_is_found_again_from_its_provider(tmp_path: Path) -> None:
    registry = load_registry(files=[write(tmp_path, "good.py", GOOD.format(name="box3"))])
    entry = registry.denoiser("box3")
    assert load_plugin(entry.plugin, "benchbox_denoisers").cls is entry.cls
    with pytest.raises(BenchboxError, match="no longer offers 'box5'"):
        load_plugin(PluginSpec(entry.provider, "box5"), "benchbox_denoisers")


def test_the_listing_says_where_each_plugin_came_from_and_why_one_is_broken(benchbox: Command, tmp_path: Path) -> None:
    write(tmp_path, "good.py", GOOD.format(name="box3"))
    write(tmp_path, "twice.py", GOOD.format(name="median"))
    write(tmp_path, "bad.py", "import no_such_module")
    shown = benchbox("plugins", "list", "--plugins-dir", ".").stdout
    assert "benchbox-denoise 0.1.0 (benchbox_filters)  (entry point)" in shown
    assert "(built in)" in shown
    assert f"{tmp_path}/good.py  (file)\n    denoisers: box3\n" in shown
    assert f"broken: {tmp_path}/bad.py: ModuleNotFoundError: No module named 'no_such_module' (hint: " in shown
    assert (
        f"broken: {tmp_path}/twice.py: 'median' is also offered by benchbox-denoise 0.1.0 (benchbox_filters)" in shown
    )
    assert "Traceback" not in shown
    found = json.loads(benchbox("plugins", "list", "--plugins-dir", ".", "--format", "json").stdout)
    assert {"from": f"{tmp_path}/good.py", "kind": "file", "offers": {"denoisers": ["box3"]}} in found["plugins"]
    assert {Path(one["from"]).name for one in found["broken"]} == {"bad.py", "twice.py"}
    assert all(one["reason"] and one["hint"] for one in found["broken"])


def unpack(package: Path, target: Path) -> None:
    """Lay a package out as its installed wheel does, without the tools and the network that building one takes."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    word = project["name"].replace("-", "_")
    shutil.copy(package / f"{word}.py", target)
    info = target / f"{word}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["benchbox"].items())
    (info / "entry_points.txt").write_text(f"[benchbox]\n{points}")


@pytest.mark.slow
def test_a_package_of_somebody_else_is_found_and_used(process: Command, tmp_path: Path) -> None:
    """Its denoiser, its noise and its metric, by the entry point that its metadata name."""
    (tmp_path / "site").mkdir()
    unpack(FIXTURES / "benchbox-shrink", tmp_path / "site")
    here = {"PYTHONPATH": str(tmp_path / "site")}
    found = json.loads(process("plugins", "list", "--format", "json", **here).stdout)
    (one,) = [plugin for plugin in found["plugins"] if plugin["from"] == "benchbox-shrink 1.2 (benchbox_shrink)"]
    assert one["offers"] == {"denoisers": ["shrink"], "noises": ["dead"], "metrics": ["worst"]}
    arguments = "--noise", "dead:0.2", "--metric", "psnr", "--metric", "worst", "--limit", "5", "--no-timing"
    process("run", "shrink:strength=2", "identity", *arguments, **here)
    board = process("leaderboard", "--format", "json", **here).stdout
    for word in ("shrink:strength=2", "dead:0.2", "worst"):
        assert word in board
    assert "0 fail" in process("plugins", "check", "shrink", **here).stdout


@pytest.mark.parametrize(
    ("code", "summary"),
    [
        ('class A(Denoiser):\n    """Mean of a square.\n\n    More."""\n    name = "a"\n', "Mean of a square."),
        ('class A(Denoiser):\n    name = "a"\n', "a"),
    ],
)
def test_a_class_without_hook_and_summary_is_a_plugin(code: str, summary: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"from benchbox import Denoiser\n{code}    def denoise(self, noisy, sigma): return noisy\n")
    assert load_registry([file]).denoisers["a"].cls.summary == summary


def test_an_option_without_annotation_has_the_type_of_its_default(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from benchbox import Denoiser\nclass A(Denoiser):\n    name = 'a'\n"
        "    def __init__(self, *, size=3): self.size = size\n    def denoise(self, noisy, sigma): return noisy\n"
    )
    registry = load_registry([file])
    assert registry.denoiser("a:size=5").values == {"size": 5}
    with pytest.raises(BenchboxError, match="size=x is not a whole number"):
        registry.denoiser("a:size=x")


def test_a_function_is_a_plugin(tmp_path: Path) -> None:
    functions = {
        "My-Filter 1": ("def denoise(noisy, sigma):\n    return noisy - sigma[:, None, None]", "optional"),
        "My-Filter 2": ("def denoise_image(noisy, sigma=None):\n    return noisy - sigma", "optional"),
        "My-Filter 3": ("def denoise(noisy):\n    return noisy - 0.25", "unused"),
    }
    for name, (code, _) in functions.items():
        (tmp_path / f"{name}.py").write_text(f"from numpy import *\n{code}\n")
    registry = load_registry([tmp_path / f"{name}.py" for name in functions])
    levels = np.full(2, 0.25, np.float32)
    for name, (_, sigma) in functions.items():
        entry = registry.denoiser(name.lower().replace("-", "_").replace(" ", "_"))
        assert entry.cls.capabilities.sigma == sigma
        denoised = entry.make().denoise(np.ones((2, 3, 4), np.float32), levels)
        assert np.array_equal(denoised, np.full((2, 3, 4), 0.75))
        again = load_plugin(entry.plugin, "benchbox_denoisers").make()
        assert pickle.loads(pickle.dumps(again)).__class__ is entry.cls


def test_the_class_of_a_function_is_found_by_name_wherever_its_file_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def denoise(noisy): return noisy\n")
    entry = load_registry([file]).denoiser("mine")
    code = "import sys; from benchbox.registry import load_module; from benchbox.records.run import Provider;"
    code += "print(getattr(load_module(Provider(*sys.argv[1:])), 'FunctionDenoiser').name)"
    given = (entry.provider.kind, entry.provider.target, entry.provider.version)
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=True)
    assert done.stdout == "mine\n"


def test_modules_beside_a_plugin_file_are_its_own_and_part_of_its_identity(tmp_path: Path) -> None:
    plugin = "import helper, sys\ndef denoise(noisy): return noisy * helper.FACTOR\n"
    versions = set()
    for folder, factor in (("one", 2), ("two", 3)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "helper.py").write_text(f"FACTOR = {factor}\n")
        file = tmp_path / folder / f"plugin_{folder}.py"
        file.write_text(plugin)
        entry = load_registry([file]).denoiser(f"plugin_{folder}")
        assert entry.make().denoise(np.ones((1, 2, 2), np.float32), None).max() == factor
        versions.add(entry.provider.version)
    (tmp_path / "one" / "helper.py").write_text("FACTOR = 4\n")
    versions.add(load_registry([tmp_path / "one/plugin_one.py"]).denoiser("plugin_one").provider.version)
    assert len(versions) == 3


BESIDE = {
    "np.load('weights.npz')": "weights.npz",
    "open('models/weights.npz')": "models/weights.npz",
    "raise RuntimeError('cannot load weights.npz')": "weights.npz",
    "np.load('other.npz')": "",
    "np.load('here.npz')": "",
    "raise RuntimeError(f'{FOLDER}/weights.npz is damaged')": "",
}
"""What fails in a plugin, and the file beside the plugin that would have been right."""


def test_a_file_that_is_beside_the_plugin_is_pointed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "plugin"
    (folder / "models").mkdir(parents=True)
    for name in ("weights.npz", "models/weights.npz", "here.npz"):
        (folder / name).touch()
    (tmp_path / "here.npz").touch()
    monkeypatch.chdir(tmp_path)
    head = f"import numpy as np\nFOLDER = {str(folder)!r}\n"
    for place, body in enumerate(BESIDE):
        (folder / f"late{place}.py").write_text(f"{head}def denoise(noisy): {body}\n")
        (folder / f"early{place}.py").write_text(f"{head}{body}\ndef denoise(noisy): return noisy\n")
    registry = load_registry(sorted(folder.glob("*.py")), forgiving=True)
    reasons = {Path(broken.provider.target).stem: broken.reason for broken in registry.broken}
    assert len(reasons) == len(BESIDE)
    for place, (body, said) in enumerate(BESIDE.items()):
        remedy = f'(it is beside the plugin: open Path(__file__).parent / "{said}")'
        with pytest.raises(Exception) as caught:
            registry.denoiser(f"late{place}").make().denoise(np.ones((1, 2, 2), np.float32), None)
        for reason in (first_line(caught.value), failure_of(caught.value).reason, reasons[f"early{place}"]):
            assert (remedy in reason) if said else ("it is beside" not in reason), body
