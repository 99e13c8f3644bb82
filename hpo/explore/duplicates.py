"""Duplicates: rows of identical inputs, and near-duplicates of images by correlation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from objectives.data import inputs
from objectives.data.inputs import Inputs
from objectives.data.targets import Targets

Label = int | tuple[float, ...]
Watch = Callable[[str, int, int], None]
"""Observer of a stage, the pieces done and their number."""

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
_BLOCK_VALUES = 1 << 24
"""Number of pixels that are compared at a time: 64 MiB of memory."""
_WATCHED_ROWS = 4096


@dataclass(frozen=True)
class Place:
    """Position of one row in its split."""

    split: str
    index: int
    label: Label


MOST_PLACES = 6
"""Largest number of rows shown of each group of identical rows."""


def few(group: Sequence[Place], kind: Callable[[Place], object]) -> list[Place]:
    """Return up to `MOST_PLACES` places of a group, in their order: the first of each kind, then others."""
    first: dict[str, Place] = {}
    for place in group:
        first.setdefault(str(kind(place)), place)
    chosen = [*first.values(), *(place for place in group if place not in first.values())][:MOST_PLACES]
    return [place for place in group if place in chosen]


@dataclass(frozen=True)
class Pair:
    """Two near-duplicates and their pixel correlation."""

    first: Place
    second: Place
    correlation: float


@dataclass(frozen=True)
class Duplicates:
    """Identical rows and near-duplicates of a data set."""

    groups: Sequence[Sequence[Place]]
    """Groups of two or more identical rows."""
    pairs: Sequence[Pair] | None
    """Near-duplicates, by descending correlation; None: not searched, because the rows are not images."""
    step: int = 1
    """Near-duplicates are searched among every `step`-th of the images that differ."""

    @property
    def contradictions(self) -> list[Sequence[Place]]:
        """Identical rows with different labels."""
        return [group for group in self.groups if len({place.label for place in group}) > 1]

    def groups_by_splits(self) -> Counter[tuple[str, ...]]:
        """Return the number of groups for each combination of splits."""
        return Counter(tuple(dict.fromkeys(place.split for place in group)) for group in self.groups)

    def pairs_by_splits(self) -> Counter[tuple[str, ...]]:
        """Return the number of pairs for each combination of splits."""
        return Counter(
            tuple(dict.fromkeys((pair.first.split, pair.second.split))) for pair in self.pairs or ()
        )


def find_duplicates(
    splits: Mapping[str, tuple[Inputs, Targets]],
    *,
    images: bool = True,
    step: int = 1,
    watch: Watch = lambda *_: None,
) -> Duplicates:
    """Search all splits together; near-duplicates only of images, and among every `step`-th of them.

    Images whose thumbnails are close in their principal components are compared pixel by pixel. The comparison
    ignores brightness and contrast, but not a shift by more than a pixel or two.
    """
    rows = _Numbered(splits)
    first: dict[bytes, int] = {}
    copies: dict[int, list[int]] = {}
    for number, digest in enumerate(rows.digests(watch)):
        earliest = first.setdefault(digest, number)
        if earliest != number:
            copies.setdefault(earliest, [earliest]).append(number)
    groups = [[rows.place(number) for number in numbers] for numbers in copies.values()]
    if not images:
        return Duplicates(groups, None)
    different = np.fromiter(first.values(), np.intp, len(first))
    step = max(step, math.ceil(len(different) / MOST_IMAGES))
    different = different[::step]
    near = _near(lambda chosen: rows.take(different[chosen]), len(different), watch)
    pairs = [Pair(rows.place(different[one]), rows.place(different[two]), value) for one, two, value in near]
    return Duplicates(groups, sorted(pairs, key=lambda pair: -pair.correlation), step)


class _Numbered:
    """The rows of all splits under one number each."""

    def __init__(self, splits: Mapping[str, tuple[Inputs, Targets]]) -> None:
        self._splits = splits
        self._names = list(splits)
        self._starts = np.cumsum([0, *(len(y) for _, y in splits.values())])

    def digests(self, watch: Watch) -> list[bytes]:
        """Return a digest of each row's inputs."""
        found: list[bytes] = []
        total = int(self._starts[-1])
        for x, _ in self._splits.values():
            for parts in zip(*inputs.each(x).values(), strict=True):
                if len(found) % _WATCHED_ROWS == 0:
                    watch("comparing", len(found), total)
                digest = blake2b(digest_size=16)
                for part in parts:
                    digest.update(np.ascontiguousarray(part).tobytes())
                found.append(digest.digest())
        return found

    def place(self, number: int) -> Place:
        """Return the place of a row."""
        which = int(np.searchsorted(self._starts, number, side="right")) - 1
        index = int(number - self._starts[which])
        label = self._splits[self._names[which]][1][index]
        return Place(
            self._names[which], index, int(label) if np.ndim(label) == 0 else tuple(map(float, label))
        )

    def take(self, numbers: NDArray[np.intp]) -> NDArray[Any]:
        """Return images by their numbers."""
        images = {name: x for name, (x, _) in self._splits.items() if isinstance(x, np.ndarray)}
        example = next(iter(images.values()))
        taken = np.empty((len(numbers), *example.shape[1:]), example.dtype)
        for start, x in zip(self._starts, images.values(), strict=False):
            inside = (numbers >= start) & (numbers < start + len(x))
            taken[inside] = x[numbers[inside] - start]
        return taken


