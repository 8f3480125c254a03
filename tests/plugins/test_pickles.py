"""Pickles are followed on paper: every global is named, shapes are read, and nothing that a file asks for happens."""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import pickle
import pickletools
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchbox_adapters.checkpoints import describe, read_state
from benchbox_adapters.pickle_machine import Call, TensorHeader
from benchbox_adapters.pickles import SAFE_GLOBALS, read_pickles, read_stream
from hypothesis import example, given
from hypothesis import strategies as st

from benchbox import BenchboxError

MAGIC = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.marker}'",)


def as_zip(file: Path, content: bytes, name: str = "archive/data.pkl") -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
        archive.writestr("archive/version", "3\n")


def as_legacy(file: Path, content: bytes) -> None:
    file.write_bytes(b"".join(pickle.dumps(part, 2) for part in MAGIC) + content + pickle.dumps([], 2))


def as_tar(file: Path, content: bytes) -> None:
    with tarfile.open(file, "w") as archive:
        for name, inner in (("sys_info", pickle.dumps({})), ("pickle", content)):
            info = tarfile.TarInfo(name)
            info.size = len(inner)
            archive.addfile(info, io.BytesIO(inner))


CONTAINERS: dict[str, Callable[[Path, bytes], object]] = {
    "zip": as_zip,
    "legacy": as_legacy,
    "tar": as_tar,
    "pickle": lambda file, content: file.write_bytes(content),
}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_hostile_pickle_is_named_and_runs_nothing(
    container: str, protocol: int, tmp_path: Path, marker: Path
) -> None:
    """In every container and protocol, `os.system` among the weights is named before anything is loaded."""
    file = tmp_path / "model.pth"
    CONTAINERS[container](file, pickle.dumps({"state_dict": {"a": Harm(marker)}, "epoch": 3}, protocol))
    found = read_pickles(file)
    assert found.container == container
    assert found.refused == ("posix.system",)
    assert describe(file).refused == ("posix.system",)
    with pytest.raises(BenchboxError, match=r"posix\.system") as caught:
        read_state(file)
    assert "safetensors" in caught.value.hint
    assert not marker.exists()
    if container == "pickle":  # and it would have run
        pickle.loads(file.read_bytes())
        assert marker.exists()


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nS'true'\no.", "os.system"),
        (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x04true\x85R.", "os.system"),
        # The names of STACK_GLOBAL come back from the memo, over a detour.
        (b"\x80\x04\x8c\x06system\x94\x8c\x02os\x9400h\x01h\x00\x93)R.", "os.system"),
        (b"\x80\x02c__builtin__\neval\nU\x011\x85R.", "builtins.eval"),
        (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x86\x8c\x06system\x93.", "(computed).system"),
        (b"\x80\x02\x82\x01.", "copyreg.ext1 1"),
        (b"\x80\x05\x97.", "pickle.next_buffer"),
        (b"cos\nsystem\nU\x04true\x85R\xff", "os.system"),  # damaged behind the call, which would still run
    ],
)
def test_every_way_of_naming_a_global_is_found(stream: bytes, name: str) -> None:
    found = read_stream(io.BytesIO(stream))
    assert found.globals == (name,)
    assert name not in SAFE_GLOBALS


def test_a_stream_ends_where_its_pickle_ends() -> None:
    file = io.BytesIO(pickle.dumps(1, 2) + pickle.dumps("two", 4) + b"rest")
    assert [read_stream(file).value, read_stream(file).value] == [1, "two"]
    assert file.read() == b"rest"


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner) | st.tuples(inner)
    ),
    max_leaves=20,
)


