"""Predictions of a study's retrained model for Python: the command in a process of its own, its result as a frame.

A notebook's process keeps its own framework and GPU.
"""

from __future__ import annotations

import csv
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.python.command import run_command
from hpo.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

_MOST_ARGUMENTS = 500
"""Paths that are arguments; more are written into a table, because a command line is limited."""

_TEXT = re.compile(r"path|labels|class(_\d+)?")
"""Columns of text, which pandas would otherwise read as numbers where classes are numbers."""


def predict(name: str, inputs: Any, options: list[str], settings: Settings) -> pd.DataFrame:
    """Return the predictions for paths, an array, or arrays by name: one row each.

    Raises:
        HpoError: as `hpo predict` fails, with the same message.
    """
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="hpo-predict-") as folder:
        output = Path(folder) / "predictions.csv"
        arguments, of_arrays = _arguments(inputs, Path(folder))
        run_command(
            ["predict", "--study", name, "--output", str(output), *options, "--", *arguments], settings
        )
        with output.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            headers = next(csv.reader(file))
        types = {header: str for header in headers if _TEXT.fullmatch(header)}
        frame: pd.DataFrame = pd.read_csv(
            output, dtype=types, keep_default_na=False, encoding_errors="surrogateescape"
        )
    return frame.drop(columns="path") if of_arrays else frame


def _arguments(inputs: Any, folder: Path) -> tuple[list[str], bool]:
    """Return the arguments of the command, and whether they are arrays, written into `folder`."""
    if isinstance(inputs, str | os.PathLike):
        return [os.path.abspath(inputs)], False  # noqa: PTH100 - it may be bytes that are no text
    if isinstance(inputs, Mapping):
        arrays: dict[str, Any] = {str(key): np.asarray(value) for key, value in inputs.items()}
        np.savez(folder / "inputs.npz", **arrays)
        return [str(folder / "inputs.npz")], True
    if not isinstance(inputs, np.ndarray):
        paths = list(inputs) if isinstance(inputs, Iterable) else [inputs]
        if paths and all(isinstance(path, str | os.PathLike) for path in paths):
            return _paths([os.path.abspath(path) for path in paths], folder), False  # noqa: PTH100
    np.save(folder / "inputs.npy", np.asarray(inputs), allow_pickle=False)
    return [str(folder / "inputs.npy")], True


def _paths(paths: list[str], folder: Path) -> list[str]:
    if len(paths) <= _MOST_ARGUMENTS:
        return paths
    table = folder / "paths.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["path"], *([path] for path in paths)])
    return [str(table)]
