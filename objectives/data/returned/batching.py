"""Elements of `tf.data` pipelines: whether they are rows or batches of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from objectives.data.returned.arrays_of import UnreadableError


def is_batched(dataset: Any) -> bool:
    """Return whether the elements are batches of rows: their first sizes are unknown, or the pipeline has made them."""
    specs = list(_leaves(dataset.element_spec))
    shapes = [getattr(spec, "shape", None) for spec in specs]
    if any(shape is None or shape.rank in (0, None) for shape in shapes):
        return False
    first = {shape[0] for shape in shapes if shape is not None}
    if len(first) != 1:
        return False
    return first == {None} or _makes_batches(dataset)


def _makes_batches(dataset: Any) -> bool:
    """Return whether the last step of a pipeline that changes its rows batches them.

    Raises:
        UnreadableError: a function makes the elements, which may be rows or batches.
    """
    name = type(dataset).__name__
    if "Batch" in name:
        return "Unbatch" not in name
    if "FlatMap" in name or ("Interleave" in name and "Directed" not in name):
        raise UnreadableError(
            "has elements that may be rows or batches: end the pipeline with .unbatch() if they are batches, or with"
            " .batch(256) if they are rows"
        )
    before = dataset._inputs() if hasattr(dataset, "_inputs") else []
    return bool(before) and all(map(_makes_batches, before))


def elements_of(batches: Any) -> Iterator[Any]:
    try:
        yield from batches.as_numpy_iterator()
    except Exception as exc:
        if type(exc).__name__ == "InvalidArgumentError" and "batch tensors with different shapes" in str(exc):
            raise UnreadableError(
                "holds rows of several shapes: give them one shape in the data function"
            ) from exc
        raise


def _leaves(spec: Any) -> Iterator[Any]:
    if isinstance(spec, Mapping):
        spec = tuple(spec.values())
    if isinstance(spec, tuple | list):
        for item in spec:
            yield from _leaves(item)
    else:
        yield spec
