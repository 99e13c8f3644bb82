"""Switches: parameters by which a trial turns off a part of its objective's recipe, as `hpo ablate --recipe` asks.

A part is an attribute of the objective's class, or of its augmentation, that differs from the default of the base
class. A configuration without the switch trains as the class declares.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import Any, TypeVar

from optuna.distributions import CategoricalDistribution

from hpo.errors import ObjectiveBrokenError
from objectives.description import Params

PREFIX = "recipe."
"""Beginning of the names of switches."""
ON, OFF = "on", "off"
CHOICES = CategoricalDistribution((ON, OFF))

AUGMENTATION = "augmentation"
RECIPE = (
    AUGMENTATION,
    "label_smoothing",
    "class_weight",
    "mixing",
    "weight_averaging",
    "learning_rate_factors",
    "schedule",
)
"""Attributes of an objective that are parts of its recipe; None, 0 and the like in the base class."""
MODIFIERS = ("fill", "rotated_share")
"""Fields of an augmentation that change nothing by themselves."""

T = TypeVar("T")


def switches(cls: type, base: type) -> dict[str, str]:
    """Return the switches of all parts that a class has and its base has not, with the declared values as text."""
    found: dict[str, str] = {}
    for name in RECIPE:
        value = getattr(cls, name, None)
        # A method may choose one for the data.
        chosen = name == AUGMENTATION and getattr(cls, "augment", None) is not getattr(base, "augment", None)
        if chosen or value != getattr(base, name, None):
            parts = dict(_parts(value)) if name == AUGMENTATION else {}
            shown = chosen or is_dataclass(value) or isinstance(value, Mapping)
            found[PREFIX + name] = ON if shown else str(value)
            # A single part is the whole.
            found |= parts if len(parts) > 1 else {}
    return found


def _parts(value: Any) -> Iterator[tuple[str, str]]:
    if not is_dataclass(value):
        return
    for field in fields(value):
        own = getattr(value, field.name)
        if field.name not in MODIFIERS and own != _default(field):
            yield f"{PREFIX}{AUGMENTATION}.{field.name}", str(own)


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def applied(objective: T, params: Params, space: Mapping[str, Any], base: type) -> tuple[T, Params]:
    """Return the objective without the parts that are off, and the parameters without the switches.

    An objective whose `space` has a parameter of such a name keeps it.

    Raises:
        ObjectiveBrokenError: the recipe has no such part.
    """
    given = {name: value for name, value in params.items() if name.startswith(PREFIX) and name not in space}
    if not given:
        return objective, params
    changed = copy.copy(objective)
    off = [name.removeprefix(PREFIX) for name, value in given.items() if value == OFF]
    for part in off:
        attribute, _, field = part.partition(".")
        if attribute not in RECIPE or (field and attribute != AUGMENTATION):
            raise ObjectiveBrokenError(
                f"parameter {PREFIX + part!r} switches off no part of a recipe: name one of {', '.join(RECIPE)}"
            )
        if attribute == AUGMENTATION:
            vars(changed)["augment"] = _without(getattr(changed, "augment"), field)  # noqa: B009 - of any class
        else:
            setattr(changed, attribute, getattr(base, attribute))
    return changed, {name: value for name, value in params.items() if name not in given}


def _without(augment: Callable[[Any], Any], field: str) -> Callable[[Any], Any]:
    """Return a function of the data that gives its augmentation without one field, or none at all."""

    def changed(data: Any) -> Any:
        found = augment(data)
        if not field or found is None:
            return None
        default = next((_default(one) for one in fields(found) if one.name == field), MISSING)
        if default is MISSING:
            raise ObjectiveBrokenError(
                f"the augmentation has no part {field!r} that {PREFIX} could switch off"
            )
        return replace(found, **{field: default})

    return changed
