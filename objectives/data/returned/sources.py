"""Data sets of libraries as blocks of inputs and targets: `tf.data`, `PyDataset`, PyTorch, Hugging Face, TFDS.

Recognized by the names of their classes: none of these libraries is imported here, or need be installed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from objectives.data.class_names import by_name
from objectives.data.returned.arrays_of import UnreadableError, library_of, rows_of
from objectives.data.returned.batching import elements_of, is_batched

BLOCK_ROWS = 256

IMAGE_NAMES = ("image", "img", "pixel_values")
TARGET_NAMES = ("label", "labels", "target", "targets", "y", "fine_label")
"""Names of columns, the preferred first."""

Block = tuple[Any, Any]
"""Inputs, an array or several by name, and targets of some rows."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The blocks of a data set."""

    blocks: Iterable[Block]
    rows: int | None = None
    """Number of rows, if it is known."""
    classes: tuple[str, ...] | None = None
    """Names of the classes, if it has them."""
    note: str = ""
    """A sentence on how it is read; empty if nothing is special."""


def source_of(value: Any) -> Source | None:
    """Return the blocks of a data set; None if the value is of no known kind.

    Raises:
        UnreadableError: it is of a kind that cannot be read.
    """
    for recognized, read in _KINDS:
        if recognized(value):
            return read(value)
    if inspect.isgenerator(value) or isinstance(value, Iterator):
        raise UnreadableError(
            "is a generator, whose end cannot be known: collect its rows in arrays, or return a data set such as"
            " tf.data.Dataset.from_generator(…)"
        )
    return None


def is_a(value: object, package: str, *names: str) -> bool:
    """Return whether a class of a package with one of these names is among a value's base classes."""
    return any(
        base.__name__ in names and base.__module__.partition(".")[0] == package
        for base in type(value).__mro__
    )


def _tensorflow(dataset: Any) -> Source:
    rows = int(dataset.cardinality())
    if rows == -1:
        raise UnreadableError("is a tf.data pipeline without an end: leave .repeat() out")
    batched = is_batched(dataset)
    blocks = dataset if batched else dataset.batch(BLOCK_ROWS)
    return Source(
        blocks=(_block(element) for element in elements_of(blocks)),
        # Of batches, only their number is known.
        rows=rows if rows >= 0 and not batched else None,
        # Of keras.utils.image_dataset_from_directory.
        classes=_names(getattr(dataset, "class_names", None)),
        note="its tf.data pipeline is read once: random changes in it are the same in each epoch (declare them as the"
        " objective's augmentation instead)",
    )


def _keras(dataset: Any) -> Source:
    try:
        count = len(dataset)
    except TypeError as exc:
        raise UnreadableError("is a PyDataset without an end: give it a number of batches") from exc
    return Source(
        blocks=(_block(dataset[index]) for index in range(count)),
        note="its PyDataset is read once: random changes in it are the same in each epoch (declare them as the"
        " objective's augmentation instead)",
    )


def _torch(dataset: Any) -> Source:
    return Source(
        blocks=(_collated(rows) for rows in _groups(_items(dataset))),
        rows=len(dataset) if hasattr(dataset, "__len__") else None,
        classes=_names(getattr(dataset, "classes", None)),
        note="its PyTorch data set is read once: random transforms in it are the same in each epoch (declare them as"
        " the objective's augmentation instead)",
    )


def _names(classes: Any) -> tuple[str, ...] | None:
    """Return names of classes; None if a library's attribute has something else."""
    known = isinstance(classes, tuple | list) and all(isinstance(name, str) for name in classes)
    return tuple(classes) if known else None


def _tfds(dataset: Any) -> Source:
    """Return a data source of TensorFlow Datasets, or what its `as_numpy` returns."""
    info = getattr(dataset, "dataset_info", None)
    return Source(
        blocks=(_collated(rows) for rows in _groups(_items(dataset))),
        rows=len(dataset) if hasattr(dataset, "__len__") else None,
        classes=None if info is None else label_names(info),
    )


def label_names(info: Any) -> tuple[str, ...] | None:
    """Return the names of the classes of TensorFlow Datasets, if one feature has some."""
    labels = [feature.names for feature in info.features.values() if getattr(feature, "names", None)]
    return tuple(labels[0]) if len(labels) == 1 else None


def _loader(loader: Any) -> Source:
    source = source_of(loader.dataset)
    if loader.batch_size is None:
        blocks: Iterable[Block] = (_collated([item]) for item in loader)
    else:
        blocks = (_block(batch) for batch in loader)
    return Source(blocks=blocks, rows=None, classes=source.classes if source else None, note=_note(source))


def _note(source: Source | None) -> str:
    return "" if source is None else source.note


