"""`Dataset` and `ImageSet`: how a data set recognises its files and opens them as images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from benchbox.api.arrays import Images


def fingerprint_of(ids: Iterable[str], digests: Iterable[str]) -> str:
    """Digest of images.

    Parameters
    ----------
    ids : iterable of str
        Names of the images, in order.
    digests : iterable of str
        Hex digests of their content, in an order that follows from that of the ids.

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
    """Clean images that a run is made on; pixels are read when asked for, so it takes no memory by itself.

    Attributes
    ----------
    dataset : str
        Name of the data set.
    split : str
        Name of the split, or empty.
    ids : tuple of str
        One stable name an image, unique; it seeds the image's noise.
    shapes : ndarray of int64, shape (N, 2)
        Height and width of each image in pixels.
    fingerprint : str
        Hex digest over the ids and the content of these images.
    read : callable
        ``read(indices) -> Images``: images of one size as float32 in [0, 1].
    labels : mapping of str to ndarray, each of shape (N,)
        What is known of each image (``{'emotion': ...}``).
    notes : tuple of str
        What a reader of the results must know: colour turned to luminance, files left out, built-in sample.
    source : str
        Fingerprint of the images that these are a part of; empty where they are all.
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

    def __len__(self) -> int:
        """Give the number of images."""
        return len(self.ids)

    def stack(self, indices: NDArray[np.intp]) -> Images:
        """Read images of one size.

        Parameters
        ----------
        indices : ndarray of intp, shape (M,)
            Positions in `ids`; all of one shape.

        Returns
        -------
        ndarray of float32, shape (M, H, W), in [0, 1], C-contiguous
        """
        shapes = self.shapes[indices]
        if len(indices) and (shapes != shapes[0]).any():
            raise ValueError("a stack holds images of one size")
        return np.ascontiguousarray(self.read(indices), dtype=np.float32)

    def subset(self, indices: NDArray[np.intp], fingerprint: str) -> ImageSet:
        """Some of the images, in the order of `indices`.

        Parameters
        ----------
        indices : ndarray of intp, shape (M,)
        fingerprint : str
            Digest of the selection.

        Returns
        -------
        ImageSet
        """
        read = self.read
        return replace(
            self,
            ids=tuple(self.ids[index] for index in indices),
            shapes=self.shapes[indices],
            fingerprint=fingerprint,
            source=self.source or self.fingerprint,
            read=lambda inner: read(indices[inner]),
            labels={key: values[indices] for key, values in self.labels.items()},
        )


class Dataset(ABC):
    """A kind of data; a class that opens one.

    Attributes
    ----------
    name : str
        The word a user types.
    summary : str
        One line for listings.
    reference : str
        Paper, DOI or source.
    splits : tuple of str
        Names that ``--split`` takes, the default of an evaluation first; empty where there are none.
    fitted, validated : str
        Splits that a training fits and validates on; empty where it has to divide the images itself.
    caveat : str
        What a reader of results on it must know, as a sentence; empty for nothing.
    label_names : mapping of str to tuple of str
        What the numbers of a label mean (``{'emotion': ('angry', ...)}``).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[str] = ""
    splits: ClassVar[tuple[str, ...]] = ()
    fitted: ClassVar[str] = ""
    validated: ClassVar[str] = ""
    caveat: ClassVar[str] = ""
    label_names: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def training_hashes(self) -> Path | None:
        """File of perceptual hashes of the Training split, for data that lack this split; None if there is none."""
        return None

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether `path` looks like this kind of data; a look at names and the first bytes, never a whole read."""

    @abstractmethod
    def load(self, path: Path | None, *, split: str = "", skip_bad: bool = False) -> ImageSet:
        """Open the data.

        Parameters
        ----------
        path : Path or None
            File or folder; None only for data that is built in.
        split : str
            One of `splits`; empty for the default one.
        skip_bad : bool
            Go on without images that cannot be decoded; they are counted in the notes.

        Returns
        -------
        ImageSet

        Raises
        ------
        BenchboxError
            The data are missing or damaged; the message names file, line and column.
        """
