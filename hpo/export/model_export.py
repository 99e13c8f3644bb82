"""Export of a retrained model into another format, checked to give the same outputs before it is kept."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.errors import FileNotWritableError, HpoError, ModelFileError, UsageError
from hpo.export.model_formats import Inputs, ModelFormat
from hpo.files.atomic import output_file
from hpo.models.choice import ChosenModel
from hpo.models.loading import LoadedModel, load_model, named_inputs
from hpo.models.standard_error import only_on_error

TOLERANCE = 1e-4
"""Largest difference between the outputs of both models, relative to their largest one, as `_scale` returns it."""

_ROWS = 12
"""Inputs of the check."""
_UNKNOWN_SIDE = 16
"""Length that a side of any length gets in the check."""
_SAVED_MODEL = "saved_model.pb"


@dataclass(frozen=True)
class Exported:
    """A written file or folder, and the largest difference of its answers."""

    path: Path
    difference: float
    rows: int


def export_model(chosen: ChosenModel, form: ModelFormat, output: Path) -> Exported:
    """Write a model to `output` in a format, unless its answers differ.

    Raises:
        MissingDependencyError: a package for the format is not installed.
        UsageError: `output` is a folder, or holds other files than an earlier export.
        ModelFileError: the model cannot be loaded or exported, or gives other answers; nothing is written.
        FileNotWritableError: `output` cannot be written.
    """
    form.check_installed()
    _check_output(form, output)
    with only_on_error():
        model = load_model(chosen.record, device="cpu", code=chosen.code, backend_name=form.backend)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            if form.suffix:
                with output_file(output) as partial:
                    difference = _write(model, form, partial)
            else:
                difference = _write_folder(model, form, output)
        except OSError as exc:
            raise FileNotWritableError(
                f"{output} cannot be written ({exc.strerror or exc}): name another place with --output"
            ) from exc
    return Exported(output, difference, _ROWS)


def _check_output(form: ModelFormat, output: Path) -> None:
    if form.suffix and output.is_dir():
        raise UsageError(
            f"--output {output} is a folder: name a file, such as {output / f'model{form.suffix}'}"
        )
    if form.suffix or not output.exists() or (output / _SAVED_MODEL).is_file():
        return
    if not output.is_dir() or any(output.iterdir()):
        raise UsageError(f"--output {output} exists and is not a SavedModel: name a new folder")


def _write_folder(model: LoadedModel, form: ModelFormat, output: Path) -> float:
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        made = Path(folder) / "model"
        difference = _write(model, form, made)
        if output.exists():
            output.rename(Path(folder) / "earlier")
        made.rename(output)
    return difference


def _write(model: LoadedModel, form: ModelFormat, path: Path) -> float:
    """Write a model with its check, and return the largest difference."""
    # Exporters demand a suffix, and write no pipes.
    with tempfile.TemporaryDirectory(prefix="hpo-export-") as folder:
        made = Path(folder) / f"model{form.suffix}"
        try:
            form.write(model, made)
            difference = _difference(model, form, made)
        except (OSError, HpoError):
            raise
        # Exporters raise anything where they do not know a layer.
        except Exception as exc:
            reason = " ".join(str(exc).split())[:300] or type(exc).__name__
            raise ModelFileError(
                f"{model.record.path} cannot be exported as {form.name} ({reason}): choose another format"
            ) from exc
        if difference > TOLERANCE:
            raise ModelFileError(
                f"{model.record.path} exported as {form.name} gives other answers, which differ by {difference:.2g} (at"
                f" most {TOLERANCE:g} is allowed), and is not written: choose another format"
            )
        if made.is_dir():
            shutil.move(made, path)
        else:
            path.write_bytes(made.read_bytes())
    return difference


def _difference(model: LoadedModel, form: ModelFormat, path: Path) -> float:
    """Return the largest difference of a written model's answers, to a batch and to a single input."""
    inputs = sample(model)
    expected = np.asarray(model.keras_model.predict_on_batch(model.arranged(inputs)), np.float64)
    found = [
        form.outputs(path, inputs, model),
        form.outputs(path, {name: array[:1] for name, array in inputs.items()}, model),
    ]
    scale = _scale(expected, model.record.task)
    differences = [
        (np.abs(np.asarray(part, np.float64).reshape(wanted.shape) - wanted) / scale).max()
        for part, wanted in zip(found, (expected, expected[:1]), strict=True)
    ]
    worst = float(max(differences))
    return worst if np.isfinite(worst) else float("inf")


def _scale(outputs: NDArray[np.float64], task: str | None) -> Any:
    """Return the size of outputs that differences are relative to: of a regression, one for each of its targets."""
    if task != "regression":
        return max(1.0, float(np.abs(outputs).max()))
    # Targets may have different units: a price in millions next to a share.
    largest = np.abs(outputs).max(axis=0)
    return np.where(largest == 0.0, 1.0, largest)


def sample(model: LoadedModel) -> Inputs:
    """Return random inputs of the model's types and shapes, of several contrasts, the same each time."""
    rng = np.random.default_rng(0)
    return {
        name: _values(
            rng,
            model.record.dtype(name) or str(tensor.dtype),
            [side or _UNKNOWN_SIDE for side in tensor.shape[1:]],
        )
        for name, tensor in named_inputs(model.keras_model)
    }


def _values(rng: np.random.Generator, dtype: str, shape: list[int]) -> NDArray[Any]:
    size = (_ROWS, *shape)
    if dtype == "string" or np.dtype(dtype).kind in "USO":
        return rng.choice(np.array(["the", "a test", "of words"]), size)
    if dtype in ("uint8", "uint16"):
        # From black to full contrast, so that not all answers are certain.
        contrast = np.linspace(0, np.iinfo(dtype).max, _ROWS).reshape(-1, *(1 for _ in shape))
        return np.asarray(rng.uniform(0, 1, size) * contrast, dtype)
    if np.dtype(dtype).kind in "iu":
        # Numbers of tokens or categories: any model has the first two.
        return rng.integers(0, 2, size).astype(dtype)
    return rng.normal(0, 1, size).astype(dtype)