def _near(
    take: Callable[[NDArray[np.intp]], NDArray[Any]], count: int, watch: Watch
) -> list[tuple[int, int, float]]:
    """Return the indices of near-duplicates among `count` images and their correlation."""
    from scipy.spatial import cKDTree

    thumbnails = _all_thumbnails(take, count, watch)
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
    near, size = [], _rows_of_a_block(take(kept[:1]))
    for start in range(0, len(pairs), size):
        watch("correlating", start, len(pairs))
        some = pairs[start : start + size]
        some = some[(thumbnails[some[:, 0]] * thumbnails[some[:, 1]]).sum(axis=1) >= SIMILAR_THUMBNAILS]
        first, second = (_standardized(take(kept[some[:, side]])) for side in (0, 1))
        for (left, right), value in zip(kept[some], (first * second).sum(axis=1), strict=True):
            if value >= SIMILAR:
                near.append((int(left), int(right), float(value)))
    return near


def _all_thumbnails(
    take: Callable[[NDArray[np.intp]], NDArray[Any]], count: int, watch: Watch
) -> NDArray[np.float32]:
    size, blocks = _rows_of_a_block(take(np.arange(1))), []
    for start in range(0, count, size):
        watch("shrinking", start, count)
        blocks.append(_standardized(_thumbnails(take(np.arange(start, min(start + size, count))))))
    return np.concatenate(blocks)


def _rows_of_a_block(example: NDArray[Any]) -> int:
    return max(1, _BLOCK_VALUES // max(1, math.prod(example.shape[1:])))


def _thumbnails(x: NDArray[Any]) -> NDArray[np.float32]:
    """Return means over blocks, without incomplete blocks at the lower and right edge."""
    count, height, width, channels = x.shape
    down, right = max(1, height // THUMBNAIL), max(1, width // THUMBNAIL)
    rows, columns = height // down, width // right
    blocks = x[:, : rows * down, : columns * right].reshape(count, rows, down, columns, right, channels)
    means: NDArray[np.float32] = blocks.mean(axis=(2, 4), dtype=np.float32)
    return means


def _standardized(x: NDArray[Any]) -> NDArray[np.float32]:
    """Return each image as a vector of mean 0 and length 1; uniform images are zero."""
    # The length is given because it cannot be inferred from zero images.
    flat = x.reshape(len(x), math.prod(x.shape[1:])).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    standardized: NDArray[np.float32] = np.divide(flat, norms, out=np.zeros_like(flat), where=norms > 1e-3)
    return standardized
