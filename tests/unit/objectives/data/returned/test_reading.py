"""The forms in which a data function may return its data, with stand-ins for the libraries' classes."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.sparse import csr_matrix

from hpo.errors import DataDamagedError
from objectives.data.arrays import checked
from objectives.data.errors import ArrayInvalidError
from objectives.data.returned.reading import Read, mapped, read
from objectives.data.returned.store import FileStore, MemoryStore, StoredArray

X = np.random.default_rng(0).integers(0, 255, (7, 4, 5, 3), dtype=np.uint8)
Y = np.arange(7) % 3


def made(module: str, name: str, **attributes: Any) -> Any:
    """Return an object of a class with this name in a module."""
    return type(name, (), {"__module__": module, **attributes})()


def spec(*shape: int | None) -> Any:
    return SimpleNamespace(shape=type("Shape", (tuple,), {"rank": len(shape)})(shape))


def pipeline(specs: Any, elements: list[Any], cardinality: int = -2, name: str = "_MapDataset") -> Any:
    """Return a stand-in for tf.data.Dataset of unbatched elements, or of batches."""
    batch = lambda _, size: pipeline(specs, [stacked(elements)])  # noqa: E731, ARG005
    return made(
        "tensorflow.python.data",
        name,
        element_spec=specs,
        cardinality=lambda _: cardinality,
        batch=batch,
        as_numpy_iterator=lambda _: iter(elements),
    )


def stacked(elements: list[Any]) -> Any:
    first = elements[0]
    if isinstance(first, dict):
        return {name: np.stack([one[name] for one in elements]) for name in first}
    return tuple(np.stack(part) for part in zip(*elements, strict=True))


def batches(*sizes: int) -> list[Any]:
    ends = np.cumsum(sizes)
    return [(X[end - size : end], Y[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def hugging_face(columns: dict[str, list[Any]], **features: Any) -> Any:
    return made(
        "datasets.arrow_dataset",
        "Dataset",
        features={name: features.get(name) for name in columns},
        __len__=lambda _: len(Y),
        iter=lambda _, batch_size: iter([columns]),  # noqa: ARG005
    )


ROWS = list(zip(X, Y, strict=True))
PICTURES = [Image.fromarray(x) for x in X]
DEEP = [Image.fromarray(x[..., 0].astype(np.uint16) * 256) for x in X]
TORCH = made(
    "torch.utils.data",
    "Dataset",
    __len__=lambda _: 7,
    __getitem__=lambda _, i: ROWS[i],
    classes=["a", "b", "c"],
)


@pytest.mark.parametrize(
    "returned",
    [
        (X, Y),
        [(X, Y)],
        {"train": (X, Y)},
        (X, list(Y)),
        (X, pd.Series(Y)),
        pipeline((spec(4, 5, 3), spec()), ROWS),
        pipeline((spec(None, 4, 5, 3), spec(None)), batches(3, 4)),
        pipeline((spec(7, 4, 5, 3), spec(7)), batches(7), name="_BatchDataset"),
        pipeline(
            {"image": spec(4, 5, 3), "label": spec(), "id": spec()},
            [{"image": x, "label": y, "id": y} for x, y in ROWS],
        ),
        made(
            "keras.src.trainers", "PyDataset", __len__=lambda _: 2, __getitem__=lambda _, i: batches(3, 4)[i]
        ),
        TORCH,
        made(
            "torch.utils.data",
            "DataLoader",
            dataset=TORCH,
            batch_size=4,
            __iter__=lambda _: iter(batches(4, 3)),
        ),
        hugging_face({"image": PICTURES, "label": list(Y), "name": ["?"] * 7}),
        hugging_face(
            {"x": X.tolist(), "label": list(Y)}, x=SimpleNamespace(feature=SimpleNamespace(dtype="uint8"))
        ),
        (made("datasets.arrow_dataset", "Column", __iter__=lambda _: iter(PICTURES)), tuple(Y.tolist())),
        (list(X), list(Y)),
        (PICTURES, pd.Index(Y)),
        made("tensorflow_datasets.core", "_IterableDataset", __iter__=lambda _: iter(ROWS)),
        made(
            "tensorflow_datasets.core",
            "BaseDataSource",
            __len__=lambda _: 7,
            __getitem__=lambda _, i: {"id": 0, "image": X[i], "label": Y[i]},
        ),
    ],
)
@pytest.mark.parametrize("files", [False, True])
def test_every_form_gives_the_same_arrays(returned: Any, files: bool, tmp_path: Path) -> None:
    store = FileStore(tmp_path) if files else MemoryStore()
    found = mapped(
        read(lambda: returned, store, lambda *_: None),
        lambda one: one.mapped() if isinstance(one, StoredArray) else one,
    )
    (x, y) = found.splits["train"]
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert x.dtype == np.uint8


def loaded(returned: Any) -> Read:
    def load_pets() -> Any:
        return returned

    return read(load_pets, MemoryStore(), lambda *_: None)


@pytest.mark.parametrize(
    ("returned", "splits"),
    [
        (((X, Y), (X[:2], Y[:2])), {"train": 7, "test": 2}),
        (((X, Y), (X[:2], Y[:2]), (X[:3], Y[:3])), {"train": 7, "val": 2, "test": 3}),
        (
            {"test": (X[:3], Y[:3]), "validation": (X[:2], Y[:2]), "train": (X, Y)},
            {"train": 7, "val": 2, "test": 3},
        ),
        ((TORCH, (X[:2], Y[:2])), {"train": 7, "test": 2}),
    ],
)
def test_splits_are_named(returned: Any, splits: dict[str, int]) -> None:
    found = loaded(returned).splits
    assert {name: len(y) for name, (_, y) in found.items()} == splits
    assert next(iter(found)) == "train"


@pytest.mark.parametrize(
    ("inputs", "rows"), [(("_BatchDataset",) * 2, 7), (("_BatchDataset", "_MapDataset"), 1)]
)
def test_joined_pipelines_of_batches_are_batches(inputs: tuple[str, ...], rows: int) -> None:
    joined = pipeline((spec(7, 4, 5, 3), spec(7)), batches(7), name="_ZipDataset")
    type(joined)._inputs = lambda _: [pipeline(spec(7), [], name=name) for name in inputs]
    assert len(loaded(joined).splits["train"][1]) == rows


def test_several_inputs_and_texts_are_read() -> None:
    elements = [({"a": x, "text": np.array(["a", "bcd"][i % 2])}, y) for i, (x, y) in enumerate(ROWS)]
    found = loaded(
        made("torch.utils.data", "Dataset", __len__=lambda _: 7, __getitem__=lambda _, i: elements[i])
    )
    x = found.splits["train"][0]
    np.testing.assert_array_equal(x["a"], X)
    assert x["text"].tolist() == ["a", "bcd", "a", "bcd", "a", "bcd", "a"]


def test_names_of_classes_are_taken() -> None:
    feature = SimpleNamespace(names=["cat", "dog", "emu"])
    assert loaded(hugging_face({"img": PICTURES, "kind": list(Y)}, kind=feature)).classes == (
        "cat",
        "dog",
        "emu",
    )
    assert loaded(TORCH).classes == ("a", "b", "c")
    directory = pipeline((spec(4, 5, 3), spec()), ROWS)
    directory.class_names = ["cat", "dog", "emu"]
    assert loaded(directory).classes == ("cat", "dog", "emu")
    info = made("tensorflow_datasets.core", "DatasetInfo", features={"label": feature})
    assert loaded(({"train": pipeline((spec(4, 5, 3), spec()), ROWS)}, info)).classes == ("cat", "dog", "emu")


def test_images_with_channels_first_get_them_last() -> None:
    tensor = made(
        "torch",
        "Tensor",
        shape=(7, 3, 4, 5),
        __array__=None,
        detach=lambda self: self,
        cpu=lambda self: self,
        numpy=lambda _: np.moveaxis(X, -1, 1),
    )
    np.testing.assert_array_equal(loaded((tensor, Y)).splits["train"][0], X)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_pictures_of_more_than_8_bits_keep_their_numbers(dtype: Any) -> None:
    expected = (X[..., :1] / (256.0 if dtype == np.float32 else 1 / 256)).astype(dtype)
    pictures = [Image.fromarray(x[..., 0]) for x in expected]
    found = loaded((pictures, Y)).splits["train"][0]
    np.testing.assert_array_equal(found, expected)


NULLABLE = {"a": pd.array([1, 2, 3], "Int64"), "b": pd.array([0.5, 1.5, 2.5], "Float32")}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (pd.DataFrame(NULLABLE), [[1, 0.5], [2, 1.5], [3, 2.5]]),
        (pd.DataFrame({"a": pd.Categorical([3, 1, 3]), "b": [True, False, True]}), [[3, 1], [1, 0], [3, 1]]),
        (pd.DataFrame({"a": [Decimal("0.5")] * 3}), [[0.5]] * 3),
        (pd.DataFrame([[1, 2.5]] * 3, columns=["a", "a"]), [[1, 2.5]] * 3),
        (pd.DataFrame({"a": ["x"] * 3, "b": pd.Categorical(["y"] * 3)}), [["x", "y"]] * 3),
        (pd.Series([np.zeros(2), np.ones(2), np.ones(2)]), [[0, 0], [1, 1], [1, 1]]),
        (pd.Series([[0.0, 1.0]] * 3), [[0, 1]] * 3),
    ],
)
def test_tables_and_series_are_numbers_alone_or_texts_alone(table: Any, expected: list[Any]) -> None:
    x = loaded((table, np.zeros(3))).splits["train"][0]
    assert x.dtype.kind in "biufU"
    np.testing.assert_array_equal(x, expected)


def test_types_of_floats_that_numpy_lacks_become_float32() -> None:
    x = X[:, 0, 0].astype(np.float32)
    tensor = made(
        "torch", "Tensor", shape=x.shape, dtype="torch.bfloat16", __array__=None, float=lambda _: SimpleNamespace(
            detach=lambda: SimpleNamespace(cpu=lambda: SimpleNamespace(numpy=lambda: x))
        ),
    )  # fmt: skip
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for given in (tensor, x.astype(ml_dtypes.bfloat16)):
        found = loaded((given, Y)).splits["train"][0]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, x)


def test_random_pipeline_is_noted_to_be_read_once() -> None:
    (note,) = loaded(pipeline((spec(4, 5, 3), spec()), ROWS)).notes
    assert note.startswith(
        "data function load_pets: its tf.data pipeline is read once: random changes in it are"
    )


def generator() -> Iterator[Any]:
    yield X, Y


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (generator(), "returns a generator: collect its rows in arrays"),
        ((generator(), generator()), "returns a generator"),
        ((X, Y, Y), "three arrays: return pairs; weights of examples are not used"),
        ({"train": (X, Y), "extra": (X, Y)}, r"splits that are unknown \(extra\)"),
        ({"test": (X, Y)}, "returns the splits test: return train once"),
        ({"train": (X, Y), "val": (X, Y), "valid": (X, Y)}, "at most one split for validation"),
        (pipeline((spec(4, 5, 3), spec()), ROWS, cardinality=-1), "without an end: leave .repeat"),
        (pipeline((spec(4, 5, 3),) * 3, [(X[0], X[0], X[0])]), "yields 3 values: .*class_weight"),
        (pipeline(spec(4, 5, 3), [X[:1]]), "yields no pairs of inputs and targets"),
        (hugging_face({"image": PICTURES}), "has no column label or labels or target, but image"),
        (
            hugging_face({"image": [*PICTURES[1:], PICTURES[0].resize((2, 2))], "label": list(Y)}),
            r"several shapes \(2×2, 4×5\)",
        ),
        (({1: X, "1": X}, Y), r"x_train has inputs of one name \(1 and '1'\): name each differently"),
        (made("torch", "Dataset", __len__=lambda _: 0, __getitem__=None), "train is empty"),
        (
            (pd.DataFrame({"a": [1.0] * 7, "city": ["?"] * 7}), Y),
            r"columns that are not numbers \(city\): encode them",
        ),
        (
            (np.ma.masked_equal([[0, 3]] * len(Y), 3), Y),
            "inputs: x_train has a masked value in row 0: remove",
        ),
        ((np.zeros(len(Y)), np.ma.masked_equal(Y, Y[-1])), "targets: y_train has a masked value in row"),
        (
            (pd.DataFrame({"a": [0.5] * 7, "b": pd.array(["?"] * 6 + [None])}), Y),
            "its column b has no value in row 6",
        ),
        ((X, pd.Series(["?", None] * 3 + ["?"])), "targets: y_train has no value in row 1: remove"),
        ((X, [*Y[1:], None]), "targets: y_train has no value in row 6"),
        ((X, [None, *Y[1:]]), "targets: y_train has no value in row 0"),
        (
            (X, ["a", 1] * 3 + ["b"]),
            r"y_train holds Python objects \(int, str\), not numbers or strings alone",
        ),
        (([["a", 1.5]] * 7, Y), r"x_train holds Python objects \(float, str\)"),
        (([*PICTURES[1:], DEEP[0]], Y), r"holds images of several modes \(I;16, RGB\): convert them to one"),
        (
            pipeline((spec(None, 4), {"a": spec(None)}), [(X, {"a": Y})]),
            "train has a dict in place of an",
        ),
        (
            pipeline((spec(7, 4), spec(7)), ROWS, name="_FlatMapDataset"),
            "may be rows or batches: end the pipeline with",
        ),
        (
            (pd.DataFrame({"a": [0] * 7, "day": pd.to_datetime(["2026-01-01"] * 7)}), Y),
            r"not numbers \(day\)",
        ),
        ((csr_matrix(np.eye(7)), Y), r"x_train is sparse: return it as \.toarray\(\)"),
        (([np.zeros(2)] * 3 + [np.zeros(3)] * 4, Y), r"x_train holds rows of several shapes \(2, 3\)"),
        (3, "as the second, not int"),
        ((X, SimpleNamespace()), "not tuple of ndarray, SimpleNamespace"),
        ((np.array([None, {}]), Y), r"x_train holds Python objects \(NoneType, dict\)"),
        (
            made(
                "torch.utils",
                "DataLoader",
                dataset=TORCH,
                batch_size=4,
                __iter__=lambda _: iter([(X, Y), (X[:, :2], Y)]),
            ),
            r"from row 7 on of \(2, 5, 3\): give them one shape",
        ),
    ],
)
def test_other_forms_are_refused_in_one_line(returned: Any, message: str) -> None:
    with pytest.raises(DataDamagedError, match=message) as caught:
        loaded(returned)
    assert str(caught.value).startswith("data function load_pets")
    assert "\n" not in str(caught.value)


STAMPS = 1.7e9 + np.arange(200_000.0).reshape(-1, 1) % 60
"""More than a large array's bytes, all within one minute."""


