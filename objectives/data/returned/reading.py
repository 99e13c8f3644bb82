"""The splits of a data set that a data function returns, each kept in a store."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hpo.errors import DataDamagedError
from objectives.data.class_names import by_name
from objectives.data.conversion.float32 import Float32, is_wide
from objectives.data.errors import ArrayInvalidError, array_name
from objectives.data.returned.arrays_of import UnreadableError, array_of, is_array
from objectives.data.returned.sources import Source, is_a, label_names, source_of
from objectives.data.returned.store import Column, Kept, Store

Array = NDArray[Any]
Split = Literal["train", "val", "test"]
Inputs = Array | dict[str, Array]
KeptInputs = Kept | dict[str, Kept]

SPLITS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Names that splits may have."""

_ORDERS: Mapping[int, tuple[Split, ...]] = {1: ("train",), 2: ("train", "test"), 3: ("train", "val", "test")}
_MUST = (
    "must return (x_train, y_train), (x_test, y_test) as arrays or data sets, or the first pair, or three pairs with"
    " (x_val, y_val) as the second"
)


class Watch(Protocol):
    """Observer of reading."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note that `done` of `total` rows are read; a total of 0 is not known."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """The data set of a data function, as its store keeps it."""

    splits: Mapping[str, tuple[Any, Any]]
    """Inputs, perhaps several by name, and targets of train, val and test: arrays, or as a store keeps them."""
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    """Sentences on how it is read."""


def named(function: Callable[[], Any]) -> str:
    """Return the name of a data function, as messages begin."""
    return f"data function {getattr(function, '__name__', type(function).__name__)}"


def read(function: Callable[[], Any], store: Store, watch: Watch) -> Read:
    """Call a data function, and keep all that it returns.

    Raises:
        DataDamagedError: it returns something else than data.
        DiskFullError, FileNotWritableError: the store cannot be written.
    """
    where = named(function)
    value, classes = _without_info(function())
    splits = _splits(value, where)
    kept: dict[str, tuple[KeptInputs, Kept]] = {}
    notes: list[str] = []
    for split, content in splits.items():
        try:
            source = None if _is_pair(content) else source_of(content)
            if source is None:
                kept[split] = _keep_pair(content, split, store)
            else:
                classes = classes or source.classes
                notes += [f"{where}: {source.note}"] if source.note and split == "train" else []
                kept[split] = _stream(source, split, store, watch)
        except UnreadableError as exc:
            raise DataDamagedError(f"{where} returns invalid data: {split} {exc}") from exc
        except ArrayInvalidError as exc:
            raise DataDamagedError(f"{where} returns invalid data: {exc}") from exc
    return Read(splits=kept, classes=classes, notes=tuple(notes))


def _without_info(value: Any) -> tuple[Any, tuple[str, ...] | None]:
    """Return data of TensorFlow Datasets without their description, and the names of its classes."""
    builder = hasattr(value, "as_dataset") and hasattr(value, "info")
    info = value.info if builder else None
    if isinstance(value, tuple) and len(value) == 2 and is_a(value[1], "tensorflow_datasets", "DatasetInfo"):
        value, info = value
    if info is None:
        return value, None
    if builder:
        value = value.as_dataset(as_supervised=bool(info.supervised_keys))
    return value, label_names(info)


def _splits(value: Any, where: str) -> dict[Split, Any]:
    """Return the data of each split by name."""
    if isinstance(value, Mapping) and value and not _is_data(value):
        unknown = [str(name) for name in value if name not in SPLITS]
        if len(unknown) == len(value):
            raise DataDamagedError(
                f"{where} {_MUST}, not {type(value).__name__} with {', '.join(unknown[:5])}"
            )
        if unknown:
            raise DataDamagedError(
                f"{where} returns splits that are unknown ({', '.join(unknown[:5])}): name them train, validation and"
                " test, and leave out the others"
            )
        found = {SPLITS[name]: value[name] for name in SPLITS if name in value}
        if "train" not in found or len(found) < len(value):
            raise DataDamagedError(
                f"{where} returns the splits {', '.join(value)}: return train once, and at most one split for"
                " validation and one for tests"
            )
        if not all(map(_is_data, found.values())):
            raise DataDamagedError(f"{where} {_MUST}")
        return found
    contents: Sequence[Any] = [value] if _is_data(value) else value
    if not isinstance(contents, tuple | list) or not contents:
        raise DataDamagedError(f"{where} {_generator(value) or f'{_MUST}, not {_kind(value)}'}")
    if len(contents) == len(_ORDERS) and all(map(is_array, contents)):
        raise DataDamagedError(
            f"{where} returns three arrays: return pairs; weights of examples are not used (see class_weight)"
        )
    if not all(map(_is_data, contents)):
        kinds = ", ".join(map(_kind, contents[: len(_ORDERS)]))
        wrong = f"{_MUST}, not {type(contents).__name__} of {kinds}"
        raise DataDamagedError(f"{where} {next(filter(None, map(_generator, contents)), wrong)}")
    if len(contents) not in _ORDERS:
        raise DataDamagedError(
            f"{where} returns {len(contents)} pairs of arrays: return one (training), two (training, test) or three"
            " (training, validation, test)"
        )
    return dict(zip(_ORDERS[len(contents)], contents, strict=True))


def _kind(value: object) -> str:
    """Return the types of a value and of the parts of a pair."""
    if isinstance(value, tuple | list) and len(value) in _ORDERS:
        return f"{type(value).__name__} ({', '.join(type(part).__name__ for part in value)})"
    return type(value).__name__


def _generator(value: object) -> str:
    if inspect.isgenerator(value) or inspect.isgeneratorfunction(value):
        return "returns a generator: collect its rows in arrays, or return tf.data.Dataset.from_generator(…)"
    return ""


def _is_data(value: object) -> bool:
    """Return whether a value is the data of one split."""
    if _is_pair(value):
        return True
    try:
        return not isinstance(value, tuple | list | dict) and source_of(value) is not None
    except UnreadableError:
        # Reading it gives the reason.
        return not inspect.isgenerator(value)


def _is_pair(value: object) -> bool:
    if not (isinstance(value, tuple | list) and len(value) == 2):
        return False
    x, y = value
    several = isinstance(x, Mapping) and bool(x) and all(map(is_array, x.values()))
    return (several or is_array(x)) and is_array(y)


def _keep_pair(pair: Any, split: str, store: Store) -> tuple[KeptInputs, Kept]:
    x, y = pair
    try:
        if isinstance(x, Mapping):
            inputs: KeptInputs = {
                name: store.keep(array_of(column), _to_float32(split, name))
                for name, column in by_name(x, f"x_{split}").items()
            }
        else:
            inputs = store.keep(array_of(x), _to_float32(split))
    except UnreadableError as exc:
        raise UnreadableError(f"inputs: x_{split} {exc}") from exc
    try:
        return inputs, store.keep(array_of(y))
    except UnreadableError as exc:
        raise UnreadableError(f"targets: y_{split} {exc}") from exc


def _to_float32(split: str, name: str = "") -> Float32:
    """Return the conversion of one of the inputs of a split."""
    return Float32(array_name(f"x_{split}", name), keeps_differences=split == "train")


def _stream(source: Source, split: str, store: Store, watch: Watch) -> tuple[KeptInputs, Kept]:
    """Keep a data set block by block."""
    several, writers, rows = False, dict[str, _Writer](), 0
    watch(f"reading {split}", 0, source.rows or 0)
    for x, y in source.blocks:
        several = isinstance(x, Mapping)
        block = {**(x if isinstance(x, Mapping) else {"": x}), _TARGETS: y}
        if not writers:
            writers = {
                name: _Writer(store, None if name == _TARGETS else _to_float32(split, name)) for name in block
            }
        if block.keys() != writers.keys():
            raise UnreadableError(f"has other inputs from row {rows} on ({', '.join(map(str, block))})")
        for name, column in block.items():
            writers[name].append(column, rows)
        if len({len(column) for column in block.values()}) > 1:
            raise UnreadableError(f"has more inputs than targets, or fewer, from row {rows} on")
        rows += len(y)
        watch(f"reading {split}", rows, max(source.rows or 0, rows if source.rows else 0))
    if not writers:
        raise UnreadableError("is empty")
    targets = writers.pop(_TARGETS).end()
    return {name: writer.end() for name, writer in writers.items()} if several else writers[""].end(), targets


_TARGETS = "\0targets"


class _Writer:
    """One column of a data set that is read block by block."""

    def __init__(self, store: Store, to_float32: Float32 | None) -> None:
        self._store, self._to_float32 = store, to_float32
        self._column: Column | None = None
        self._dtype: np.dtype[Any] = np.dtype(np.uint8)
        self._shape: tuple[int, ...] = ()
        # The longest string is known only at the end.
        self._texts: list[Array] = []

    def append(self, block: Array, row: int) -> None:
        if self._to_float32 is not None and is_wide(block.dtype):
            block = self._to_float32(block)
        if self._column is None and not self._texts:
            self._dtype, self._shape = block.dtype, block.shape[1:]
        if block.shape[1:] != self._shape:
            raise UnreadableError(
                f"has rows of {self._shape}, and from row {row} on of {block.shape[1:]}: give them one shape in the"
                " data function"
            )
        if not _holds(self._dtype, block.dtype):
            raise UnreadableError(f"is {self._dtype}, and from row {row} on {block.dtype}: give it one type")
        if block.dtype.kind in "US":
            self._texts.append(block)
            return
        self._column = self._column or self._store.column(self._dtype, self._shape)
        self._column.append(block)

    def end(self) -> Kept:
        if self._column is None:
            return self._store.keep(np.concatenate(self._texts))
        if self._to_float32 is not None:
            self._to_float32.end()
        return self._column.end()


def _holds(dtype: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Return whether a column of one type holds numbers, or texts, of another; floats may be rounded."""
    kinds = {dtype.kind, other.kind}
    if kinds & {"U", "S"}:
        return len(kinds) == 1
    return np.can_cast(other, dtype, "safe" if kinds <= {"i", "u"} else "same_kind")


def mapped(found: Read, function: Callable[[Kept], Kept]) -> Read:
    """Return a data set with each of its arrays changed by a function."""

    def changed(split: Iterator[KeptInputs]) -> Any:
        return tuple(
            {name: function(one) for name, one in part.items()} if isinstance(part, dict) else function(part)
            for part in split
        )

    return replace(found, splits={name: changed(iter(parts)) for name, parts in found.splits.items()})
