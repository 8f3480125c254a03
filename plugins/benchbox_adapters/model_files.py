"""Reads what a model file is, without running it: its format, the files that belong to it, whether it is safe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TORCH = ".pt", ".pth", ".ckpt", ".safetensors"
_LFS = b"version https://git-lfs"
LFS_REASON = "a Git LFS pointer, not the model; run 'git lfs pull' in its repository"
_HDF5 = b"\x89HDF\r\n\x1a\n"
# An entry of a StringStringEntryProto: field 1, "location", field 2, the length of the value (a varint of up to two
# bytes). https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
_LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]?[\x00-\x7f])")


def refusal_of(path: Path, kind: str) -> str:
    """Why a file or folder cannot be a model of a kind (`keras`, `onnx`, `litert`), and what to do; empty if it can."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return (
                "a SavedModel, which can hold code and is not loaded; convert it and run litert:path=model.tflite: "
                'python -c "import tensorflow as tf; converter = tf.lite.TFLiteConverter.from_saved_model('
                f"'{path}'); open('model.tflite', 'wb').write(converter.convert())\""
            )
        return "a folder; give the model file in it"
    if not path.is_file():
        return "no such file"
    if is_pointer(path):
        return LFS_REASON
    found = kind_of(path)
    if found == kind:
        return ""
    return f"a model for '{found}'; write {found}:path={path}" if found else f"not a {kind} model"


def is_pointer(path: Path) -> bool:
    """Whether Git LFS has left a pointer in place of a file."""
    with path.open("rb") as file:
        return file.read(len(_LFS)) == _LFS


def kind_of(path: Path) -> str:
    """Denoiser for a file by its first bytes; empty if there is none.

    ONNX has no first bytes of its own: its protocol buffer is known by its first field.
    """
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(_LFS):
        return ""
    if head[4:8] == b"TFL3":
        return "litert"
    if head.startswith(_HDF5):
        return "keras"
    if head.startswith(b"PK"):
        return "keras" if path.suffix == ".keras" else "torch"
    # safetensors: the length of the header, then JSON; files of torch.save before 1.6: pickles
    if path.suffix in _TORCH or head[8:10] == b'{"' or head.startswith(b"\x80"):
        return "torch"
    return "onnx" if head.startswith(b"\x08") else ""


def external_data(path: Path) -> list[Path]:
    """Files beside an ONNX model that hold its weights (external data), as far as they exist."""
    if kind_of(path) != "onnx":
        return []
    return sorted({file for name in _locations(path.read_bytes()) if (file := path.parent / name).is_file()})


def _locations(content: bytes) -> Iterator[str]:
    for match in _LOCATION.finditer(content):
        length = match[1][0] & 0x7F | (match[1][1] << 7 if len(match[1]) == 2 else 0)
        yield content[match.end() : match.end() + length].decode("utf-8", "surrogateescape")


def is_architecture(file: Path) -> bool:
    """Whether a JSON file describes the layers of a Keras model, as ``model.to_json()`` writes it."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and "class_name" in content and "config" in content


def unsafe_layers(config: Any) -> list[str]:
    """Classes of a Keras configuration that hold code or that Keras does not bring along."""
    import keras

    rooms = keras, keras.layers, keras.initializers, keras.regularizers, keras.constraints, keras.dtype_policies
    known = {"Functional", "__keras_tensor__"}.union(*map(dir, rooms))
    return sorted({name for name in _classes_of(config) if name == "Lambda" or name not in known})


def _classes_of(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        if isinstance(name := config.get("class_name"), str):
            module = config.get("module")
            yield name if module is None or str(module).partition(".")[0] == "keras" else f"{module}.{name}"
        for value in config.values():
            yield from _classes_of(value)
    elif isinstance(config, list):
        for value in config:
            yield from _classes_of(value)
