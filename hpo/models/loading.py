"""A retrained model in this process: its backend and device are set, its code is imported, and it computes batches."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpo.devices.cores import usable_cores
from hpo.devices.gpus import choose_gpus
from hpo.devices.slots import plan_slots
from hpo.errors import HpoError, ModelFileError
from hpo.models.record import ModelRecord
from hpo.models.standard_error import without_start_messages
from objectives import backend, loader, saved_model

if TYPE_CHECKING:
    import keras

Inputs = NDArray[Any] | Mapping[str, NDArray[Any]]
"""Inputs of a model, rows first; several have names."""
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class LoadedModel:
    """A model that computes its outputs for batches of inputs."""

    record: ModelRecord
    keras_model: keras.Model
    shapes: Mapping[str, Shape]
    """Shape of one row of each input, by name, in the model's order."""
    code_names: Mapping[str, Any]
    """Names of the module of the objective whose code was imported."""

    @property
    def outputs(self) -> int:
        """Numbers that it returns for each input."""
        return int(np.prod(self.keras_model.output_shape[1:]))

    def arranged(self, parts: Mapping[str, Any]) -> Any:
        """Return values for the inputs, given by name, in the form in which the model is called."""
        import keras

        structure = getattr(self.keras_model, "_inputs_struct", None)
        if structure is None or len(parts) == 1:
            return next(iter(parts.values()))
        if isinstance(structure, dict):
            return dict(parts)
        return keras.tree.map_structure(lambda tensor: parts[tensor.name], structure)

    def forward(self) -> Callable[[Inputs], NDArray[np.float64]]:
        """Return a compiled function from a batch to its outputs (rows, outputs).

        The first batch sets its size, to which later ones are filled up: another would be compiled again.
        """
        single = len(self.shapes) == 1
        compute: Any = (
            backend.current().forward(self.keras_model) if single else self.keras_model.predict_on_batch
        )
        size = 0

        def outputs(batch: Inputs) -> NDArray[np.float64]:
            nonlocal size
            parts = dict(batch) if isinstance(batch, Mapping) else {"": batch}
            count = len(next(iter(parts.values())))
            size = max(size, count)
            filled = {
                name: _filled(_typed(part, self.record.dtype(name)), size - count)
                for name, part in parts.items()
            }
            found = np.asarray(compute(self.arranged(filled)))[:count]
            return found.reshape(count, -1).astype(np.float64)

        return outputs


def load_model(
    record: ModelRecord,
    *,
    device: str | None = None,
    code: str | None = None,
    backend_name: str | None = None,
) -> LoadedModel:
    """Load a model on a GPU if there is one, or on `device`, "cpu" or "gpu".

    `code` is the reference of the objective whose code may be imported, if the model holds any. Keras uses
    `backend_name`, which is needed whatever you have chosen; else the backend of your choice, or the one that has
    trained the model.

    Raises:
        GpuMissingError: `device` is "gpu", and there is none.
        ModelFileError: the model cannot be read, or needs code that is not given.
        HpoError: the objective cannot be imported.
    """
    _set_up(backend_name or record.backend, device, needed=backend_name is not None)
    names: dict[str, Any] = {}

    def import_code() -> Mapping[str, Any]:
        assert code is not None
        objective = loader.load(code)
        function = getattr(objective, "build", None) or getattr(objective, "function", None)
        names.update(vars(sys.modules[objective.__module__]))
        names.update(getattr(function, "__globals__", {}))
        return names

    try:
        model = saved_model.load(record.path, import_code if code is not None else None)
    except saved_model.CodeNeededError as exc:
        raise ModelFileError(
            f"{record.path} holds code of yours ({exc}): name its objective with --objective, whose code is then"
            f" run, as in --model {record.path.parent} --objective {record.objective or 'file.py:Class'}"
        ) from exc
    except HpoError:
        raise
    except Exception as exc:
        # The code of a layer may raise anything.
        reason = " ".join(str(exc).split())[:300] or type(exc).__name__
        raise ModelFileError(f"{record.path} cannot be loaded ({reason}): retrain again") from exc
    if len(getattr(model, "outputs", None) or ()) != 1:
        raise ModelFileError(f"{record.path} has not exactly one output: load it with Keras itself")
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in named_inputs(model)}
    return LoadedModel(record, model, shapes, names)


def named_inputs(model: keras.Model) -> list[tuple[str, Any]]:
    """Return the inputs of a model by the names under which it takes them."""
    structure = getattr(model, "_inputs_struct", None)
    if isinstance(structure, dict):
        return list(structure.items())
    return [(tensor.name, tensor) for tensor in model.inputs]


def _set_up(wanted: str | None, device: str | None, *, needed: bool) -> None:
    """Bind this process to a device, and let Keras use a backend, if there is a choice or it is needed."""
    known = backend.BACKENDS.get(wanted) if wanted is not None else None
    free = "keras" not in sys.modules and (needed or not os.environ.get("KERAS_BACKEND"))
    if wanted is not None and known is not None and free and importlib.util.find_spec(known.package):
        os.environ["KERAS_BACKEND"] = wanted
    gpus = choose_gpus(None, device)[:1]
    # Without a GPU, TensorFlow logs as an error that it cannot initialize CUDA.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if gpus else "3")
    if "keras" in sys.modules:
        # A notebook's process has settings of its own.
        return
    [whole] = plan_slots(1, usable_cores(), gpus)
    backend.before_import()
    backend.bind(whole)
    with without_start_messages(whole.owns):
        import keras  # noqa: F401 - its import chooses the backend

        backend.current().configure(whole)


def _typed(array: NDArray[Any], dtype: str | None) -> NDArray[Any]:
    """Return the array in the type that the model was trained on.

    Raises:
        ModelFileError: it is of another kind, or its values do not fit into this type.
    """
    if dtype is None or array.dtype == dtype:
        return array
    is_text = dtype == "string"
    if array.dtype.kind not in ("US" if is_text else "buif"):
        raise ModelFileError(
            f"the model was trained on {'text' if is_text else dtype}, and these are {array.dtype}: give arrays like"
            " those it was trained on"
        )
    if is_text:
        return array
    with np.errstate(invalid="ignore", over="ignore"):
        found = array.astype(dtype)
    if found.dtype.kind != "f" and not np.array_equal(found, array):
        raise ModelFileError(
            f"the model was trained on {dtype}, and these are other {array.dtype} numbers: give arrays like"
            " those it was trained on, not scaled"
        )
    return found


def _filled(array: NDArray[Any], missing: int) -> NDArray[Any]:
    if not missing:
        return np.ascontiguousarray(array)
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
