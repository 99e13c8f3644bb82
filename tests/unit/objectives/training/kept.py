"""Programs that several tests train with, because tracing one takes longer than their epochs.

`test_programs` shows that a run with a kept program equals one with its own to the last digit.
"""

from __future__ import annotations

from typing import TypeVar

from objectives import backend
from objectives.keras_objective import KerasObjective
from objectives.training.programs import Programs

Made = TypeVar("Made", bound=KerasObjective)

KEPT = Programs(most=16)
"""Those of objectives whose models, losses and optimizers are Keras' own."""


def sharing(cls: type[Made], given: KerasObjective) -> Made:
    """Return an objective with the data of another one, and with its programs if it keeps them."""
    made = cls()
    made._data, made._options, made._programs = given._data, given._options, given._programs
    return made


def with_programs(objective: Made, programs: Programs | None = None) -> Made:
    """Let an objective keep its programs, or these, on a backend that can."""
    if backend.current().keeps_functions:
        objective._programs = programs or Programs()
    return objective
