"""PyTorch model files: what is opened, what is peeled, what is refused, and that no hostile file runs anything."""

from __future__ import annotations

import argparse
import collections
import pickle
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch
from benchbox_adapters import checkpoints, pickles
from benchbox_adapters.checkpoints import describe, read_state
from benchbox_adapters.pickle_machine import TensorHeader
from benchbox_adapters.recogniser import recognise
from made_checkpoints import Harm, equal
from made_networks import Kair, SaoYan, randomised
from safetensors.torch import save_file

from benchbox import BenchboxError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.pth"


def state() -> dict[str, Any]:
    return dict(randomised(SaoYan()).state_dict())


def test_the_safe_globals_are_among_those_of_torch() -> None:
    from torch._weights_only_unpickler import _get_allowed_globals

    assert set(_get_allowed_globals()) >= pickles.SAFE_GLOBALS


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
def test_a_state_dict_comes_back_and_is_described_without_loading(new: bool, file: Path) -> None:
    expected = state()
    torch.save(expected, file, _use_new_zipfile_serialization=new)
    found = describe(file)
    assert found.safe
    assert found.format == ("PyTorch (zip)" if new else "PyTorch (before 1.6)")
    assert found.tensors == {
        name: TensorHeader(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in expected.items()
    }
    assert equal(read_state(file).tensors, expected)


def test_safetensors_come_back(tmp_path: Path) -> None:
    """The content decides, not the suffix."""
    file = tmp_path / "model.pth"
    expected = {name: tensor.half() for name, tensor in state().items()}
    save_file(expected, file)
    read = read_state(file)
    assert read.format == "safetensors"
    assert equal(read.tensors, expected)
    assert describe(file).tensors["dncnn.0.weight"] == TensorHeader("float16", (8, 1, 3, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_headers_have_the_data_type(dtype: Any, file: Path) -> None:
    for new in (True, False):
        torch.save({"a.weight": torch.zeros(2, 3, dtype=dtype)}, file, _use_new_zipfile_serialization=new)
        assert describe(file).tensors == {"a.weight": TensorHeader(str(dtype).removeprefix("torch."), (2, 3))}


def test_parameters_and_shared_storages_have_their_own_shapes(file: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    tree = {"a": torch.nn.Parameter(whole), "b": whole[1:3, ::2], "c": whole.T}
    torch.save(tree, file)
    assert {name: header.shape for name, header in describe(file).tensors.items()} == {
        "a": (4, 6),
        "b": (2, 3),
        "c": (6, 4),
    }
    assert torch.equal(read_state(file).tensors["b"], whole[1:3, ::2])


def old_reducer(tensor: Any) -> tuple[object, ...]:
    """As PyTorch 0.3 pickled a tensor: `_rebuild_tensor` of a storage with its view."""
    arguments = (tensor.storage(), tensor.storage_offset(), tuple(tensor.size()), tensor.stride())
    return torch._utils._rebuild_tensor, arguments


@pytest.mark.parametrize("kind", ["FloatStorage", "cuda.FloatStorage"])
def test_a_file_from_before_0_4_is_opened(kind: str, file: Path) -> None:
    """Pickles in a row with `_rebuild_tensor`, six values to a storage, of the processor or a GPU, and no counters."""
    tensors = {name: tensor for name, tensor in state().items() if "num_batches" not in name}
    storages: dict[str, Any] = {}

    class Old(pickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            return old_reducer(value) if isinstance(value, torch.Tensor) else NotImplemented

        def persistent_id(self, value: Any) -> Any:
            if not isinstance(value, torch.storage.TypedStorage):
                return None
            key = str(len(storages))
            storages[key] = value
            room = torch.cuda if kind.startswith("cuda") else torch
            place = "cuda:0" if kind.startswith("cuda") else "cpu"
            return "storage", room.FloatStorage, key, place, value.size(), None

    with file.open("wb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about the class of storages of then, once in a process
        sizes = {"short": 2, "int": 4, "long": 4}
        for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "type_sizes": sizes}):
            pickle.dump(part, stream, 2)
        Old(stream, 2).dump(collections.OrderedDict((f"module.{name}", tensor) for name, tensor in tensors.items()))
        pickle.dump(sorted(storages), stream, 2)
        for key in sorted(storages):
            numbers = storages[key].untyped()
            stream.write((len(numbers) // 4).to_bytes(8, "little") + bytes(numbers))
    found = describe(file)
    assert found.safe
    assert found.globals == ("collections.OrderedDict", "torch._utils._rebuild_tensor", f"torch.{kind}")
    read = read_state(file)
    assert read.wrappers == ("module.",)
    assert equal(read.tensors, tensors)
    recognise(read.tensors)[0].load(read.tensors)


KEPT = {"a.weight": torch.ones(2, 3), "a.bias": torch.ones(2)}
OTHER = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}
MOMENTS = {"state": {0: {"exp_avg": torch.zeros(2, 3), "step": torch.tensor(1.0)}}, "param_groups": []}


def prefixed(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("tree", "wrappers", "other"),
    [
        (KEPT, (), ()),
        ({"state_dict": KEPT, "epoch": 3}, ("state_dict",), ("epoch",)),
        (
            {"epoch": torch.tensor(3), "model_state_dict": KEPT, "optimizer_state_dict": MOMENTS},
            ("model_state_dict",),
            2,
        ),
        ({"params": OTHER, "params_ema": KEPT}, ("params_ema",), ("params",)),
        ({"model": OTHER, "model_ema": KEPT}, ("model_ema",), ("model",)),
        ({"anything": KEPT}, ("anything",), ()),
        ({"net": {"state_dict": prefixed("module.", KEPT)}}, ("net", "state_dict", "module."), ()),
        (prefixed("module.netG.", KEPT), ("module.", "netG."), ()),
        (prefixed("model._orig_mod.", KEPT), ("model.", "_orig_mod."), ()),
        ({"state_dict": prefixed("model.", KEPT) | prefixed("loss_fn.vgg.", OTHER)}, ("state_dict", "model."), 2),
        ({"state_dict": prefixed("model.", OTHER) | prefixed("ema_model.", KEPT)}, ("state_dict", "ema_model."), 2),
        (prefixed("module.", KEPT) | {"n_averaged": torch.tensor(5)}, ("module.",), ("n_averaged",)),
        (KEPT | {"a.total_ops": torch.zeros(1), "step": 7}, (), ("step", "a.total_ops")),
        (
            {"generator": KEPT, "optimizer": MOMENTS, "scheduler": {"last": 2}},
            ("generator",),
            ("optimizer", "scheduler"),
        ),
    ],
)
def test_wrappers_and_prefixes_are_peeled(tree: Any, wrappers: Any, other: Any, file: Path) -> None:
    torch.save(tree, file)
    read, found = read_state(file), describe(file)
    assert equal(read.tensors, KEPT)
    assert read.wrappers == found.wrappers == wrappers
    assert read.other == found.other
    assert read.other == other if isinstance(other, tuple) else len(read.other) == other
    assert found.tensors.keys() == read.tensors.keys()


def test_a_prefix_before_numbers_names_a_sequence(file: Path) -> None:
    torch.save(Kair().state_dict(), file)
    assert next(iter(read_state(file).tensors)) == "model.0.weight"


def test_several_networks_need_a_choice(file: Path) -> None:
    levels = {str(level): {"w": torch.full((2,), float(level))} for level in range(25)}
    torch.save(levels, file)
    assert describe(file).choices == tuple(map(str, range(25)))
    with pytest.raises(BenchboxError, match="several state dicts: 0, 1, 2, 3, 4, 5 and 19 more") as caught:
        read_state(file)
    assert "key=0" in caught.value.hint
    read = read_state(file, "12")
    assert read.tensors["w"].tolist() == [12, 12]
    assert read.wrappers == ("12",)


def test_a_key_chooses_and_a_wrong_one_lists_those_that_are_there(file: Path) -> None:
    torch.save({"params": OTHER, "params_ema": KEPT, "epoch": 1, "deep": {"er": prefixed("module.", KEPT)}}, file)
    assert equal(read_state(file, "params").tensors, OTHER)
    assert read_state(file, "deep.er").wrappers == ("deep", "er", "module.")
    with pytest.raises(BenchboxError, match="has no key 'ema'") as caught:
        read_state(file, "ema")
    assert caught.value.hint == "keys that it has: params, params_ema, deep"
    torch.save(torch.zeros(3), file)
    with pytest.raises(BenchboxError, match="holds no dictionary"):
        read_state(file, "ema")


@pytest.mark.parametrize("tree", [torch.zeros(3), [torch.zeros(3)], {"epoch": 3}, {}])
def test_a_file_without_a_state_dict_says_so(tree: Any, file: Path) -> None:
    torch.save(tree, file)
    with pytest.raises(BenchboxError, match="holds no state dict") as caught:
        read_state(file)
    assert "state_dict()" in caught.value.hint


def test_an_older_torch_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(KEPT, file)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(BenchboxError, match="CVE-2025-32434") as caught:
        read_state(file)
    assert "torch>=2.6" in caught.value.hint
    assert describe(file).safe
    monkeypatch.setattr(torch, "__version__", "2.10.0a0+git1")
    read_state(file)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
def test_a_cut_file_says_so(new: bool, file: Path) -> None:
    torch.save({"state_dict": state()}, file, _use_new_zipfile_serialization=new)
    whole = file.read_bytes()
    for length in (len(whole) // 2, len(whole) - 40, 700):
        file.write_bytes(whole[:length])
        with pytest.raises(BenchboxError) as caught:
            read_state(file)
        assert "again" in caught.value.hint or "give a" in caught.value.hint


def convert(hint: str, folder: Path) -> None:
    """Run the command that a hint gives, in a folder, as a shell would."""
    command = shlex.split(hint.partition(": ")[2].removesuffix(" (in the folder of the model's code)"))
    assert command[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *command[1:]], cwd=folder, check=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.pth", 'it\'s a "model" of ünïcode; $HOME `ls`.pth'])
def test_arguments_beside_the_weights_are_named_and_the_way_out_works(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    torch.save({"state_dict": prefixed("module.", KEPT), "args": argparse.Namespace(lr=0.1)}, file)
    found = describe(file)
    assert found.refused == ("argparse.Namespace",)
    assert found.tensors.keys() == KEPT.keys()
    with pytest.raises(BenchboxError, match=r"names argparse\.Namespace, which torch's safe loader refuses") as caught:
        read_state(file)
    convert(caught.value.hint, tmp_path)
    assert equal(read_state(file.with_suffix(".safetensors")).tensors, KEPT)


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickled_module_is_recognised_refused_and_converted(wrapped: bool, file: Path) -> None:
    (file.parent / "networks.py").write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.dncnn = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1),\n"
        "            nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))\n"
    )
    made = "{'epoch': 1, 'net': networks.Net()}" if wrapped else "networks.Net()"
    code = f"import torch, networks; torch.save({made}, 'model.pth')"
    subprocess.run([sys.executable, "-c", code], cwd=file.parent, check=True, timeout=300)
    found = describe(file)
    assert not found.safe
    assert "networks.Net" in found.refused
    assert recognise(found.tensors)[0].architecture == "DnCNN"
    with pytest.raises(BenchboxError, match=r"a pickled networks\.Net instead of a state dict") as caught:
        read_state(file)
    convert(caught.value.hint, file.parent)
    assert read_state(file.with_suffix(".safetensors")).tensors.keys() == found.tensors.keys()


@pytest.mark.slow
def test_torchscript_is_described_refused_and_converted(file: Path) -> None:
    net = randomised(Kair())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of torch warn that it is deprecated
        torch.jit.save(torch.jit.trace(net, torch.zeros(1, 1, 8, 8)), file)
    found = describe(file)
    assert found.format == "TorchScript"
    assert recognise(found.tensors)[0].architecture == "DnCNN"
    with pytest.raises(BenchboxError, match="a TorchScript archive is a program") as caught:
        read_state(file)
    convert(caught.value.hint, file.parent)
    assert equal(read_state(file.with_suffix(".safetensors")).tensors, net.state_dict())


def test_a_lambda_is_named(file: Path) -> None:
    """Pickled by cloudpickle, as notebooks do; a plain pickle cannot hold one."""
    import cloudpickle

    torch.save({"state_dict": KEPT, "transform": lambda x: x}, file, pickle_module=cloudpickle)
    found = describe(file)
    assert any("cloudpickle" in name for name in found.refused)
    with pytest.raises(BenchboxError, match="cloudpickle"):
        read_state(file)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("place", ["weights", "beside", "key", "nested"])
def test_hostile_weights_run_nothing(new: bool, place: str, file: Path, marker: Path) -> None:
    harm: Any = Harm(marker)
    tree: Any = {
        "weights": {"state_dict": KEPT | {"b": harm}},
        "beside": {"state_dict": KEPT, "args": harm},
        "key": {"state_dict": KEPT, (harm,): 1},
        "nested": [[{"x": (harm, KEPT)}]],
    }[place]
    torch.save(tree, file, _use_new_zipfile_serialization=new)
    for key in (None, "state_dict"):
        with pytest.raises(BenchboxError):
            read_state(file, key)
    assert describe(file).refused == ("posix.system",)
    assert not marker.exists()
    torch.load(file, weights_only=False)
    assert marker.exists()


def test_headers_are_read_without_importing_torch(file: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": state()}, file)
    old = tmp_path / "old.pth"
    torch.save(state(), old, _use_new_zipfile_serialization=False)
    code = (
        "import sys; from pathlib import Path; from benchbox_adapters.checkpoints import describe\n"
        "from benchbox_adapters.recogniser import recognise\n"
        f"for name in ({str(file)!r}, {str(old)!r}):\n"
        "    print(recognise(describe(Path(name)).tensors)[0].architecture)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "DnCNN\nDnCNN\n", done.stderr


def test_a_missing_torch_says_how_to_install_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BenchboxError, match="torch is missing") as caught:
        checkpoints.safe_torch()
    assert "benchbox-denoise[torch]" in caught.value.hint
