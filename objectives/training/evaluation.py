"""Evaluation of a Keras classifier: every image exactly once, in batches of one shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from hpo.errors import ObjectiveBrokenError
from objectives import backend, saved_model
from objectives.base import Run
from objectives.data.arrays import Images, Labels
from objectives.data.splits import Data
from objectives.training import calibration
from objectives.training.logits import inputs_of

BATCH_SIZE = 512
"""Largest number of images in a batch."""

Forward = Callable[[Images], NDArray[Any]]
"""Function that returns a model's logits (n, classes) for images."""


@dataclass(frozen=True)
class Measured:
    """Loss, accuracy and predictions of a model on a set of images."""

    loss: float
    """Mean cross-entropy in nats."""
    accuracy: float
    predictions: Labels
    probabilities: NDArray[np.float64]
    """Probabilities (n, classes); each row sums to one."""


def measure(outputs: NDArray[Any], labels: Labels) -> Measured:
    """Return loss and accuracy of logits (n, classes), computed in float64."""
    shifted = outputs.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1)
    log_likelihood = shifted[np.arange(len(labels)), labels] - np.log(sums)
    predictions = shifted.argmax(axis=1)
    return Measured(
        float(-log_likelihood.mean()),
        float((predictions == labels).mean()),
        predictions,
        exponentials / sums[:, None],
    )


def logits(forward: Forward, images: Images) -> NDArray[Any]:
    """Return the model's output (n, classes); pads the last batch, because another shape would be compiled again."""
    size = math.ceil(len(images) / math.ceil(len(images) / BATCH_SIZE))
    outputs = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        padding = np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)
        outputs.append(forward(np.concatenate([batch, padding]) if len(padding) else batch)[: len(batch)])
    return np.concatenate(outputs)


def confusion(labels: Labels, predictions: Labels, class_count: int) -> list[list[int]]:
    """Return the confusion matrix: true classes in rows, predicted classes in columns."""
    cells = np.bincount(labels * class_count + predictions, minlength=class_count**2)
    counts: list[list[int]] = cells.reshape(class_count, class_count).tolist()
    return counts


def check(model: Any, data: Data) -> None:
    """Check that the model can be trained on this data.

    Raises:
        ObjectiveBrokenError: it is not a Keras model from raw pixels to one number for each class.
    """
    if not isinstance(model, keras.Model) or len(getattr(model, "outputs", None) or ()) != 1:
        raise ObjectiveBrokenError(
            "build() must return a functional or sequential keras.Model with an Input and one output"
        )
    if tuple(model.input_shape[1:]) != data.image_shape:
        raise ObjectiveBrokenError(
            f"build() returned a model for images of {model.input_shape[1:]}, but the data has {data.image_shape}"
        )
    if tuple(model.output_shape[1:]) != (data.class_count,):
        raise ObjectiveBrokenError(
            f"build() returned a model with outputs of {model.output_shape[1:]}, "
            f"not a logit for each of {data.class_count} classes"
        )


def finish(model: keras.Model, data: Data, run: Run, flip: bool = False) -> None:
    """Evaluate on the test set, once, record the results, and save the model if the run has an output folder.

    With `flip`, also record loss and accuracy of the mean of each image's logits and its mirror image's, as
    `test_…_flip_averaged` (test-time augmentation; Krizhevsky et al., 2012, used crops).
    """
    assert data.x_test is not None
    assert data.y_test is not None
    forward = backend.current().forward(model)
    outputs = logits(forward, data.x_test)
    measured = measure(outputs, data.y_test)
    measured_calibration = calibration.calibration(measured.probabilities, data.y_test)
    wrong = calibration.confidently_wrong(measured.probabilities, data.y_test)
    run.record(
        test_loss=measured.loss,
        test_accuracy=measured.accuracy,
        test_calibration_error=measured_calibration.expected_error,
        confusion=confusion(data.y_test, measured.predictions, data.class_count),
        classes=list(data.classes),
        calibration=asdict(measured_calibration),
        wrong=[asdict(mistake) for mistake in wrong],
        n_test=len(data.y_test),
        n_train=len(data.y_train),
        parameters=int(model.count_params()),
    )
    if flip:
        mirrored = logits(forward, np.ascontiguousarray(data.x_test[:, :, ::-1]))
        averaged = measure((outputs.astype(np.float64) + mirrored) / 2, data.y_test)
        run.record(test_loss_flip_averaged=averaged.loss, test_accuracy_flip_averaged=averaged.accuracy)
    if run.output is not None:
        run.record(wrong_images=[calibration.png(data.x_test[mistake.index]) for mistake in wrong])
        saved_model.save(exported(model), run)


def exported(model: keras.Model) -> keras.Model:
    """Return the model for use: raw uint8 pixels in, probabilities out, no loss or optimizer."""
    taken = any(layer.name == "probabilities" for layer in model.layers)
    probabilities = keras.layers.Softmax(name=None if taken else "probabilities")(model.outputs[0])
    return keras.Model(inputs_of(model), probabilities, name=model.name)
