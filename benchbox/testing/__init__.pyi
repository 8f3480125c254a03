from .benchmarking import BenchmarkDenoiser, Faces, NoisyFaces
from .check import check_denoiser, examine
from .subject import HealthCard, Verdict

__all__ = [
    "BenchmarkDenoiser",
    "Faces",
    "HealthCard",
    "NoisyFaces",
    "Verdict",
    "check_denoiser",
    "examine",
]
