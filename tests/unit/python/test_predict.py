"""`Study.predict`: the arguments of its command, and its result as a frame."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpo.errors import UsageError
from hpo.predict.forms import Choice, Form, Labels, Values
from hpo.predict.sources import image_paths
from hpo.predict.writers import writer
from hpo.python.predict import _arguments, columns


@pytest.mark.parametrize(
    ("form", "outputs"),
    [
        (Choice(["1", "=2", "-x"], 1), [0.2, 0.5, 0.3]),
        (Choice(["1", "=2", "-x"], 3), [0.2, 0.5, 0.3]),
        (Choice(["no", "yes"], 2, binary=True), [0.9]),
        (Labels(["path", "labels", "=a"]), [0.9, 0.1, 0.6]),
        (Values(["path", "class", "-a"]), [0.5, 1e-9, 2]),
    ],
)
def test_frame_has_the_columns_of_csv_and_exact_texts(form: Form, outputs: list[float]) -> None:
    texts = {}
    for name in ("csv", "json"):
        stream = io.StringIO()
        written = writer(name, stream, form, 0)  # type: ignore[arg-type]
        written.write(["=1.png"], np.array([outputs]))
        written.close()
        texts[name] = stream.getvalue()
    [row] = csv.DictReader(io.StringIO(texts["csv"]))
    [found] = map(columns, json.loads(texts["json"]))
    # A spreadsheet's apostrophe is in CSV alone.
    assert {name: str(cell) for name, cell in found.items()} == {
        name: cell.removeprefix("'") for name, cell in row.items()
    }
    assert found["path"] == "=1.png"
    assert all(
        isinstance(cell, float) for name, cell in found.items() if name in ("class_", "-a", "value_path")
    )


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]}), [[1, 3], [2, 4]]),
        (pd.DataFrame({"a": [1.5], "b": [True]}, dtype=object), [[1.5, 1]]),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        (np.array(["a text", "another"], object), ["a text", "another"]),
    ],
)
def test_arrays_and_tables_are_saved(tmp_path: Path, inputs: object, expected: list[object]) -> None:
    [path], of_arrays = _arguments(inputs, tmp_path)
    assert of_arrays
    assert np.load(path).tolist() == expected


@pytest.mark.parametrize("inputs", [None, [], [None], [[1], [1, 2]], {"a": [object()]}])
def test_other_inputs_are_refused(tmp_path: Path, inputs: object) -> None:
    with pytest.raises(UsageError, match="give paths, or arrays"):
        _arguments(inputs, tmp_path)


def test_many_paths_of_any_bytes_reach_the_command(tmp_path: Path) -> None:
    paths = [str(tmp_path / os.fsdecode(b"\xff%d,\n.png" % number)) for number in range(501)]
    arguments, of_arrays = _arguments(pd.Series(paths), tmp_path)
    assert (len(arguments), of_arrays) == (1, False)
    assert list(image_paths(arguments, None)) == paths
