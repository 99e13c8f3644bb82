"""Duplicate images: identical bytes, and near-duplicates by correlation."""

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
"""Smallest pixel correlation of near-duplicates."""
SIMILAR_THUMBNAILS = 0.98
"""Smallest correlation of their thumbnails, which is tested first."""
THUMBNAIL = 8
"""Blocks along each side of a thumbnail."""
MOST_IMAGES = 150_000
"""Largest number of images for the search of near-duplicates, which would otherwise take minutes."""
NEIGHBOURS = 3
"""Number of nearest thumbnails that each image is compared with."""
_DIMENSIONS = 12
_PAIRS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Place:
    """Position of one image in its split."""

    split: str
    index: int
    label: int


@dataclass(frozen=True)
class Pair:
    """Two near-duplicates and their pixel correlation."""

    first: Place
    second: Place
    correlation: float


@dataclass(frozen=True)
class Duplicates:
    """Identical images and near-duplicates of a data set."""

    groups: Sequence[Sequence[Place]]
    """Groups of two or more identical images."""
    pairs: Sequence[Pair] | None
    """Near-duplicates, by descending correlation; None: not searched."""

    @property
    def contradictions(self) -> list[Sequence[Place]]:
        """Identical images with different labels."""
        return [group for group in self.groups if len({place.label for place in group}) > 1]

    def groups_by_splits(self) -> Counter[tuple[str, ...]]:
        """Return the number of groups for each combination of splits."""
        return Counter(tuple(dict.fromkeys(place.split for place in group)) for group in self.groups)

    def pairs_by_splits(self) -> Counter[tuple[str, ...]]:
        """Return the number of pairs for each combination of splits."""
        return Counter(
            tuple(dict.fromkeys((pair.first.split, pair.second.split))) for pair in self.pairs or ()
        )


def find_duplicates(splits: Mapping[str, tuple[Images, Labels]]) -> Duplicates:
    """Search all splits together.

    Images whose thumbnails are close in their principal components are compared pixel by pixel. The comparison
    ignores brightness and contrast, but not a shift by more than a pixel or two.
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
    """Return the indices of near-duplicates and their correlation."""
    from scipy.spatial import cKDTree

    thumbnails = _standardized(_thumbnails(x))
    kept = np.flatnonzero(np.linalg.norm(thumbnails, axis=1) > 0.5)  # uniform images have no correlation
    if len(kept) < 2:
        return []
    thumbnails = thumbnails[kept]
    centred = thumbnails - thumbnails.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    main = np.ascontiguousarray(centred @ directions[:, ::-1][:, :_DIMENSIONS])
    # For unit vectors the correlation determines the distance, and projection never increases it.
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
    """Return means over blocks, without incomplete blocks at the lower and right edge."""
    count, height, width, channels = x.shape
    down, right = max(1, height // THUMBNAIL), max(1, width // THUMBNAIL)
    rows, columns = height // down, width // right
    blocks = x[:, : rows * down, : columns * right].reshape(count, rows, down, columns, right, channels)
    means: NDArray[np.float32] = blocks.mean(axis=(2, 4), dtype=np.float32)
    return means


def _standardized(x: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each image as a vector of mean 0 and length 1; uniform images are zero."""
    # The length is given because it cannot be inferred from zero images.
    flat = x.reshape(len(x), math.prod(x.shape[1:])).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    standardized: NDArray[np.float32] = np.divide(flat, norms, out=np.zeros_like(flat), where=norms > 1e-3)
    return standardized
