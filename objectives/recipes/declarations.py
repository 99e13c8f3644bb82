"""Checks of the options of recipes that an objective declares, without Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpo.errors import ObjectiveBrokenError
from objectives.augment import Augmentation, Mixing
from objectives.augment.fading import is_number
from objectives.data.inputs import Inputs, is_images, shape_of
from objectives.data_options import TaskName

FACTORED = ("bias", "beta", "gamma")
"""Names of variables that may have a factor of the learning rate: biases, offsets and scales of normalizations."""
SCHEDULES = ("cosine", "constant-decay")


def problem(objective: Any) -> str | None:
    """Return the first mistake in the options of an objective as the end of a sentence; None if there is none."""
    for name, kind in (("augmentation", Augmentation), ("mixing", Mixing)):
        given = getattr(objective, name)
        if given is not None and not isinstance(given, kind):
            return f"{name} must be {kind.__name__}(…) or None, not {given!r:.60}"
        wrong = None if given is None else given.problem()
        if wrong:
            return f"{name} is wrong, because {wrong}"
    if objective.mixing is not None and objective.loss is not None:
        return "mixing applies to the default loss: leave one of mixing and loss out"
    return (
        _averaging_problem(objective.weight_averaging)
        or _factors_problem(objective.learning_rate_factors)
        or _schedule_problem(objective.schedule)
    )


def check(objective: Any, augmentation: Augmentation | None, inputs: Inputs, task: TaskName) -> None:
    """Check the options of an objective, with the augmentation that it has chosen, against the data.

    Raises:
        ObjectiveBrokenError: they can never train on this data.
    """
    if augmentation is not None:
        if not is_images(inputs):
            raise ObjectiveBrokenError(
                f"augmentation applies to images (n, height, width, channels), and this data has inputs of"
                f" {shape_of(inputs)}: set augmentation = None"
            )
        wrong = augmentation.problem() if isinstance(augmentation, Augmentation) else None
        if wrong:
            raise ObjectiveBrokenError(f"the augmentation that augment() returned is wrong: {wrong}")
    mixing: Mixing | None = objective.mixing
    if mixing is None:
        return
    if task == "regression":
        raise ObjectiveBrokenError(
            "mixing applies to classes and labels, and the targets of task 'regression' are numbers: set mixing = None"
        )
    if isinstance(inputs, dict) or not (is_images(inputs) or inputs.dtype.kind == "f"):
        raise ObjectiveBrokenError(
            f"mixing applies to images, or to one input of floats, and this data has inputs of {shape_of(inputs)}: set"
            " mixing = None"
        )
    if mixing.cutmix and not is_images(inputs):
        raise ObjectiveBrokenError(
            f"cutmix applies to images, and this data has inputs of {shape_of(inputs)}: use mixup"
        )


def _averaging_problem(value: object) -> str | None:
    if value in (None, "lookahead") or (is_number(value) and 0 < value < 1):  # type: ignore[operator]
        return None
    return (
        "weight_averaging must be the decay of an exponential average above 0 and below 1, such as 0.999, or"
        f" 'lookahead', or None, not {value!r:.60}"
    )


def _factors_problem(value: object) -> str | None:
    if not isinstance(value, Mapping):
        return f"learning_rate_factors must be a dict such as {{'beta': 16.0}}, not {value!r:.60}"
    for name, factor in value.items():
        if name not in FACTORED:
            return f"learning_rate_factors names {name!r:.60}: use {', '.join(map(repr, FACTORED))}"
        if not is_number(factor) or factor <= 0:
            return f"the factor of {name!r} in learning_rate_factors must be a number above 0, not {factor!r:.60}"
    return None


def _schedule_problem(value: object) -> str | None:
    if value in SCHEDULES:
        return None
    return f"schedule must be {' or '.join(map(repr, SCHEDULES))}, not {value!r:.60}"
