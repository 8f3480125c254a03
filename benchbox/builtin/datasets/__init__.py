"""The built-in data sets: FER2013, any folder of images, a NumPy array, and a sample that needs no download."""

from __future__ import annotations

from benchbox.api.dataset import Dataset
from benchbox.builtin.datasets.array_file import ArrayFile
from benchbox.builtin.datasets.fer2013 import Fer2013
from benchbox.builtin.datasets.images import ImageFolder
from benchbox.builtin.datasets.sample import Sample

DATASETS: list[type[Dataset]] = [ArrayFile, Fer2013, ImageFolder, Sample]
