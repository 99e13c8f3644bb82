"""Images that occur more than once: the same bytes, and pictures that look the same."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from objectives.data.arrays import Images, Labels

SIMILAR = 0.95
"""Correlation of the pixels of two images from which they count as near-duplicates."""
SIMILAR_THUMBNAILS = 0.98
"""The same of their thumbnails, which is looked at first."""
THUMBNAIL = 8
"""Pixels along each side."""
MOST_IMAGES = 150_000
"""Beyond which near-duplicates are not looked for: it would take minutes."""
NEIGHBOURS = 3
"""Others that each image is compared with, by their thumbnails the nearest."""
_DIMENSIONS = 12
_PAIRS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Place:
    """One image."""

    split: str
    index: int
    label: int


@dataclass(frozen=True)
class Pair:
    """Two images that look the same, and the correlation of their pixels."""

    first: Place
    second: Place
    correlation: float


@dataclass(frozen=True)
class Duplicates:
    """What was found."""

    groups: Sequence[Sequence[Place]]
    """Images of the same bytes, each two or more."""
    pairs: Sequence[Pair] | None
    """Others that look alike, the most alike first; None: not looked for."""

    @property
    def contradictions(self) -> list[Sequence[Place]]:
        """Groups whose labels differ."""
        return [group for group in self.groups if len({place.label for place in group}) > 1]

    def groups_by_splits(self) -> Counter[tuple[str, ...]]:
        """How many groups lie in which splits."""
        return Counter(tuple(dict.fromkeys(place.split for place in group)) for group in self.groups)

    def pairs_by_splits(self) -> Counter[tuple[str, ...]]:
        """How many pairs lie in which splits."""
        return Counter(
            tuple(dict.fromkeys((pair.first.split, pair.second.split))) for pair in self.pairs or ()
        )


def find_duplicates(splits: Mapping[str, tuple[Images, Labels]]) -> Duplicates:
    """Search all splits together.

    Near-duplicates are found by their thumbnails: whatever is close in the main directions of those is
    compared pixel by pixel. Brightness and contrast do not matter, a shift by more than a pixel or two does.
    """
    places = [
        Place(name, index, int(label)) for name, (_, y) in splits.items() for index, label in enumerate(y)
    ]
    digests: defaultdict[bytes, list[int]] = defaultdict(list)
    for number, image in enumerate(_images(splits)):
        digests[blake2b(image.tobytes(), digest_size=16).digest()].append(number)
    groups = [[places[number] for number in numbers] for numbers in digests.values() if len(numbers) > 1]
    if len(places) > MOST_IMAGES:
        return Duplicates(groups, None)
    firsts = np.array([numbers[0] for numbers in digests.values()])
    x = np.concatenate([x for x, _ in splits.values()])[firsts]
    pairs = [
        Pair(places[firsts[first]], places[firsts[second]], correlation)
        for first, second, correlation in _near(x)
    ]
    return Duplicates(groups, sorted(pairs, key=lambda pair: -pair.correlation))


def _images(splits: Mapping[str, tuple[Images, Labels]]) -> Iterator[Images]:
    for x, _ in splits.values():
        yield from x


def _near(x: Images) -> list[tuple[int, int, float]]:
    """Indices of pairs that look alike, and their correlation."""
    from scipy.spatial import cKDTree

    thumbnails = _standardized(_thumbnails(x))
    kept = np.flatnonzero(np.linalg.norm(thumbnails, axis=1) > 0.5)  # an even picture is like no other
    if len(kept) < 2:
        return []
    thumbnails = thumbnails[kept]
    centred = thumbnails - thumbnails.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    main = np.ascontiguousarray(centred @ directions[:, ::-1][:, :_DIMENSIONS])
    # Of vectors of length one, the correlation gives the distance; projected, none lie further apart.
    radius = (2 * (1 - SIMILAR_THUMBNAILS)) ** 0.5
    _, found = cKDTree(main).query(main, k=NEIGHBOURS + 1, distance_upper_bound=radius, workers=-1)
    own = np.repeat(np.arange(len(kept)), found.shape[1])
    pairs = np.stack([own, found.ravel()], axis=1)
    pairs = pairs[(pairs[:, 1] < len(kept)) & (pairs[:, 0] != pairs[:, 1])]
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    near = []
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        some = pairs[start : start + _PAIRS_AT_ONCE]
        some = some[(thumbnails[some[:, 0]] * thumbnails[some[:, 1]]).sum(axis=1) >= SIMILAR_THUMBNAILS]
        first, second = (_standardized(x[kept[some[:, side]]]) for side in (0, 1))
        for (left, right), value in zip(kept[some], (first * second).sum(axis=1), strict=True):
            if value >= SIMILAR:
                near.append((int(left), int(right), float(value)))
    return near


def _thumbnails(x: Images) -> NDArray[np.float32]:
    """Means over blocks; what does not fill a block at the lower and right edge is left out."""
    count, height, width, channels = x.shape
    down, right = max(1, height // THUMBNAIL), max(1, width // THUMBNAIL)
    rows, columns = height // down, width // right
    blocks = x[:, : rows * down, : columns * right].reshape(count, rows, down, columns, right, channels)
    means: NDArray[np.float32] = blocks.mean(axis=(2, 4), dtype=np.float32)
    return means


def _standardized(x: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Each image as a vector of mean zero and length one; an even picture is zero."""
    # Its length is not inferred, for there may be no image.
    flat = x.reshape(len(x), math.prod(x.shape[1:])).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    standardized: NDArray[np.float32] = np.divide(flat, norms, out=np.zeros_like(flat), where=norms > 1e-3)
    return standardized
