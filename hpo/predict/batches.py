"""Batches of inputs: images decoded by threads while the model computes, or rows of arrays."""

from __future__ import annotations

import warnings
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpo.devices.cores import usable_cores
from hpo.errors import DataDamagedError, DataMissingError, UsageError
from hpo.models.loading import Inputs
from objectives.images.decoding import Geometry, UnreadableError, pixels
from objectives.images.examination import content

_AHEAD = 2
"""Number of batches that are decoded while one is predicted."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs with their names, and the files that could not be read."""

    names: Sequence[str]
    """Path of each input; for arrays with the row, such as `x.npy[3]`."""
    inputs: Inputs
    unreadable: Mapping[str, str]
    """Reason by path."""


def image_batches(paths: Iterator[str], geometry: Geometry, size: int) -> Iterator[Batch]:
    """Yield images as uint8 of `geometry.shape`, in order, decoded as those that a model was trained on."""

    def decoded(path: str) -> NDArray[np.uint8] | str:
        try:
            return pixels(content(Path(path)), geometry)
        except UnreadableError as exc:
            return str(exc)

    with _decoding() as pool:
        waiting: deque[tuple[list[str], Iterator[NDArray[np.uint8] | str]]] = deque()
        while True:
            while len(waiting) <= _AHEAD and (chunk := list(islice(paths, size))):
                waiting.append((chunk, pool.map(decoded, chunk)))
            if not waiting:
                return
            chunk, results = waiting.popleft()
            found = list(zip(chunk, results, strict=True))
            images = [image for _, image in found if not isinstance(image, str)]
            yield Batch(
                names=[path for path, image in found if not isinstance(image, str)],
                inputs=np.stack(images) if images else np.zeros((0, *geometry.shape), np.uint8),
                unreadable={path: image for path, image in found if isinstance(image, str)},
            )


@contextmanager
def _decoding() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(usable_cores().count, "images")
    # Pillow warns of odd metadata. Here, because the filters belong to all threads.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def array_batches(arrays: Inputs, place: str, size: int) -> Iterator[Batch]:
    """Yield the rows of an array, or of arrays by name; `place` names them in messages and rows.

    Raises:
        DataDamagedError: arrays have different lengths.
    """
    rows = {len(array) for array in arrays.values()} if isinstance(arrays, Mapping) else {len(arrays)}
    if len(rows) != 1:
        raise DataDamagedError(
            f"the arrays of {place} have different lengths: each needs one row for each input"
        )
    count = rows.pop()
    for start in range(0, count, size):
        part = slice(start, start + size)
        inputs: Inputs = (
            {name: np.asarray(array[part]) for name, array in arrays.items()}
            if isinstance(arrays, Mapping)
            else np.asarray(arrays[part])
        )
        names = [f"{place}[{row}]" for row in range(start, min(start + size, count))]
        yield Batch(names=names, inputs=inputs, unreadable={})


def read_arrays(path: Path) -> Inputs:
    """Return the array of an .npy file, mapped, or those of an .npz file by name; a single one without its name.

    Raises:
        DataMissingError: there is no such file.
        DataDamagedError: it holds no such arrays.
    """
    try:
        if path.exists() and not path.is_file():
            # A pipe would be waited for.
            raise OSError("it is not a regular file")
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                named = {name: found[name] for name in found.files}
        else:
            named = {"": found}
    except FileNotFoundError as exc:
        raise DataMissingError(f"there is no file {path}: check its name") from exc
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as exc:
        # NumPy advises to trust files that it does not know.
        others = "pickle" in str(exc) or "Python objects" in str(exc)
        reason = "it holds Python objects" if others else " ".join(str(exc).split())
        raise DataDamagedError(
            f"{path} cannot be read ({reason}): write arrays of numbers or strings with numpy.save or numpy.savez"
        ) from exc
    if not named or any(array.ndim == 0 for array in named.values()):
        raise DataDamagedError(f"{path} holds no rows: write an array with one row for each input")
    if len(named) > 1:
        return named
    return next(iter(named.values()))


def with_channels(inputs: Inputs, shapes: Mapping[str, tuple[int | None, ...]]) -> Inputs:
    """Return grey images (rows, height, width) or a column (rows,) as a model takes them, with a last axis of one."""
    [*_, shape] = shapes.values()
    if (
        isinstance(inputs, np.ndarray)
        and len(shapes) == 1
        and len(shape) == inputs.ndim in (1, 3)
        and shape[-1] == 1
        and inputs.dtype.kind != "U"
    ):
        return inputs[..., np.newaxis]
    return inputs


def check_rows(inputs: Inputs, shapes: Mapping[str, tuple[int | None, ...]], place: str) -> None:
    """Check that rows have the shape of a model's inputs, by name; one that has a single input may have any name.

    Raises:
        UsageError: they do not.
    """
    if isinstance(inputs, Mapping) and set(inputs) != set(shapes):
        raise UsageError(
            f"{place} has {', '.join(inputs)}, but the model takes {', '.join(shapes)}: name the arrays so"
        )
    if not isinstance(inputs, Mapping) and len(shapes) > 1:
        raise UsageError(f"the model takes {', '.join(shapes)}: write these arrays by name with numpy.savez")
    pairs = (
        [(inputs[name], shape) for name, shape in shapes.items()]
        if isinstance(inputs, Mapping)
        else [(inputs, next(iter(shapes.values())))]
    )
    for array, shape in pairs:
        row = array.shape[1:]
        if len(row) != len(shape) or any(
            wanted not in (None, given) for given, wanted in zip(row, shape, strict=True)
        ):
            raise UsageError(
                f"rows of {place} have the shape {row}, but the model takes {_shape(shape)}: give arrays like those it"
                " was trained on"
            )


def _shape(shape: tuple[int | None, ...]) -> str:
    sides = ["any" if side is None else str(side) for side in shape]
    return f"({', '.join(sides)}{',' if len(sides) == 1 else ''})"
