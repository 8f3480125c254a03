from .benchmarking import BenchmarkDenoiser, Faces, NoisyFaces
from .card import HealthCard, Verdict
from .check import check_denoiser, examine

__all__ = [
    "BenchmarkDenoiser",
    "Faces",
    "HealthCard",
    "NoisyFaces",
    "Verdict",
    "check_denoiser",
    "examine",
]
