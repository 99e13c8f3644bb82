"""Predictions of each task as cells and JSON, and the mean over mirror images."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest

from hpo.errors import ModelFileError, UsageError
from hpo.predict.forms import form_of
from hpo.predict.writers import writer

CASES: dict[str, tuple[str | None, list[str], int, list[float], str, dict[str, Any]]] = {
    "classes": (
        *("classes", ["cat", "dog", "=fox"], 1, [0.2, 0.7, 0.1], "path,class,probability\n-x.jpg,dog,0.7\n"),
        {"class": "dog", "probability": 0.7},
    ),
    "top": (
        *("classes", ["cat", "dog", "=fox"], 2, [0.2, 0.1, 0.7]),
        "path,class,probability,class_2,probability_2\n-x.jpg,'=fox,0.7,cat,0.2\n",
        {
            "class": "=fox",
            "probability": 0.7,
            "top": [{"class": "=fox", "probability": 0.7}, {"class": "cat", "probability": 0.2}],
        },
    ),
    "binary": (
        *("binary", ["ill", "well"], 1, [0.25], "path,class,probability\n-x.jpg,ill,0.75\n"),
        {"class": "ill", "probability": 0.75},
    ),
    "labels": (
        *("labels", ["sea", "path", "sun"], 1, [0.625, 0.5, 0.75]),
        "path,labels,sea,label_path,sun\n-x.jpg,sea|sun,0.625,0.5,0.75\n",
        {"labels": ["sea", "sun"], "probabilities": {"sea": 0.625, "path": 0.5, "sun": 0.75}},
    ),
    "regression": (
        *("regression", ["price"], 1, [-1.5], "path,price\n-x.jpg,-1.5\n"),
        {"values": {"price": -1.5}},
    ),
    "no task": (
        *(None, [], 1, [1.0, 2.0], "path,output_1,output_2\n-x.jpg,1.0,2.0\n"),
        {"values": {"output_1": 1.0, "output_2": 2.0}},
    ),
}  # type: ignore[assignment]


@pytest.mark.parametrize("case", CASES)
def test_each_task_is_written_as_csv_and_json(case: str) -> None:
    task, names, top, row, text, value = CASES[case]
    form = form_of(task, names, len(row), top)
    outputs = np.array([row])
    for kind in ("csv", "json", "table"):
        stream = io.StringIO()
        written = writer(kind, stream, form, 0)  # type: ignore[arg-type]
        written.write(["-x.jpg"], outputs)
        written.close()
        if kind == "csv":
            assert stream.getvalue() == text.replace("-x.jpg", "'-x.jpg")
            assert len({len(line) for line in csv.reader(io.StringIO(stream.getvalue()))}) == 1
        elif kind == "json":
            assert json.loads(stream.getvalue()) == [{"path": "-x.jpg", **value}]
        else:
            header, line = stream.getvalue().splitlines()
            assert header.split()[: 1 + len(form.table_headers)] == ["path", *form.table_headers]
            assert line.startswith("-x.jpg")


def test_table_marks_examples_without_a_label() -> None:
    assert form_of("labels", ["sea", "sun"], 2, 1).table_cells(np.array([0.5, 0.1])) == ["-"]


def test_numbers_have_the_digits_of_32_bits() -> None:
    assert form_of("regression", ["y"], 1, 1).cells(np.array([np.float64(np.float32(0.1))])) == [0.1]


def test_json_is_a_list_with_each_prediction_on_a_line() -> None:
    form = form_of("classes", ["a", "b"], 2, 1)
    stream = io.StringIO()
    written = writer("json", stream, form, 0)
    written.close()
    assert json.loads(stream.getvalue()) == []
    stream = io.StringIO()
    written = writer("json", stream, form, 0)
    for name in ("ä.jpg", "\udcff.jpg"):
        written.write([name], np.array([[0.9, 0.1]]))
    written.close()
    assert len(stream.getvalue().splitlines()) == 4
    assert [row["path"] for row in json.loads(stream.getvalue())] == ["ä.jpg", "\udcff.jpg"]
    assert "ä" in stream.getvalue()
    stream.getvalue().encode()


def test_table_is_aligned_over_batches_for_wide_characters_too() -> None:
    stream = io.StringIO()
    written = writer("table", stream, form_of("classes", ["猫", "dog"], 2, 1), longest=9)
    written.write(["a.jpg"], np.array([[0.9, 0.1]]))
    written.write(["long5.jpg"], np.array([[0.1, 0.9]]))
    assert stream.getvalue().splitlines() == [
        "path       class  probability",
        "a.jpg      猫          0.9000",
        "long5.jpg  dog         0.9000",
    ]


def test_path_with_a_line_break_keeps_to_its_row() -> None:
    stream = io.StringIO()
    written = writer("table", stream, form_of("classes", ["cat", "dog"], 2, 1), longest=6)
    written.write(["a\nb\t\x1b.jpg", "\udcff.jpg"], np.array([[0.9, 0.1], [0.1, 0.9]]))
    assert [line.split() for line in stream.getvalue().splitlines()[1:]] == [
        ["a?b??.jpg", "cat", "0.9000"],
        ["?.jpg", "dog", "0.9000"],
    ]


def test_mean_over_mirror_images_is_that_of_their_logits() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 5, (2, 20, 3))

    def softmax(logits: np.ndarray) -> np.ndarray:
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def sigmoid(logits: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-logits))

    middle = (first + second) / 2
    classes = form_of("classes", ["a", "b", "c"], 3, 1).mean(softmax(first), softmax(second))
    np.testing.assert_allclose(classes, softmax(middle), rtol=1e-9)
    labels = form_of("labels", ["a", "b", "c"], 3, 1).mean(sigmoid(first), sigmoid(second))
    np.testing.assert_allclose(labels, sigmoid(middle), rtol=1e-9)
    certain = form_of("classes", ["a", "b"], 2, 1).mean(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(certain, [[1.0, 0.0]], atol=1e-30)
    values = form_of("regression", ["y"], 1, 1).mean(np.array([[1.0]]), np.array([[3.0]]))
    assert values == [[2.0]]


def test_outputs_of_another_number_and_top_of_other_tasks_are_refused() -> None:
    with pytest.raises(ModelFileError, match=r"2 outputs, but metrics\.json next to it names a, b, c"):
        form_of("classes", ["a", "b", "c"], 2, 1)
    with pytest.raises(
        UsageError, match="--top 2 needs a model of classes, and this one predicts regression"
    ):
        form_of("regression", ["y"], 1, 2)
