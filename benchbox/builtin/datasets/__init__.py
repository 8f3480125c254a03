"""The built-in data sets: FER2013, a folder of images, recorded pairs, a NumPy array, and a built-in sample."""

from __future__ import annotations

from benchbox.api.dataset import Dataset
from benchbox.builtin.datasets.array_file import ArrayFile
from benchbox.builtin.datasets.fer2013 import Fer2013
from benchbox.builtin.datasets.images import ImageFolder
from benchbox.builtin.datasets.pairs import Pairs
from benchbox.builtin.datasets.sample import Sample

DATASETS: list[type[Dataset]] = [ArrayFile, Fer2013, ImageFolder, Pairs, Sample]
