"""The data sets that are known by name, and how each comes onto this machine.

A name is looked for as `<data_dir>/<name>.npz`, in the layout of `keras.datasets`, then in what
Keras has downloaded or can download; `digits` comes with scikit-learn. Sizes may differ from the
official ones: nothing counts on them.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import DataDamagedError, DataMissingError, FileNotWritableError, UsageError
from objectives.data import arrays
from objectives.data.arrays import Arrays
from objectives.data.splits import stratified

_CONNECT_SECONDS = 30.0
_DIGITS_TEST_FRACTION = 0.2
_DIGITS_SEED = 0


@dataclass(frozen=True)
class Dataset:
    """A data set known by name."""

    name: str
    title: str
    classes: tuple[str, ...]
    download: str | None
    """Module of `keras.datasets` that downloads it; None: nothing to download."""


_DIGIT_NAMES = tuple("0123456789")

SHIPPED: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset("digits", "1,797 digits of 8×8, bundled with scikit-learn", _DIGIT_NAMES, None),
        Dataset("mnist", "MNIST: digits of 28×28", _DIGIT_NAMES, "mnist"),
        Dataset(
            "cifar10",
            "CIFAR-10: photographs of 32×32 in colour",
            ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            "cifar10",
        ),
    )
}


@dataclass(frozen=True)
class FileReport:
    """What `verify` found in a data set's file."""

    name: str
    path: Path | None
    """None: the data is bundled or in Keras' own cache."""
    sha256: str | None
    arrays: Mapping[str, str]
    """Name of each array to its type and shape."""
    class_counts: Mapping[str, tuple[int, ...]]
    """`train` and `test` to the number of images of each class."""
    problems: tuple[str, ...] = ()


def load(name: str, data_dir: str | Path | None, test: bool = True) -> Arrays:
    """The arrays of a data set by name; the test set is None unless asked for.

    Raises:
        DataMissingError: there is no such file and nothing to download, or no network.
        DataDamagedError: the file is there but unsound.
    """
    dataset = SHIPPED.get(name)
    path = _file(name, data_dir)
    if path is not None and path.is_file():
        return arrays.read(path, len(dataset.classes) if dataset else None, test)
    if dataset is None:
        raise DataMissingError(
            f"data set {name!r} is not one of {', '.join(SHIPPED)}, and there is no file "
            f"{path or f'{name}.npz'}: put it there, or name its folder with HPO_DATA_DIR"
        )
    loaded = _digits() if dataset.download is None else _downloaded(dataset)
    return loaded if test else Arrays(loaded.x_train, loaded.y_train)


def class_names(name: str) -> tuple[str, ...] | None:
    """What the labels of a shipped data set mean; None for a file of the user's own."""
    return SHIPPED[name].classes if name in SHIPPED else None


def fetch(name: str, data_dir: str | Path) -> Path | None:
    """Download a shipped data set to `<data_dir>/<name>.npz`; None when it is bundled and needs no file.

    A sound file that is already there is left as it is.

    Raises:
        UsageError: no data set of that name is shipped.
        DataMissingError: it cannot be downloaded.
        DataDamagedError: the file that is there is unsound.
    """
    dataset = _shipped(name)
    if dataset.download is None:
        return None
    path = Path(data_dir).expanduser() / f"{name}.npz"
    if path.is_file():
        arrays.read(path, len(dataset.classes), test=True)
        return path
    loaded = _downloaded(dataset)
    try:
        _write(path, {key: getattr(loaded, key) for key in arrays.NAMES})
    except OSError as exc:
        raise FileNotWritableError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    return path


def verify(name: str, data_dir: str | Path | None) -> FileReport:
    """Read a data set whole and say what it holds; an unsound file is a problem, not an exception.

    Raises:
        UsageError: no data set of that name is shipped and there is no file.
        DataMissingError: it is not on this machine and cannot be downloaded.
    """
    path = _file(name, data_dir)
    if path is None or not path.is_file():
        _shipped(name)
        path = None
    digest = _sha256(path) if path else None
    try:
        loaded = load(name, data_dir)
    except DataDamagedError as exc:
        return FileReport(name, path, digest, {}, {}, (str(exc),))
    present = {key: getattr(loaded, key) for key in arrays.NAMES}
    classes = len(class_names(name) or np.unique(loaded.y_train))
    counts = {
        split: tuple(np.bincount(present[f"y_{split}"], minlength=classes).tolist())
        for split in ("train", "test")
    }
    problems = tuple(
        f"there is no {split} image of class {label}"
        for split, numbers in counts.items()
        for label, number in enumerate(numbers)
        if number == 0
    )
    shapes = {key: f"{array.dtype} {array.shape}" for key, array in present.items()}
    return FileReport(name, path, digest, shapes, counts, problems)


def _shipped(name: str) -> Dataset:
    if name not in SHIPPED:
        raise UsageError(f"there is no data set {name!r}: known are {', '.join(SHIPPED)}")
    return SHIPPED[name]


def _file(name: str, data_dir: str | Path | None) -> Path | None:
    return Path(data_dir).expanduser() / f"{name}.npz" if data_dir is not None else None


def _digits() -> Arrays:
    """scikit-learn's digits, 0..16 stretched to 0..255, a fixed stratified fifth of them as test set."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    y = bunch.target.astype(np.int64)
    count = round(len(y) * _DIGITS_TEST_FRACTION)
    test = stratified(y, count, np.random.default_rng(_DIGITS_SEED))
    train = np.setdiff1d(np.arange(len(y)), test)
    return arrays.checked([x[train], y[train], x[test], y[test]], 10)


def _downloaded(dataset: Dataset) -> Arrays:
    """From Keras' download cache, or the network."""
    import keras

    loader: Callable[[], Any] = getattr(keras.datasets, str(dataset.download)).load_data
    try:
        with _connect_timeout(_CONNECT_SECONDS):
            train, test = loader()
    except Exception as exc:  # Keras raises a bare Exception when a download fails
        raise DataMissingError(
            f"the data set {dataset.name} is not on this machine and cannot be downloaded "
            f"({' '.join(str(exc).split())}): put {dataset.name}.npz into a folder and name it with "
            f"HPO_DATA_DIR, or run `hpo data fetch {dataset.name}` on a machine with network"
        ) from exc
    return arrays.checked([*train, *test], len(dataset.classes))


@contextmanager
def _connect_timeout(seconds: float) -> Iterator[None]:
    """Keras downloads without a timeout of its own: a silent network would hang for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _write(path: Path, content: Mapping[str, np.ndarray]) -> None:
    """Whole or not at all: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".npz")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes a file that only its owner may read; a data set is nobody's secret.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