def rows_of(x: Any) -> Any:
    return made("torch", "Dataset", __len__=lambda _: len(x), __getitem__=lambda _, i: (x[i], 0))


@pytest.mark.parametrize("store", [FileStore, lambda _: MemoryStore()])
@pytest.mark.parametrize(
    ("returned", "name"),
    [
        (STAMPS, "x_train"),
        ({"age": STAMPS % 60, "time": STAMPS}, r"x_train\['time'\]"),
        (rows_of(STAMPS[:2000]), "x_train"),
    ],
)
def test_differences_lost_in_float32_are_refused_in_every_store(
    store: Any, returned: Any, name: str, tmp_path: Path
) -> None:
    """Whether a function's process converts an array, or the template that gets it."""
    y = np.zeros(len(STAMPS))
    split = (returned, y) if isinstance(returned, np.ndarray | dict) else returned
    with pytest.raises(
        (DataDamagedError, ArrayInvalidError), match=f"{name} has numbers from 1700000000.0 to"
    ):
        checked(read(lambda: {"train": split}, store(tmp_path), lambda *_: None).splits, "regression")


def test_test_inputs_may_lose_differences_in_float32(tmp_path: Path) -> None:
    """The training rows decide, and a message on the test set would give its numbers away."""
    y = np.zeros(len(STAMPS))
    found = read(
        lambda: ((STAMPS * np.arange(len(y))[:, None], y), (STAMPS, y)), FileStore(tmp_path), lambda *_: None
    )
    assert found.splits["test"][0].dtype == np.float32


@pytest.mark.parametrize(
    ("first", "second"),
    [(np.uint8, np.int64), (np.int32, np.int64), (np.int64, np.float32), ("U3", np.int64), (np.int64, "U3")],
)
def test_stream_whose_type_changes_is_refused(first: Any, second: Any) -> None:
    blocks = [(np.ones(4, first), np.zeros(4)), (np.ones(3, second), np.zeros(3))]
    loader = made("torch", "DataLoader", dataset=TORCH, batch_size=4, __iter__=lambda _: iter(blocks))
    with pytest.raises(DataDamagedError, match=r"and from row 4 on .*: give it one type"):
        loaded(loader)
