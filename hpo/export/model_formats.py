"""Formats of models: how Keras' own exporters write each, and how its runtime computes a written file."""

from __future__ import annotations

import importlib.util
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hpo.errors import MissingDependencyError
from hpo.models.loading import LoadedModel, named_inputs

Inputs = Mapping[str, NDArray[Any]]
"""Inputs by name, rows first."""


class ModelFormat(ABC):
    """A format of models."""

    name: ClassVar[str]
    suffix: ClassVar[str] = ""
    """Suffix of its files; empty: it is a folder."""
    packages: ClassVar[Sequence[str]] = ()
    """Modules of its extra, without which it is neither written nor checked."""
    backend: ClassVar[str | None] = "tensorflow"
    """Keras' backend whose exporter writes it; None: that of the model."""

    def check_installed(self) -> None:
        """Raise MissingDependencyError if a package is missing."""
        if self.backend is not None and importlib.util.find_spec(self.backend) is None:
            raise MissingDependencyError(
                f"--format {self.name} needs {self.backend}: pip install {self.backend}, or use --format keras"
            )
        missing = [module for module in self.packages if importlib.util.find_spec(module) is None]
        if missing:
            raise MissingDependencyError(
                f"--format {self.name} needs {', '.join(missing)}: pip install 'hpo-service[{self.name}]'"
            )

    @abstractmethod
    def write(self, model: LoadedModel, path: Path) -> None:
        """Write the model to a new path."""

    @abstractmethod
    def outputs(self, path: Path, inputs: Inputs, model: LoadedModel) -> NDArray[Any]:
        """Return the outputs of the written model, computed by the format's own runtime."""


class KerasFormat(ModelFormat):
    """Keras' own format, a copy of the retrained model."""

    name = "keras"
    suffix = ".keras"
    backend = None

    def write(self, model: LoadedModel, path: Path) -> None:
        path.write_bytes(model.record.path.read_bytes())

    def outputs(self, path: Path, inputs: Inputs, model: LoadedModel) -> NDArray[Any]:
        from objectives import saved_model

        # Code of yours has been imported with the model.
        read = saved_model.load(path, lambda: model.code_names)
        return np.asarray(read.predict_on_batch(model.arranged(inputs)))


class SavedModelFormat(ModelFormat):
    """A folder for TensorFlow and TensorFlow Serving."""

    name = "saved-model"

    def write(self, model: LoadedModel, path: Path) -> None:
        _export(model, path, "tf_saved_model")

    def outputs(self, path: Path, inputs: Inputs, model: LoadedModel) -> NDArray[Any]:
        import tensorflow as tf

        # Its functions need it while they compute.
        loaded = tf.saved_model.load(str(path))
        given = {name: tf.constant(array) for name, array in inputs.items()}
        return np.asarray(loaded.serve(model.arranged(given)))


class OnnxFormat(ModelFormat):
    """A file for ONNX Runtime and many other runtimes."""

    name = "onnx"
    suffix = ".onnx"
    packages = ("tf2onnx", "onnx", "onnxruntime")

    def write(self, model: LoadedModel, path: Path) -> None:
        _embed_statistics(model)
        _export(model, path, "onnx")

    def outputs(self, path: Path, inputs: Inputs, model: LoadedModel) -> NDArray[Any]:  # noqa: ARG002
        # It would leave a file in the temporary folder.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        return np.asarray(session.run(None, _by_name(inputs, names))[0])


class TfliteFormat(ModelFormat):
    """A file for LiteRT, formerly TensorFlow Lite, on phones and small devices."""

    name = "tflite"
    suffix = ".tflite"

    def check_installed(self) -> None:
        super().check_installed()
        if importlib.util.find_spec("ai_edge_litert") is None and not _is_in_tensorflow():
            raise MissingDependencyError(
                "--format tflite needs ai_edge_litert: pip install 'hpo-service[tflite]'"
            )

    def write(self, model: LoadedModel, path: Path) -> None:
        _export(model, path, "litert")

    def outputs(self, path: Path, inputs: Inputs, model: LoadedModel) -> NDArray[Any]:  # noqa: ARG002
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runner = _interpreter(path).get_signature_runner()
        [found] = runner(**_by_name(inputs, list(runner.get_input_details()))).values()
        return np.asarray(found)


FORMATS: Mapping[str, ModelFormat] = {
    form.name: form for form in (KerasFormat(), OnnxFormat(), SavedModelFormat(), TfliteFormat())
}


def _is_in_tensorflow() -> bool:
    """Whether TensorFlow still has the interpreter, which is announced to leave it; without its import of seconds."""
    spec = importlib.util.find_spec("tensorflow")
    folders = (spec and spec.submodule_search_locations) or ()
    return any((Path(folder) / "lite/python/interpreter.py").is_file() for folder in folders)


def _interpreter(path: Path) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    return Interpreter(model_path=str(path))


def _export(model: LoadedModel, path: Path, form: str) -> None:
    """Export a model that takes the arrays that it was trained on, in their own type."""
    import keras

    specs = {
        name: keras.InputSpec(
            shape=(None, *tensor.shape[1:]), dtype=model.record.dtype(name) or tensor.dtype, name=name
        )
        for name, tensor in named_inputs(model.keras_model)
    }
    model.keras_model.export(str(path), format=form, verbose=False, input_signature=[model.arranged(specs)])


def _embed_statistics(model: LoadedModel) -> None:
    """Turn the statistics of normalization layers into NumPy arrays: the exporter makes inputs of Keras' tensors."""
    import keras

    for layer in model.keras_model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization) and layer.mean is not None:
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)


def _by_name(inputs: Inputs, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the inputs under the names that an exporter has given them."""
    if len(inputs) == 1 == len(names):
        return {names[0]: next(iter(inputs.values()))}
    # The longest of several, such as `b_a` of `a` and `b_a`.
    longest = sorted(inputs, key=len, reverse=True)
    return {
        name: inputs[next(own for own in longest if name == own or name.endswith(f"_{own}"))]
        for name in names
    }
