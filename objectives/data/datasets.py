"""Data sets by name: bundled, from a file, or downloaded.

A name is first looked up as `<data_dir>/<name>.npz`, in the layout of `keras.datasets`, then in Keras' download
cache, then downloaded; `digits` comes with scikit-learn. A file may hold more or fewer images than the official
data set.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import DataDamagedError, DataMissingError, FileNotWritableError, UsageError
from objectives.data import array_files, arrays, inputs
from objectives.data.arrays import Arrays
from objectives.data.shipped import SHIPPED, Dataset
from objectives.data.stratification import stratified
from objectives.data.targets import Targets
from objectives.data_options import TaskName

CONNECT_SECONDS = 30.0
_DIGITS_TEST_FRACTION = 0.2
_DIGITS_SEED = 0


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """Result of `verify`."""

    name: str
    path: Path | None
    """Path of the file; None: the data is bundled or in Keras' own cache."""
    sha256: str | None
    arrays: Mapping[str, str]
    """Array names to type and shape."""
    class_counts: Mapping[str, tuple[int, ...]]
    """`train`, `test` and, where the file has it, `valid` to the number of examples of each class or label;
    empty for a regression."""
    problems: tuple[str, ...] = ()


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
    path = _file(name, data_dir)
    if path is not None and array_files.is_array_data(path):
        return _read(name, path, names, test, task, folder)
    if dataset is None:
        raise DataMissingError(
            f"unknown data set {name!r} (shipped are {', '.join(SHIPPED)}), and there is no file "
            f"{path or f'{name}.npz'}: put it there, or set HPO_DATA_DIR to its folder"
        )
    loaded = _digits() if dataset.download is None else _downloaded(dataset)
    return arrays.without_test(loaded, unless=test)


def _read(
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
    path = _file(name, data_dir)
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
        _read(name, path, dataset.classes, test=True)
        return path
    loaded = _downloaded(dataset)
    try:
        _write(path, {key: getattr(loaded, key) for key in arrays.NAMES})
    except OSError as exc:
        raise FileNotWritableError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    return path


def verify(name: str, data_dir: str | Path | None, task: TaskName = "classes") -> FileReport:
    """Read a whole data set and report its content; an invalid file is a problem in the report, not an exception.

    `name` is that of a data set, or the path of an .npz file or a folder of .npy files. Targets are checked as those
    of `task`.

    Raises:
        UsageError: no data set of that name is shipped, and there is no file.
        DataMissingError: the data set is not on this machine and cannot be downloaded.
    """
    path = _file(name, data_dir)
    own = Path(name).expanduser()
    if path is None or not path.exists():
        path = own if name not in SHIPPED and array_files.is_array_data(own) else None
        if path is None and name not in SHIPPED:
            raise UsageError(
                f"unknown data set {name!r}: use one of {', '.join(SHIPPED)}, the name of a file"
                " HPO_DATA_DIR/<name>.npz, or the path of an .npz file or a folder of .npy files"
            )
    digest = _sha256(path) if path and path.is_file() else None
    try:
        loaded = _read(name, path, None, True, task) if path == own else load(name, data_dir, task=task)
    except DataDamagedError as exc:
        return FileReport(
            name=name, path=path, sha256=digest, arrays={}, class_counts={}, problems=(str(exc),)
        )
    pairs = {
        "train": (loaded.x_train, loaded.y_train),
        "valid": (loaded.x_valid, loaded.y_valid),
        "test": (loaded.x_test, loaded.y_test),
    }
    present = {split: (x, y) for split, (x, y) in pairs.items() if x is not None and y is not None}
    classes = len(loaded.classes or class_names(name) or np.unique(loaded.y_train))
    counts = {split: _counts(y, task, classes) for split, (_, y) in present.items() if task != "regression"}
    kind = "label" if task == "labels" else "class"
    problems = tuple(
        f"there is no {split} example of {kind} {label}"
        for split, numbers in counts.items()
        for label, number in enumerate(numbers)
        if number == 0
    )
    shapes = {
        f"{kind}_{split}{'/' if key else ''}{key}": f"{array.dtype} {array.shape}"
        for split, pair in present.items()
        for kind, part in zip("xy", pair, strict=True)
        for key, array in inputs.each(part).items()
    }
    return FileReport(
        name=name, path=path, sha256=digest, arrays=shapes, class_counts=counts, problems=problems
    )


def _counts(y: Targets, task: TaskName, classes: int) -> tuple[int, ...]:
    found = y.sum(axis=0, dtype=np.int64) if task == "labels" else np.bincount(y, minlength=classes)
    return tuple(found.tolist())


def _shipped(name: str) -> Dataset:
    if name not in SHIPPED:
        raise UsageError(f"unknown data set {name!r} (shipped are {', '.join(SHIPPED)})")
    return SHIPPED[name]


def _file(name: str, data_dir: str | Path | None) -> Path | None:
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
