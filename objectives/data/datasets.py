"""Data sets by name: bundled, from a file, or downloaded.

A name is first looked up as `<data_dir>/<name>.npz`, in the layout of `keras.datasets`, then in Keras' download
cache, then downloaded; `digits` comes with scikit-learn. A file may hold more or fewer images than the official
data set.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import DataDamagedError, DataMissingError, FileNotWritableError, UsageError
from objectives.data import array_files, arrays
from objectives.data.arrays import Arrays
from objectives.data.shipped import SHIPPED, Dataset
from objectives.data.stratification import stratified
from objectives.data_options import TaskName

CONNECT_SECONDS = 30.0
_DIGITS_TEST_FRACTION = 0.2
_DIGITS_SEED = 0


def load(
    name: str,
    data_dir: str | Path | None,
    test: bool = True,
    *,
    task: TaskName = "classes",
    names: Sequence[str] | None = None,
    folder: Path | None = None,
) -> Arrays:
    """Return the arrays of a data set by name; without test set unless `test`.

    `names` are the declared names of its classes; large arrays that have to be converted are written to `folder`.

    Raises:
        DataMissingError: there is no such file and nothing to download, or no network.
        DataDamagedError: the file is invalid.
    """
    dataset = SHIPPED.get(name)
    path = file_of(name, data_dir)
    if path is not None and array_files.is_array_data(path):
        return read_file(name, path, names, test, task, folder)
    if dataset is None:
        raise DataMissingError(
            f"unknown data set {name!r} (shipped are {', '.join(SHIPPED)}), and there is no file "
            f"{path or f'{name}.npz'}: put it there, or set HPO_DATA_DIR to its folder"
        )
    loaded = _digits() if dataset.download is None else _downloaded(dataset)
    return arrays.without_test(loaded, unless=test)


def read_file(
    name: str,
    path: Path,
    names: Sequence[str] | None,
    test: bool,
    task: TaskName = "classes",
    folder: Path | None = None,
) -> Arrays:
    try:
        return array_files.read(path, names or class_names(name), test, task, folder)
    except DataDamagedError as exc:
        if name not in SHIPPED:
            raise
        raise DataDamagedError(f"{exc}, or delete it and fetch it again (hpo data fetch {name})") from exc


def location(name: str, data_dir: str | Path | None) -> str:
    """Return the path of the file that `load` reads, or the name of data from elsewhere."""
    path = file_of(name, data_dir)
    return str(path.resolve()) if path is not None and path.exists() else name


def class_names(name: str) -> tuple[str, ...] | None:
    """Return the label names of a shipped data set; None for a user's own file."""
    return SHIPPED[name].classes if name in SHIPPED else None


def fetch(name: str, data_dir: str | Path) -> Path | None:
    """Download a shipped data set to `<data_dir>/<name>.npz` and return the path; None if it is bundled.

    Keeps a valid file that already exists.

    Raises:
        UsageError: no data set of that name is shipped.
        DataMissingError: it cannot be downloaded.
        DataDamagedError: the existing file is invalid.
        FileNotWritableError: the file cannot be written.
    """
    dataset = _shipped(name)
    if dataset.download is None:
        return None
    path = Path(data_dir).expanduser() / f"{name}.npz"
    if path.is_file():
        read_file(name, path, dataset.classes, test=True)
        return path
    loaded = _downloaded(dataset)
    try:
        _write(path, {key: getattr(loaded, key) for key in arrays.NAMES})
    except OSError as exc:
        raise FileNotWritableError(
            f"{path} cannot be written ({exc.strerror or exc}): choose another folder with HPO_DATA_DIR"
        ) from exc
    return path


def _shipped(name: str) -> Dataset:
    if name not in SHIPPED:
        raise UsageError(f"unknown data set {name!r} (shipped are {', '.join(SHIPPED)})")
    return SHIPPED[name]


def file_of(name: str, data_dir: str | Path | None) -> Path | None:
    """Return the path of a data set's file, or of its folder of .npy files if only that exists."""
    if data_dir is None:
        return None
    file = Path(data_dir).expanduser() / f"{name}.npz"
    folder = file.with_suffix("") if file.suffix == ".npz" else file
    return folder if not file.is_file() and array_files.is_array_data(folder) else file


def _digits() -> Arrays:
    """Return scikit-learn's digits, 0..16 scaled to 0..255; a fixed stratified fifth is the test set."""
    pixels, y = _bundled_digits()
    x = np.rint(pixels * (255 / 16)).astype(np.uint8)
    count = round(len(y) * _DIGITS_TEST_FRACTION)
    test = stratified(y, count, np.random.default_rng(_DIGITS_SEED))
    train = np.setdiff1d(np.arange(len(y)), test)
    names = SHIPPED["digits"].classes
    return arrays.checked({"train": (x[train], y[train]), "test": (x[test], y[test])}, names=names)


def _bundled_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 8, 8) of 0..16 and (n,): read from the file that `load_digits` reads, whose import takes a second."""
    found = find_spec("sklearn")
    folders = found.submodule_search_locations if found is not None else None
    file = Path(next(iter(folders or ()), "")) / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        rows = np.loadtxt(file, delimiter=",")
        return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target.astype(np.int64)


def _downloaded(dataset: Dataset) -> Arrays:
    """Return a data set from Keras' download cache or the network."""
    try:
        with connect_timeout(CONNECT_SECONDS):
            if not (_keras_cache() / dataset.cached).exists():
                _check_reachable(dataset.origin)
            import keras

            loader: Callable[[], Any] = getattr(keras.datasets, str(dataset.download)).load_data
            train, test = loader()
    except Exception as exc:  # Keras raises a bare Exception when a download fails
        raise DataMissingError(
            f"data set {dataset.name} is not on this machine and cannot be downloaded "
            f"({' '.join(str(exc).split())}): put {dataset.name}.npz into a folder and set HPO_DATA_DIR to it, "
            f"or run `hpo data fetch {dataset.name}` on a machine with network"
        ) from exc
    return arrays.checked({"train": train, "test": test}, names=dataset.classes)


def _keras_cache() -> Path:
    """Return the folder of Keras' downloads, where Keras looks for it."""
    home = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")
    return Path(os.environ.get("KERAS_HOME", home / ".keras")).expanduser() / "datasets"


def _check_reachable(address: str) -> None:
    """Raise OSError if there is no network, before Keras is imported, which takes seconds."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(address, method="HEAD")):
            pass
    except HTTPError:
        # The server was reached: whether it has the file is for Keras to find out.
        pass
    except URLError as exc:
        raise OSError(f"{address}: {exc.reason}") from exc


@contextmanager
def connect_timeout(seconds: float) -> Iterator[None]:
    """Set a socket timeout, because Keras downloads without one and a silent network would hang forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _write(path: Path, content: Mapping[str, np.ndarray]) -> None:
    """Write the file atomically: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".npz")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes a file that only its owner can read, but a data set is not secret.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
