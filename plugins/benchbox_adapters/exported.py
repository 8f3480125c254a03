"""Looks into exported programs (``.pt2``), which unpickle, import and evaluate text when torch loads them."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchbox import BenchboxError
from benchbox_adapters.pickle_machine import TensorHeader
from benchbox_adapters.pickles import SAFE_GLOBALS, ZIP_DAMAGE, read_member

FORMAT = "exported program"
_LARGEST_JSON = 256 * 2**20
_SAVE = (
    "save the weights instead: torch.save(model.state_dict(), 'model.pth'), or convert the program to ONNX with "
    "torch.onnx.export and run onnx:path=model.onnx"
)
# Numbers of the data types: torch/_export/serde/schema.py, ScalarType.
_DTYPES = {
    **{1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64"},
    **{9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16"},
}
_OPERATOR = re.compile(r"torch\.ops\.(?:aten|prims|higher_order)\.\w+(?:\.\w+)?|torch\.sym_\w+|math\.\w+")
_PYTHON_OPERATORS = {
    *(f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "getitem")),
    *(f"_operator.{name}" for name in ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_", "pos")),
}
_NAME = re.compile(r"[\w.]*")
_VERSION = re.compile(r"[\w.+-]*")
_GUARD = re.compile(
    r"(?:L\['\w+'\]|\.(?:size|stride|storage_offset)\(\)|\[\d+\]|\b(?:(?:torch\.sym_)?(?:max|min|not)|and|or|True|False)\b"
    r"|[-+*/%()<>=!, \d])*"
)
_SYMBOLS = re.compile(r"[suz]\d+|u\d+")
_WORDS = {
    *("Symbol", "Integer", "Rational", "Float", "Mul", "Add", "Pow", "Mod", "Max", "Min", "Eq", "Ne", "Abs", "Not"),
    *("And", "Or", "Piecewise", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "true", "false"),
    *("FloorDiv", "ModularIndexing", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt", "IntTrueDiv", "PowByNatural"),
    *("positive", "integer", "nonnegative", "nonzero", "True", "False", "evaluate", "oo", "int_oo", "precision"),
}
_TOKENS = re.compile(r"\s+|'(\w*)'|([A-Za-z_]\w*)|\d+(?:\.\d+)?|[-+*/(),=<>]")


@dataclass(frozen=True)
class Program:
    """What an exported program holds."""

    tensors: dict[str, TensorHeader] = field(default_factory=dict)
    globals: tuple[str, ...] = ()
    unsafe: str = ""
    hint: str = ""


def is_exported(names: list[str]) -> bool:
    """Whether the entries of a zip are those of an exported program."""
    return any(
        re.search(r"/models/[^/]+\.json$|/archive_format$|serialized_exported_program\.json$", name) for name in names
    )


def inspect(path: Path) -> Program:
    """Look into an exported program without loading it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _inspect(archive)
    except (*ZIP_DAMAGE, TypeError, AttributeError) as error:
        return Program(unsafe=f"a damaged exported program ({type(error).__name__}: {error})", hint=_SAVE)


def _inspect(archive: zipfile.ZipFile) -> Program:
    entries = _entries(archive)
    config = entries.get("data/weights/model_weights_config.json")
    if any(name.startswith("data/aotinductor/") for name in entries):
        return Program(unsafe="a program compiled to machine code, which is not loaded", hint=_SAVE)
    if config is None or "models/model.json" not in entries:
        return Program(unsafe="an exported program of an older format, which keeps its weights as pickles", hint=_SAVE)
    weights = _json(archive, config)["config"]
    tensors = {name: _header(entry["tensor_meta"]) for name, entry in weights.items() if entry.get("tensor_meta")}
    named: dict[str, None] = {}
    for name, info in entries.items():
        if name.startswith("data/sample_inputs/") and info.file_size:
            with zipfile.ZipFile(io.BytesIO(archive.read(info))) as inner:
                for member in inner.infolist():
                    if member.filename.endswith(".pkl"):
                        stream = read_member(inner, member)
                        named.update(dict.fromkeys(stream.globals))
                        if stream.damage:
                            named.setdefault(f"({stream.damage})")
    reasons = list(_reasons(archive, entries, weights, tuple(named)))
    unsafe = f"an exported program that can run code when it is loaded: {reasons[0]}" if reasons else ""
    return Program(tensors, tuple(named), unsafe, _SAVE if reasons else "")


def _reasons(
    archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], weights: dict[str, Any], named: tuple[str, ...]
) -> Iterator[str]:
    """Every way in which loading the program could run code."""
    if len(entries) != len(archive.infolist()):
        yield "it has entries of the same name, or outside its folder"
    known = "data/", "models/", ".data/", "extra/", "archive_format", "archive_version", "byteorder", "version"
    for name in entries:
        if not name.startswith(known):
            yield f"it has the entry {name}"
        elif name.startswith("models/") and name != "models/model.json":
            yield f"it has another program ({name})"
        elif name.startswith(("data/weights/", "data/constants/")) and name.endswith((".pt", ".pkl")):
            yield f"it has a pickle ({name})"
    constants = {}
    if "data/constants/model_constants_config.json" in entries:
        constants = _json(archive, entries["data/constants/model_constants_config.json"])["config"]
    for name, entry in (*weights.items(), *constants.items()):
        if entry.get("use_pickle") is not False:
            yield f"'{name}' is pickled"
        elif not _NAME.fullmatch(name) or not re.fullmatch(r"(weight|tensor)_\d+", str(entry.get("path_name"))):
            yield f"'{name}' is a custom object"
    yield from (f"its sample inputs name {name}" for name in named if name not in SAFE_GLOBALS)
    yield from (f"its graph has {what}" for what in _graph_reasons(_json(archive, entries["models/model.json"])))