@given(plain, st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_read_as_pickle_reads_them(value: Any, protocol: int) -> None:
    """Bytes are a call of `_codecs.encode` or `bytes` before protocol 3; everything else comes back equal."""
    content = pickle.dumps(value, protocol)
    found = read_stream(io.BytesIO(content))
    assert not found.damage
    if not found.globals:
        assert found.value == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_called_damaged(content: bytes) -> None:
    found = read_stream(io.BytesIO(content))
    assert found.damage or found.value is not found


@given(plain, st.data())
def test_a_cut_pickle_is_damaged(value: Any, data: st.DataObject) -> None:
    content = pickle.dumps(value)
    cut = data.draw(st.integers(0, len(content) - 1))
    assert read_stream(io.BytesIO(content[:cut])).damage


def test_opcodes_that_the_safe_loader_does_not_read_are_named(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    as_zip(file, pickle.dumps({"a": {"b": 1}}, 4))
    assert "MEMOIZE" in read_pickles(file).opcodes
    assert not read_pickles(file).refused
    assert "another protocol (FRAME, " in describe(file).unsafe


def test_an_object_keeps_its_state_without_being_made(tmp_path: Path) -> None:
    file = tmp_path / "args.pth"
    as_zip(file, pickle.dumps(argparse.Namespace(lr=0.1, name="x"), 2))
    (value,) = [read_pickles(file).value]
    assert isinstance(value, Call)
    assert value.state == {"lr": 0.1, "name": "x"}
    assert read_pickles(file).refused == ("argparse.Namespace",)


def test_a_dictionary_that_contains_itself_is_read_to_an_end(tmp_path: Path) -> None:
    value: dict[str, Any] = {}
    value["state_dict"] = value["model"] = value
    ordered: Any = collections.OrderedDict(state_dict=[value])
    for inner in (value, ordered):
        file = tmp_path / "model.pth"
        as_zip(file, pickle.dumps(inner, 2))
        assert describe(file).tensors == {}
        with pytest.raises(BenchboxError, match="holds no state dict"):
            read_state(file)


def test_a_module_that_contains_itself_is_read_to_an_end(tmp_path: Path) -> None:
    module = argparse.Namespace(_parameters={}, _modules={})
    module._modules.update(a=module, b=module)
    file = tmp_path / "model.pth"
    as_zip(file, pickle.dumps(module, 2))
    assert describe(file).refused == ("argparse.Namespace",)


def test_a_pickle_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "bomb.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02]" + b"K\x01a" * 25_000_000 + b".")
    assert file.stat().st_size < 1_000_000
    assert "MiB of pickle" in describe(file).unsafe


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", b"clean words about a model", "neither a PyTorch nor a safetensors file"),
        ("empty.pth", b"", "neither a PyTorch nor a safetensors file"),
        ("keras.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "neither a PyTorch nor a safetensors file"),
        ("lfs.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        ("cut.pth", b"PK\x03\x04 and no end", "damaged zip"),
        ("cut.safetensors", (10).to_bytes(8, "little") + b"{'a': 1}  ", "header cannot be read"),
        ("list.safetensors", (9).to_bytes(8, "little") + b'{"a":[1]}', "header cannot be read"),
    ],
)
def test_what_is_no_model_file_says_so(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BenchboxError, match=message) as caught:
        describe(tmp_path / name)
    assert caught.value.hint


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(BenchboxError, match="there is no file"):
        describe(tmp_path / "no.pth")
    with pytest.raises(BenchboxError, match="is a folder"):
        describe(tmp_path)


def test_a_safetensors_header_is_read_without_torch(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    header = (
        b'{"__metadata__":{"format":"pt"},"net.a.weight":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},'
        b'"net.a.bias":{"dtype":"F32","shape":[],"data_offsets":[12,16]}}'
    )
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    found = describe(file)
    assert found.safe
    assert found.format == "safetensors"
    assert found.tensors == {"a.weight": TensorHeader("bfloat16", (2, 3)), "a.bias": TensorHeader("float32", ())}
    assert found.wrappers == ("net.",)


def test_the_safe_opcodes_exist() -> None:
    from benchbox_adapters import pickles

    assert {opcode.name for opcode in pickletools.opcodes} >= pickles._SAFE_OPCODES


@given(st.sampled_from(list(CONTAINERS)), st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), min_size=1))
@example("tar", [(0.0, b""), (0.0, b""), (0.0625, b"\\")])  # a string with an escape that Python warns of
def test_a_damaged_file_is_described_or_refused(container: str, damage: list[tuple[float, bytes]]) -> None:
    """Wherever bytes are changed, cut out or added, nothing but a `BenchboxError` leaves."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.pth"
        CONTAINERS[container](file, pickle.dumps({"state_dict": {"a": 1.0, "b": [1, {2: "x"}]}, "epoch": 3}, 2))
        content = bytearray(file.read_bytes())
        for place, new in damage:
            at = int(place * len(content))
            content[at : at + 2] = new
        file.write_bytes(content)
        with contextlib.suppress(BenchboxError):
            assert describe(file).tensors == {}
