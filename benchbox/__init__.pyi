from .api.arrays import Image, Images, Scores, Sigma
from .api.dataset import Dataset, ImageSet, fingerprint_of
from .api.denoiser import Capabilities, Denoiser, Details, ImageDenoiser, Inspection, TrainingCard
from .api.errors import BenchboxError, describe_exit
from .api.hookspecs import hookimpl
from .api.metric import AgreementMetric, LabelMetric, Metric, NoReferenceMetric
from .api.noise import NoiseModel
from .api.threads import threads
from .api.trainable import FitProgress, Recipe, TrainableClassifier, TrainableDenoiser, Trainer
from .api.version import __version__
from .notebook import Run, load_run, run, torch

__all__ = [
    "AgreementMetric",
    "BenchboxError",
    "Capabilities",
    "Dataset",
    "Denoiser",
    "Details",
    "FitProgress",
    "Image",
    "ImageDenoiser",
    "ImageSet",
    "Images",
    "Inspection",
    "LabelMetric",
    "Metric",
    "NoReferenceMetric",
    "NoiseModel",
    "Recipe",
    "Run",
    "Scores",
    "Sigma",
    "TrainableClassifier",
    "TrainableDenoiser",
    "Trainer",
    "TrainingCard",
    "__version__",
    "describe_exit",
    "fingerprint_of",
    "hookimpl",
    "load_run",
    "run",
    "threads",
    "torch",
]
