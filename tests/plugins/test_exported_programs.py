"""Exported programs of PyTorch, `.pt2`: what is opened, what is refused, and that no hostile one runs anything."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from benchbox_adapters import exported
from benchbox_adapters.checkpoints import describe, read_state
from benchbox_adapters.recogniser import recognise
from made_checkpoints import Harm, equal
from made_networks import Drunet, Kair, KairFfdnet, Milesial, randomised

from benchbox import BenchboxError


def save_program(file: Path, net: Any = None, arguments: Any = None, shapes: Any = None) -> Any:
    net = randomised(Kair()) if net is None else net
    arguments = (torch.rand(2, 1, 16, 16),) if arguments is None else arguments
    program = torch.export.export(net, arguments, dynamic_shapes=shapes)
    torch.export.save(program, file)
    return net


def rewrite(file: Path, entry: str, change: Callable[[bytes], bytes]) -> None:
    """Change one entry of a zip."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(entries)).partition("/")[0]
    entries[f"{root}/{entry}"] = change(entries.get(f"{root}/{entry}", b""))
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("programs") / "program.pt2"
    any_size = torch.export.Dim.DYNAMIC
    save_program(file, shapes=({0: any_size, 2: any_size, 3: any_size},))
    with zipfile.ZipFile(file) as archive:
        if not any(name.endswith("/models/model.json") for name in archive.namelist()):
            pytest.skip("this torch writes programs of the older format, which are refused")
    return file


@pytest.fixture
def pt2(program: Path, tmp_path: Path) -> Path:
    file = tmp_path / "model.pt2"
    file.write_bytes(program.read_bytes())
    return file


@pytest.mark.slow  # to export one program takes three seconds
def test_an_exported_program_gives_its_weights_and_runs(pt2: Path) -> None:
    net = randomised(Kair())
    found = describe(pt2)
    assert found.safe, found.unsafe
    assert recognise(found.tensors)[0].architecture == "DnCNN"
    assert equal(read_state(pt2).tensors, net.state_dict())
    opened = exported.open_program(pt2)
    images = torch.rand(3, 1, 20, 24)
    torch.testing.assert_close(opened(images), net(images))


@pytest.mark.slow
@pytest.mark.usefixtures("program")
def test_programs_of_other_networks_pass_the_look_inside(tmp_path: Path) -> None:
    any_size = torch.export.Dim.DYNAMIC
    image = {0: any_size, 2: any_size, 3: any_size}
    cases: list[tuple[Any, Any, Any]] = [
        (Milesial(bilinear=True), (torch.rand(2, 1, 64, 64),), (image,)),
        (Drunet(), (torch.rand(2, 2, 64, 64),), (image,)),
        (KairFfdnet(), (torch.rand(2, 1, 16, 16), torch.rand(2)), (image, {0: any_size})),
    ]
    for made, arguments, shapes in cases:
        file = tmp_path / f"{type(made).__name__}.pt2"
        net = save_program(file, randomised(made), arguments, shapes)
        assert not exported.inspect(file).unsafe
        torch.testing.assert_close(exported.open_program(file)(*arguments), net(*arguments))


def edit_graph(change: Callable[[Any], object]) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        graph = json.loads(content)
        change(graph)
        return json.dumps(graph).encode()

    return edit


def pickled_harm(marker: Path) -> bytes:
    import io

    stream = io.BytesIO()
    torch.save(((torch.zeros(1), Harm(marker)), {}), stream)
    return stream.getvalue()


MODEL = "models/model.json"

WEIGHTS = "data/weights/model_weights_config.json"

Change = Callable[[Path, str], tuple[str, Callable[[bytes], bytes]]]


def first(graph: Any, room: str) -> Any:
    return graph["graph_module"]["graph"][room][0]


