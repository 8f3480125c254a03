"""`Dataset` recognises and opens files; `ImageSet` is the images that it opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from benchbox.api.arrays import Images
from benchbox.api.errors import BenchboxError


def fingerprint_of(ids: Iterable[str], digests: Iterable[str]) -> str:
    """Digest of image ids and content, both in order, for `ImageSet.fingerprint`.

    Parameters
    ----------
    ids : iterable of str
        Ids of the images.
    digests : iterable of str
        A digest of the content of each image, or of all images together.

    Returns
    -------
    str
        xxh3-128 as 32 hex digits.
    """
    hasher = xxhash.xxh3_128()
    hasher.update("\0".join(ids).encode())
    hasher.update(("\n" + "\n".join(digests)).encode())
    return hasher.hexdigest()


@dataclass(frozen=True)
class ImageSet:
    """The clean images of a run; pixels are read on demand, so the object itself takes no memory.

    Attributes
    ----------
    dataset : str
        Name of the data set.
    split : str
        Name of the split, or empty.
    ids : tuple of str
        One stable, unique name per image; it seeds the image's noise.
    shapes : ndarray of int64, shape (N, 2)
        Height and width of each image in pixels.
    fingerprint : str
        Hex digest of the ids and content of these images.
    read : callable
        ``read(indices) -> Images``: the images at these positions, all of one size, as float32 in [0, 1].
    labels : mapping of str to ndarray, each of shape (N,)
        Labels of each image, by name (``{'emotion': ...}``).
    notes : tuple of str
        What a reader of the results must know, such as colour converted to luminance or files left out.
    source : str
        Fingerprint of the full set that these images were selected from; empty if they are the full set.
    source_images : int
        Number of images in that full set; 0 if they are the full set.
    left_out : int
        How many of that set are left out because a denoiser may have seen them in training.
    channels : int
        1 if the images are grey, 3 if they are RGB.
    read_noisy : callable or None
        ``read_noisy(indices) -> Images``: the noisy images that were recorded with the clean ones, same shapes; None
        if noise is to be added.
    scenes : tuple of str
        Scene of each image, which is the unit of statistics: crops and frames of one scene are not independent. Empty
        if every image is a scene of its own.
    """

    dataset: str
    split: str
    ids: tuple[str, ...]
    shapes: NDArray[np.int64]
    fingerprint: str
    read: Callable[[NDArray[np.intp]], Images] = field(repr=False, compare=False)
    labels: Mapping[str, NDArray[np.generic]] = field(default_factory=dict, repr=False, compare=False)
    notes: tuple[str, ...] = ()
    source: str = ""
    source_images: int = 0
    left_out: int = 0
    channels: int = 1
    read_noisy: Callable[[NDArray[np.intp]], Images] | None = field(default=None, repr=False, compare=False)
    scenes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def stack(self, indices: NDArray[np.intp]) -> Images:
        """Read images of one size.

        Parameters
        ----------
        indices : ndarray of intp, shape (M,)
            Positions in `ids`, of images that all have the same shape.

        Returns
        -------
        ndarray of float32, shape (M, H, W) or (M, H, W, 3), in [0, 1], C-contiguous

        Raises
        ------
        ValueError
            The images differ in shape.
        """
        shapes = self.shapes[indices]
        if len(indices) and (shapes != shapes[0]).any():
            raise ValueError("the images of a stack must all have the same size")
        return np.ascontiguousarray(self.read(indices), dtype=np.float32)

    def noisy_stack(self, indices: NDArray[np.intp]) -> Images:
        """Read the recorded noisy images at these positions, see `stack`; raises `ValueError` if there are none."""
        if self.read_noisy is None:
            raise ValueError(f"{self.dataset} has no noisy images")
        return replace(self, read=self.read_noisy).stack(indices)

    def subset(self, indices: NDArray[np.intp], fingerprint: str) -> ImageSet:
        """Select images, in the order of `indices`.

        Parameters
        ----------
        indices : ndarray of intp, shape (M,)
            Positions in `ids`.
        fingerprint : str
            Digest of the selected images.

        Returns
        -------
        ImageSet
        """
        read, read_noisy = self.read, self.read_noisy
        return replace(
            self,
            ids=tuple(self.ids[index] for index in indices),
            shapes=self.shapes[indices],
            fingerprint=fingerprint,
            source=self.source or self.fingerprint,
            source_images=self.source_images or len(self),
            read=lambda inner: read(indices[inner]),
            read_noisy=read_noisy and (lambda inner: read_noisy(indices[inner])),
            scenes=tuple(self.scenes[index] for index in indices) if self.scenes else (),
            labels={key: values[indices] for key, values in self.labels.items()},
        )


class Dataset(ABC):
    """Base class of data sets: recognises their files and opens them.

    Attributes
    ----------
    name : str
        Name on the command line.
    summary : str
        One line for listings.
    reference : str
        Paper, DOI or source.
    splits : tuple of str
        Names that ``--split`` accepts; an evaluation opens the first that the data have. Empty if there are no splits.
    fitted, validated, tested : str
        Splits used to fit, to validate in training, and for the final comparison; empty if the data have none for it.
    caveat : str
        A sentence that readers of results on this data set must know; empty if there is none.
    named_by_path : bool
        Whether results call the data after their folder or file, as for a folder of any pictures.
    built_in : bool
        Whether it is opened without a path, and by a run that names no data.
    catch_all : bool
        Whether it recognises what another data set may recognise more exactly, so that it is asked last.
    label_names : mapping of str to tuple of str
        Meaning of each label value (``{'emotion': ('angry', ...)}``).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[str] = ""
    splits: ClassVar[tuple[str, ...]] = ()
    fitted: ClassVar[str] = ""
    validated: ClassVar[str] = ""
    tested: ClassVar[str] = ""
    caveat: ClassVar[str] = ""
    named_by_path: ClassVar[bool] = False
    built_in: ClassVar[bool] = False
    catch_all: ClassVar[bool] = False
    label_names: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def training_hashes(self) -> Path | None:
        """Path of hashes of the `fitted` split, None if there are none; a run leaves out images that match one."""
        return None

    def scaled(self, white: int) -> Dataset:
        """Return this data set with another grey level of white, for files that do not use their full depth.

        Parameters
        ----------
        white : int
            Grey level that becomes 1.0, such as 4095 for 12-bit data in 16-bit files.

        Returns
        -------
        Dataset

        Raises
        ------
        BenchboxError
            The data set has a fixed grey level of white; this is the default.
        """
        raise BenchboxError(f"{self.name} has a fixed grey level of white", hint="omit --white")

    def colored(self, color: Literal["auto", "grey", "rgb"]) -> Dataset:
        """Return this data set with colour kept or turned into luminance, for data sets that may be in colour.

        Parameters
        ----------
        color : {'auto', 'grey', 'rgb'}
            Keep colour if all images have it; turn it into luminance; keep it and refuse grey images.

        Returns
        -------
        Dataset

        Raises
        ------
        BenchboxError
            'rgb', but the data set is grey; this is the default.
        """
        if color == "rgb":
            raise BenchboxError(f"{self.name} has no colour", hint="omit --color rgb")
        return self

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether `path` looks like this data set; decide from names and first bytes, without reading whole files."""

    @abstractmethod
    def load(self, path: Path | None, *, split: str = "", skip_bad: bool = False) -> ImageSet:
        """Open the data.

        Parameters
        ----------
        path : Path or None
            File or folder; None for built-in data.
        split : str
            One of `splits`; empty for the default.
        skip_bad : bool
            Skip images that cannot be decoded and count them in the notes, instead of raising an error.

        Returns
        -------
        ImageSet

        Raises
        ------
        BenchboxError
            The data are missing or damaged; the message names the file, line and column.
        """
