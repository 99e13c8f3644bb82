"""KerasTuner's `hp`: hyperparameters that a model builder names while it runs, without keras-tuner installed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from decimal import Decimal
from typing import Any, TypeVar

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from objectives.spaces.choices import categorical

Number = TypeVar("Number", int, float)
Suggest = Callable[[str, BaseDistribution], Any]


class HyperParameters:
    """Values of hyperparameters, each suggested when the builder asks for it first while it is active."""

    def __init__(self, suggest: Suggest) -> None:
        # Of keras-tuner's own class, where it is a base too.
        super().__init__()
        self.values: dict[str, Any] = {}
        """Active values by name."""
        self._suggest = suggest
        self._inactive: set[str] = set()
        self._scopes: list[str] = []
        self._active: list[bool] = []

    def Int(
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: str | None = "linear",
        default: int | None = None,  # noqa: ARG002 - the sampler chooses
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """Return a whole number from `min_value` to `max_value`; a `step` multiplies unless sampling is linear."""
        with self._if(parent_name, parent_values):
            return self._ask(name, lambda: _ints(name, min_value, max_value, step, sampling))

    def Float(
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: str | None = "linear",
        default: float | None = None,  # noqa: ARG002 - the sampler chooses
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """Return a number from `min_value` to `max_value`; a `step` multiplies unless sampling is linear."""
        with self._if(parent_name, parent_values):
            return self._ask(name, lambda: _floats(name, min_value, max_value, step, sampling))

    def Choice(
        self,
        name: str,
        values: Sequence[Any],
        ordered: bool | None = None,  # noqa: ARG002 - choices have no order here
        default: Any = None,  # noqa: ARG002 - the sampler chooses
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """Return one of the values."""
        with self._if(parent_name, parent_values):
            return self._ask(name, lambda: categorical(list(values)))

    def Boolean(
        self,
        name: str,
        default: bool = False,  # noqa: ARG002 - the sampler chooses
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """Return True or False."""
        with self._if(parent_name, parent_values):
            return self._ask(name, lambda: categorical([False, True]))

    def Fixed(self, name: str, value: Any, parent_name: str | None = None, parent_values: Any = None) -> Any:
        """Return the value, which is the code's own and no parameter of the study."""
        with self._if(parent_name, parent_values):
            return self._known(name, lambda _: value)

    def _ask(self, name: str, distribution: Callable[[], BaseDistribution]) -> Any:
        return self._known(name, lambda full: self._suggest(full, distribution()))

    def _known(self, name: str, make: Callable[[str], Any]) -> Any:
        """Return the value of a parameter; None where a condition around it is not met."""
        full = self._full(name)
        if not all(self._active):
            self._inactive.add(full)
            return None
        if full not in self.values:
            self.values[full] = make(full)
        return self.values[full]

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Put `name` and a slash before the names of the parameters in this block."""
        self._scopes.append(str(name))
        try:
            yield
        finally:
            self._scopes.pop()

    @contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Any) -> Iterator[None]:
        """Let the parameters in this block be active only where the parent has one of the values.

        The block runs in any case, and an inactive parameter is None.
        """
        parent = self._full(parent_name)
        if parent not in self.values and parent not in self._inactive:
            raise ValueError(
                f"the parent parameter {parent!r} is not defined: ask for it before its conditions"
            )
        listed = parent_values if isinstance(parent_values, list | tuple | set | range) else [parent_values]
        # A tuple may be one value, too.
        self._active.append(parent in self.values and self.values[parent] in [parent_values, *listed])
        try:
            yield
        finally:
            self._active.pop()

    def _if(self, parent_name: str | None, parent_values: Any) -> AbstractContextManager[None]:
        return self.conditional_scope(parent_name, parent_values) if parent_name else nullcontext()

    def _full(self, name: str) -> str:
        return "/".join([*self._scopes, str(name)])

    def get(self, name: str) -> Any:
        """Return the value of a parameter that the builder has asked for.

        Raises:
            ValueError: it is inactive.
            KeyError: it is unknown.
        """
        full = self._full(name)
        if full in self.values:
            return self.values[full]
        if full in self._inactive:
            raise ValueError(f"{full} is currently inactive.")
        raise KeyError(f"{full} does not exist.")

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return self._full(name) in self.values

    def is_active(self, hyperparameter: Any) -> bool:
        """Return whether a parameter that the builder has asked for is active."""
        return str(getattr(hyperparameter, "name", hyperparameter)) in self.values


def hyperparameters(suggest: Suggest) -> HyperParameters:
    """Return the hyperparameters of a run, of keras-tuner's class too where the objective has imported it."""
    theirs = getattr(sys.modules.get("keras_tuner"), "HyperParameters", None)
    if not isinstance(theirs, type):
        return HyperParameters(suggest)
    made: HyperParameters = type("HyperParameters", (HyperParameters, theirs), {})(suggest)
    return made


def _ints(name: str, low: int, high: int, step: int | None, sampling: str | None) -> BaseDistribution:
    whole = [int(number) for number in (low, high, 1 if step is None else step)]
    if whole != [low, high, 1 if step is None else step]:
        raise ValueError(f"hp.Int({name!r}) needs whole numbers, not {low}, {high} and step {step}")
    kind = _kind(name, low, high, step, sampling)
    if step is not None and kind != "linear":
        return CategoricalDistribution(_multiples(whole[0], whole[1], step, kind))
    if kind == "log":
        return IntDistribution(whole[0], whole[1], log=True)
    # No distribution of Optuna's is dense at its upper end: "reverse_log" has the range only.
    return IntDistribution(whole[0], int(_last(*whole)), step=whole[2])


def _floats(name: str, low: float, high: float, step: float | None, sampling: str | None) -> BaseDistribution:
    low, high, kind = float(low), float(high), _kind(name, low, high, step, sampling)
    if step is not None and kind != "linear":
        return CategoricalDistribution(_multiples(low, high, step, kind))
    if kind == "log":
        return FloatDistribution(low, high, log=True)
    return FloatDistribution(low, high if step is None else _last(low, high, step), step=step)


def _kind(name: str, low: float, high: float, step: float | None, sampling: str | None) -> str:
    """Return the kind of sampling of a parameter after a check of its range."""
    kind = (sampling or "linear").lower()
    if kind not in ("linear", "log", "reverse_log"):
        raise ValueError(
            f"the parameter {name!r} has sampling={sampling!r}: use 'linear', 'log' or 'reverse_log'"
        )
    if low > high:
        raise ValueError(f"the parameter {name!r} has min_value {low} above max_value {high}: exchange them")
    if kind != "linear" and low <= 0:
        raise ValueError(f"the parameter {name!r} has min_value {low}: sampling={kind!r} needs one above 0")
    least = 0 if kind == "linear" else 1
    if step is not None and step <= least:
        raise ValueError(f"the parameter {name!r} has step {step}: sampling={kind!r} needs one above {least}")
    return kind


def _last(low: float, high: float, step: float) -> float:
    """Return the largest of low, low + step, … that is not above `high`, in decimal arithmetic."""
    start, width = Decimal(str(low)), Decimal(str(step))
    return float(start + (Decimal(str(high)) - start) // width * width)


def _multiples(low: Number, high: Number, step: float, kind: str) -> list[Number]:
    """Return low, low * step, … up to `high`; for "reverse_log" their mirror images in the range."""
    count = int(math.log(high / low, step) + 1e-8) + 1
    found = [type(low)(low * step**power) for power in range(count)]
    return found if kind == "log" else [high + low - value for value in reversed(found)]
