"""Predictions of a study's retrained model for Python: the command in a process of its own, its result as a frame.

A notebook's process keeps its own framework and GPU.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpo import formatting
from hpo.errors import UsageError
from hpo.python.command import run_command
from hpo.settings import Settings
from objectives.data.conversion.objects import as_array
from objectives.data.errors import ArrayInvalidError

if TYPE_CHECKING:
    import pandas as pd

_MOST_ARGUMENTS = 500
"""Paths that are arguments; more are written into a table, because a command line is limited."""


def predict(name: str, inputs: Any, options: list[str], settings: Settings) -> pd.DataFrame:
    """Return the predictions for paths, an array, arrays by name, or a table: one row each.

    Raises:
        UsageError: the inputs are none of these.
        HpoError: as `hpo predict` fails, with the same message.
    """
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="hpo-predict-") as folder:
        # Not CSV, in which names that a spreadsheet would take for formulas are changed.
        output = Path(folder) / "predictions.json"
        arguments, of_arrays = _arguments(inputs, Path(folder))
        run_command(
            ["predict", "--study", name, "--output", str(output), *options, "--", *arguments], settings
        )
        found = json.loads(output.read_text(encoding="utf-8"))
    frame = pd.DataFrame([columns(one) for one in found])
    return frame.drop(columns="path", errors="ignore") if of_arrays else frame


def columns(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Return a prediction of `hpo predict --format json` with the columns of its CSV."""
    row: dict[str, Any] = {"path": prediction["path"]}
    if "probabilities" in prediction:
        shares = prediction["probabilities"]
        headings = formatting.apart(shares, ("path", "labels"), "label_")
        row["labels"] = "|".join(prediction["labels"])
        return row | {headings[name]: share for name, share in shares.items()}
    if "values" in prediction:
        headings = formatting.apart(prediction["values"], ("path",), "value_")
        return row | {headings[name]: value for name, value in prediction["values"].items()}
    for number, one in enumerate(prediction.get("top", [prediction]), 1):
        end = "" if number == 1 else f"_{number}"
        row |= {f"class{end}": one["class"], f"probability{end}": one["probability"]}
    return row


def _arguments(inputs: Any, folder: Path) -> tuple[list[str], bool]:
    """Return the arguments of the command, and whether they are arrays, written into `folder`."""
    if isinstance(inputs, str | os.PathLike):
        return [os.path.abspath(inputs)], False  # noqa: PTH100 - it may be bytes that are not text
    if isinstance(inputs, Mapping):
        arrays: dict[str, Any] = {str(key): _array(value, str(key)) for key, value in inputs.items()}
        np.savez(folder / "inputs.npz", **arrays)
        return [str(folder / "inputs.npz")], True
    # A frame of pandas or polars iterates over its columns.
    if not isinstance(inputs, np.ndarray) and not hasattr(inputs, "columns"):
        paths = list(inputs) if isinstance(inputs, Iterable) else [inputs]
        if paths and all(isinstance(path, str | os.PathLike) for path in paths):
            return _paths([os.path.abspath(path) for path in paths], folder), False  # noqa: PTH100
    np.save(folder / "inputs.npy", _array(inputs, "the array"), allow_pickle=False)
    return [str(folder / "inputs.npy")], True


def _array(values: Any, name: str) -> NDArray[Any]:
    try:
        found = as_array(values, name)
    except (ArrayInvalidError, ValueError) as exc:
        raise UsageError(f"{exc}: give paths, or arrays like those of the training") from exc
    if not found.size:
        raise UsageError(f"{name} is empty: give paths, or arrays with one row for each input")
    return found


def _paths(paths: list[str], folder: Path) -> list[str]:
    if len(paths) <= _MOST_ARGUMENTS:
        return paths
    table = folder / "paths.csv"
    with table.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([["path"], *([path] for path in paths)])
    return [str(table)]
