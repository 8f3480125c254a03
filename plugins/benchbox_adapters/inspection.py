"""Says what a model file is, read without running it, for `benchbox inspect`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchbox_unet.runtimes import start_keras

from benchbox import BenchboxError, Inspection
from benchbox_adapters import exported
from benchbox_adapters.checkpoints import describe
from benchbox_adapters.conventions import Input
from benchbox_adapters.fitting import Given, forms_of
from benchbox_adapters.graphs import Cost
from benchbox_adapters.recogniser import recognise
from benchbox_adapters.runtimes import external_data, keras_config, unsafe_layers
from benchbox_adapters.wrappers import listed

_FORMATS = {"keras": "Keras", "onnx": "ONNX", "litert": "LiteRT (TensorFlow Lite)"}


def of_model(
    kind: str, path: Path, inputs: Sequence[Input], layout: str, cost_of: Callable[[Path], Cost]
) -> Inspection:
    """Inspect a Keras, ONNX or LiteRT file; raises `BenchboxError` if it is damaged."""
    notes = [f"takes {' and '.join(map(str, inputs))}" if inputs else "its inputs are not in the file"]
    notes += [f"its weights are also in {file.name}" for file in external_data(path)]
    if kind == "keras":
        start_keras()
    if kind == "keras" and (unsafe := unsafe_layers(keras_config(path))):
        reason = f"it has layers that hold code or do not belong to Keras: {', '.join(unsafe)}"
        return Inspection(
            _FORMATS[kind], refused=reason, hint="save the model with layers of Keras only", notes=tuple(notes)
        )
    cost = cost_of(path)
    forms = forms_of(inputs or (Input(None),), layout, Given())
    if inputs and not forms:
        return Inspection(
            _FORMATS[kind],
            refused="it does not take images of one or three channels",
            hint="use a model for shape (N, H, W), (N, H, W, C) or (N, C, H, W), with or without a noise level",
            parameters=cost.parameters,
            notes=tuple(notes),
        )
    channels = {"rgb" if form.channels == 3 else "grey" for form in forms}
    sigma = dict.fromkeys(form.sigma for form in forms)
    return Inspection(
        _FORMATS[kind],
        parameters=cost.parameters,
        macs_per_pixel=cost.macs_per_pixel,
        receptive_field=cost.receptive_field,
        channels=" or ".join(sorted(channels)),
        sigma=" or ".join(sigma),
        notes=tuple(notes),
    )


def of_checkpoint(path: Path) -> Inspection:
    """Inspect a PyTorch or safetensors file; raises `BenchboxError` if it is damaged."""
    found = describe(path)
    notes = []
    if found.wrappers:
        notes.append(f"the weights are below {', '.join(found.wrappers)}")
    if found.other:
        notes.append(f"beside them: {listed(found.other)}")
    options = {}
    if found.choices:
        notes.append(f"holds several state dicts: {', '.join(found.choices)}")
        options["key"] = found.choices[0]
        found = describe(path, options["key"])
    parameters = sum(math.prod(tensor.shape) for tensor in found.tensors.values())
    refused = found.unsafe or ("" if found.tensors else "it holds no state dict")
    hint = found.hint or "save one with torch.save(model.state_dict(), 'model.pth')"
    base = Inspection(
        found.format, options, refused, hint if refused else "", parameters=parameters, notes=tuple(notes)
    )
    if not found.tensors or found.format == exported.FORMAT:
        return base
    try:
        readings = recognise(found.tensors)
    except BenchboxError as error:
        if refused:
            return base
        notes += [error.message, "name the class of the network instead of model.py:Net"]
        return replace(base, options=options | {"class": "model.py:Net"}, notes=tuple(notes))
    first = readings[0]
    if len(readings) > 1 and not refused:
        notes.append(f"{len(readings)} readings of these weights are possible; a run keeps the one that denoises best")
    return replace(
        base,
        architecture=first.label,
        parameters=first.parameters,
        macs_per_pixel=first.multiply_adds or 0.0,
        receptive_field=first.receptive_field or 0,
        channels="rgb" if first.channels == 3 else "grey",
        sigma=first.sigma,
        notes=tuple(notes),
    )
