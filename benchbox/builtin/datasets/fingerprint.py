"""Names a selection of images by a digest over their ids and their content."""

from __future__ import annotations

from collections.abc import Iterable

import xxhash


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
