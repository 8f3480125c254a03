"""The public names: listed, importable one by one, and nothing heavy behind the package itself."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

NAMES = {
    "benchbox": {
        "AgreementMetric", "BenchboxError", "Capabilities", "Dataset", "Denoiser", "Details", "FitProgress", "Image",
        "ImageDenoiser", "ImageSet", "Images", "Inspection", "LabelMetric", "Metric", "NoReferenceMetric", "NoiseModel",
        "Recipe", "Run", "Scores", "Sigma", "TrainableClassifier", "TrainableDenoiser", "Trainer", "TrainingCard",
        "__version__", "describe_exit", "fingerprint_of", "hookimpl", "load_run", "run", "threads", "torch",
    },
    "benchbox.testing": {
        "BenchmarkDenoiser", "Faces", "HealthCard", "NoisyFaces", "Verdict", "check_denoiser", "examine",
    },
}  # fmt: skip


@pytest.mark.parametrize("package", NAMES)
def test_a_package_lists_its_public_names_and_each_can_be_imported(package: str) -> None:
    module = import_module(package)
    assert set(dir(module)) == set(module.__all__) == NAMES[package]
    for name in NAMES[package]:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = module.nonsense


@pytest.mark.process
@pytest.mark.parametrize("package", NAMES)
def test_importing_a_package_imports_none_of_its_modules(package: str) -> None:
    code = f"import sys, {package}; print(*sorted(name for name in sys.modules if name.startswith('{package}.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