# What a hostile program does, how, and what the refusal names. The code touches the marker.
HOSTILE: dict[str, tuple[Change, str]] = {
    "sample inputs": (
        lambda marker, code: ("data/sample_inputs/model.pt", lambda _: pickled_harm(marker)),
        "its sample inputs name posix.system",
    ),
    "an operator": (
        lambda marker, code: (
            MODEL,
            edit_graph(
                lambda g: first(g, "nodes").update(
                    target="torch.os.system", inputs=[{"name": "c", "arg": {"as_string": f"touch {marker}"}, "kind": 1}]
                )
            ),
        ),
        "the operator 'torch.os.system'",
    ),
    "an expression": (
        lambda marker, code: (
            MODEL,
            edit_graph(
                lambda g: g["graph_module"]["graph"]["tensor_values"]["conv2d"]["sizes"].__setitem__(
                    0, {"as_expr": {"expr_str": code, "hint": None}}
                )
            ),
        ),
        "which torch evaluates as Python",
    ),
    "an expression without quotes": (
        lambda marker, code: (
            MODEL,
            edit_graph(
                lambda g: g["graph_module"]["graph"]["tensor_values"]["conv2d"]["sizes"].__setitem__(
                    0, {"as_expr": {"expr_str": "exec(" + "+".join(f"chr({ord(c)})" for c in code) + ")", "hint": None}}
                )
            ),
        ),
        "which torch evaluates as Python",
    ),
    "a guard": (
        lambda marker, code: (MODEL, edit_graph(lambda g: g.update(guards_code=[f"{code} == 0"]))),
        "the guard '__import__",
    ),
    "a name": (
        lambda marker, code: (MODEL, lambda content: content.replace(b'"x"', json.dumps(f"x={code}").encode())),
        "where a name belongs|the name 'x=",
    ),
    "a pickled weight": (
        lambda marker, code: (WEIGHTS, lambda content: content.replace(b'"use_pickle": false', b'"use_pickle": true')),
        "is pickled",
    ),
    "a custom object": (
        lambda marker, code: (WEIGHTS, lambda content: content.replace(b'"weight_0"', b'"custom_obj_0"')),
        "is a custom object",
    ),
    "an import": (
        lambda marker, code: (
            MODEL,
            lambda content: content.replace(
                b'\\"context\\": \\"null\\"',
                b'\\"context\\": \\"{\\\\\\"__enum__\\\\\\": 1, \\\\\\"fqn\\\\\\": \\\\\\"antigravity:X\\\\\\"}\\"',
            ),
        ),
        "a class to import",
    ),
    "a library": (lambda marker, code: ("data/aotinductor/model/model.so", lambda _: b"\x7fELF"), "machine code"),
    "a second program": (lambda marker, code: ("models/other.json", lambda _: b"{}"), "another program"),
    "pickled weights of before": (lambda marker, code: ("data/weights/model.pt", lambda _: b""), "it has a pickle"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_program_is_refused_and_runs_nothing(kind: str, pt2: Path, marker: Path) -> None:
    change, message = HOSTILE[kind]
    code = f"__import__('os').system('touch {marker}')"
    entry, edit = change(marker, code)
    before = pt2.read_bytes()
    rewrite(pt2, entry, edit)
    assert pt2.read_bytes() != before
    for use in (read_state, exported.open_program):
        with pytest.raises(BenchboxError, match=message) as caught:
            use(pt2)
        assert "state_dict()" in caught.value.hint
    assert not describe(pt2).safe
    assert not marker.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sample inputs", "an expression", "a guard", "a name"])
def test_torch_itself_would_run_a_hostile_program(kind: str, pt2: Path, marker: Path) -> None:
    """Shows that each refusal has a reason: the same file runs its code when `torch.export` loads and calls it."""
    change, _ = HOSTILE[kind]
    rewrite(pt2, *change(marker, f"__import__('os').system('touch {marker}')"))
    code = f"import torch; m = torch.export.load({str(pt2)!r}).module(); m(torch.rand(2, 1, 16, 16))"
    subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300)
    assert marker.exists()


@pytest.mark.slow
def test_two_entries_of_one_name_are_refused(pt2: Path) -> None:
    """Which of them is read depends on the reader of the zip."""
    with zipfile.ZipFile(pt2, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        name = next(name for name in archive.namelist() if name.endswith("model.json"))
        archive.writestr(name, archive.read(name))
    with pytest.raises(BenchboxError, match="entries of the same name"):
        read_state(pt2)


def test_a_program_of_an_older_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.pt2"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("serialized_exported_program.json", "serialized_state_dict.json", "version"):
            archive.writestr(name, "{}")
    with pytest.raises(BenchboxError, match="an older format"):
        read_state(file)