def _graph_reasons(node: Any, key: str = "") -> Iterator[str]:
    """What torch would look up, import, evaluate or paste into Python code when it reads a graph.

    All text of a graph is under suspicion: torch writes names of values into the code of a function, and runs it.
    """
    if isinstance(node, dict):
        for name, inner in node.items():
            if name in ("as_custom_obj", "as_operator", "treespec_namedtuple_fields") and inner:
                yield f"a value of the kind {name.removeprefix('as_')}"
            elif name == "target" and "inputs" in node:
                if inner not in _PYTHON_OPERATORS and not _OPERATOR.fullmatch(str(inner)):
                    yield f"the operator '{inner}'"
            elif name == "guards_code":
                yield from (f"the guard '{guard}'" for guard in inner if not _GUARD.fullmatch(str(guard)))
            elif name != "metadata":  # notes for debugging, which are not loaded
                if not _NAME.fullmatch(name):
                    yield f"the name '{name}'"
                yield from _graph_reasons(inner, name)
    elif isinstance(node, list):
        for inner in node:
            yield from _graph_reasons(inner, key)
    elif isinstance(node, str):
        if key == "expr_str":
            if not _is_arithmetic(node):
                yield f"the expression '{node}', which torch evaluates as Python"
        elif key in ("in_spec", "out_spec"):
            if not _is_plain_tree(json.loads(node)):
                yield f"a class to import in its {key}"
        elif not (_VERSION if key == "torch_version" else _NAME).fullmatch(node):
            yield f"the text '{node}' where a name belongs"


def _is_plain_tree(spec: Any) -> bool:
    """Whether the structure of arguments has only tuples, lists, and dictionaries whose keys are names."""
    if isinstance(spec, list):
        return len(spec) == 2 and isinstance(spec[0], int) and _is_plain_tree(spec[1])
    context = json.loads(spec["context"] or "null")
    names = context if isinstance(context, list) else [] if context is None else [0]
    return (
        spec["type"] in (None, "builtins.tuple", "builtins.list", "builtins.dict")
        and all(isinstance(name, str) and _NAME.fullmatch(name) for name in names)
        and all(_is_plain_tree(child) for child in spec["children_spec"])
    )


def _is_arithmetic(text: Any) -> bool:
    """Whether an expression has only numbers, symbols such as s0, and functions of sizes."""
    at = 0
    while isinstance(text, str) and at < len(text):
        token = _TOKENS.match(text, at)
        if token is None or any(word and not (_SYMBOLS.fullmatch(word) or word in _WORDS) for word in token.groups()):
            return False
        at = token.end()
    return isinstance(text, str)


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Entries by their names inside the archive's one folder."""
    root = archive.namelist()[0].partition("/")[0] + "/"
    return {i.filename.removeprefix(root): i for i in archive.infolist() if i.filename.startswith(root)}


def _json(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    if info.file_size > _LARGEST_JSON:
        raise ValueError(f"{info.filename} takes {info.file_size / 2**20:,.0f} MiB")
    return json.loads(archive.read(info))


def _header(meta: dict[str, Any]) -> TensorHeader:
    return TensorHeader(_DTYPES.get(meta["dtype"], "unknown"), tuple(int(side["as_int"]) for side in meta["sizes"]))


def read_weights(path: Path) -> dict[str, Any]:
    """Read the weights of an exported program from its raw numbers, without loading the program."""
    import numpy as np
    import torch

    with zipfile.ZipFile(path) as archive:
        entries = _entries(archive)
        weights = _json(archive, entries["data/weights/model_weights_config.json"])["config"]
        tensors = {}
        for name, entry in weights.items():
            meta = entry["tensor_meta"]
            raw = archive.read(entries[f"data/weights/{entry['path_name']}"])
            flat = torch.from_numpy(np.frombuffer(raw, np.uint8).copy()).view(getattr(torch, _header(meta).dtype))
            strides = [side["as_int"] for side in meta["strides"]]
            tensors[name] = flat.as_strided(_header(meta).shape, strides, meta["storage_offset"]["as_int"])
    return tensors


def open_program(path: Path) -> Any:
    """Load an exported program, if looking inside finds nothing that could run code, and return its module.

    What is loaded is a copy with the checked entries, without the sample inputs and notes, so that nothing is
    unpickled and two readers of the zip cannot disagree.

    Raises
    ------
    BenchboxError
        If the program could run code, or cannot be loaded by the installed torch.
    """
    found = inspect(path)
    if found.unsafe:
        raise BenchboxError(f"{path}: {found.unsafe}", hint=found.hint)
    import torch

    copy = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as clean:
        for name, info in _entries(archive).items():
            if name == "models/model.json":
                clean.writestr(f"program/{name}", json.dumps(_without_notes(_json(archive, info))))
            elif not name.startswith("extra/"):
                content = b"" if name.startswith("data/sample_inputs/") else archive.read(info)
                clean.writestr(f"program/{name}", content)
    copy.seek(0)
    try:
        return torch.export.load(copy).module()
    except Exception as error:  # programs of other versions fail in many ways
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BenchboxError(
            f"{path} cannot be loaded by torch {torch.__version__}: {reason}", hint="export it with this version"
        ) from error


def _without_notes(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: {} if name == "metadata" else _without_notes(inner) for name, inner in node.items()}
    return [_without_notes(inner) for inner in node] if isinstance(node, list) else node