def _hugging_face(dataset: Any) -> Source:
    features = dict(dataset.features or {})
    if not features:
        raise UnreadableError("is a streamed data set without features: load it without streaming=True")
    named = [name for name, feature in features.items() if hasattr(feature, "names")]
    target = named[0] if len(named) == 1 else _target(features)
    inputs = _inputs(features, target)
    names = getattr(features[target], "names", None)
    chosen = f"its inputs are {', '.join(inputs)}, its targets {target}"
    types = {name: _type(feature) for name, feature in features.items()}
    return Source(
        blocks=(
            _typed(_columns(block, inputs, target), inputs, types)
            for block in dataset.iter(batch_size=BLOCK_ROWS)
        ),
        rows=len(dataset) if hasattr(dataset, "__len__") else None,
        classes=tuple(names) if names else None,
        note=chosen,
    )


def _type(feature: Any) -> np.dtype[Any] | None:
    """Return the type of a feature's numbers; None if it has others. Rows are read as lists, which have no type."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    try:
        found = np.dtype(getattr(feature, "dtype", None) or "O")
    except TypeError:
        return None
    return found if found.kind in "buif" else None


def _typed(block: Block, inputs: Sequence[str], types: Mapping[str, np.dtype[Any] | None]) -> Block:
    x, y = block
    if not isinstance(x, Mapping):
        return _narrowed(x, types[inputs[0]]), y
    return {name: _narrowed(column, types[name]) for name, column in x.items()}, y


def _narrowed(array: Any, dtype: np.dtype[Any] | None) -> Any:
    return array if dtype is None or array.dtype.kind not in "buif" else array.astype(dtype, copy=False)


def _block(element: Any) -> Block:
    """Return a batch that a data set yields as inputs and targets."""
    if isinstance(element, Mapping):
        target = _target(element)
        return _columns(element, _inputs(element, target), target)
    if isinstance(element, tuple | list) and len(element) == 2:
        x, y = element
        if isinstance(x, Mapping):
            return {name: rows_of(column) for name, column in by_name(x, "a batch").items()}, rows_of(y)
        return rows_of(x), rows_of(y)
    if isinstance(element, tuple | list) and len(element) > 2:
        raise UnreadableError(
            f"yields {len(element)} values: yield (inputs, targets); weights of examples are not used (see"
            " class_weight)"
        )
    raise UnreadableError("yields no pairs of inputs and targets: a model needs both")


def _collated(rows: Sequence[Any]) -> Block:
    """Return rows, each with its inputs and target, as one block."""
    if all(isinstance(row, tuple | list) and len(row) == 2 for row in rows):
        xs, ys = zip(*rows, strict=True)
        if isinstance(xs[0], Mapping):
            return {str(name): rows_of([x[name] for x in xs]) for name in xs[0]}, rows_of(ys)
        return rows_of(xs), rows_of(ys)
    if all(isinstance(row, Mapping) for row in rows):
        target = _target(rows[0])
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        return _columns(columns, _inputs(rows[0], target), target)
    return _block(rows[0])


def _columns(columns: Mapping[str, Any], inputs: Sequence[str], target: str) -> Block:
    found = {name: rows_of(columns[name]) for name in inputs}
    return (found[inputs[0]] if len(inputs) == 1 else found), rows_of(columns[target])


def _target(columns: Iterable[str]) -> str:
    found = [name for name in TARGET_NAMES if name in set(columns)]
    if not found:
        raise UnreadableError(
            f"has no column {' or '.join(TARGET_NAMES[:3])}, but {', '.join(map(str, columns))}: return pairs of inputs"
            " and targets"
        )
    return found[0]


def _inputs(columns: Iterable[str], target: str) -> list[str]:
    """Return the image alone, else all columns but the target."""
    names = [name for name in columns if name != target]
    image = [name for name in IMAGE_NAMES if name in names]
    if not names:
        raise UnreadableError(f"has no columns but {target}: a model needs inputs")
    return image[:1] or names


def _items(dataset: Any) -> Iterator[Any]:
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        return (dataset[index] for index in range(len(dataset)))
    return iter(dataset)


def _groups(items: Iterator[Any]) -> Iterator[list[Any]]:
    while group := list(islice(items, BLOCK_ROWS)):
        yield group


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Source]], ...] = (
    (lambda value: library_of(value) == "tensorflow" and hasattr(value, "element_spec"), _tensorflow),
    (lambda value: is_a(value, "keras", "PyDataset", "Sequence"), _keras),
    # Before PyTorch, whose classes are bases of theirs.
    (lambda value: is_a(value, "datasets", "Dataset", "IterableDataset"), _hugging_face),
    (lambda value: is_a(value, "tensorflow_datasets", "BaseDataSource", "_IterableDataset"), _tfds),
    (lambda value: is_a(value, "torch", "DataLoader"), _loader),
    (lambda value: is_a(value, "torch", "Dataset"), _torch),
)
