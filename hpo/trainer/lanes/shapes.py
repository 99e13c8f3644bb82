"""The shapes of configurations, as lane hosts tell them: a free lane is best given a trial of a shape that trains."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from hpo.trainer.lanes.messages import Ask, Shape
from objectives.base import Params

MOST_KNOWN = 10_000
"""Number of configurations whose shapes are kept."""


class Shapes:
    """Shapes by configurations, as far as they are known."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._asked: dict[int, str] = {}
        self._numbers = count()

    @property
    def differ(self) -> bool:
        """Whether configurations of more than one shape were seen."""
        return len(set(self._known.values())) > 1

    def of(self, params: Params) -> str:
        """Return the shape of a configuration; empty if it is not known, or trains in a process of its own."""
        return self._known.get(_key(params), "")

    def question(self, params: Params, epochs: int | None) -> Ask | None:
        """Return the question for a shape; None if it is known, or was asked for."""
        key = _key(params)
        if key in self._known or key in self._asked.values():
            return None
        number = next(self._numbers)
        self._asked[number] = key
        return Ask(number, params, epochs)

    def note(self, answer: Shape) -> None:
        key = self._asked.pop(answer.number, None)
        if key is not None:
            self._set(key, answer.shape)

    def note_placed(self, params: Params, shape: str) -> None:
        """Note the shape of a configuration that trains."""
        self._set(_key(params), shape)

    def _set(self, key: str, shape: str) -> None:
        self._known[key] = shape
        while len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]

    def forget_questions(self) -> None:
        """Note that the host that was asked has ended."""
        self._asked.clear()

    def is_among(self, params: Params, others: Iterable[Params]) -> bool:
        """Return whether one of the others is known to have the shape of a configuration."""
        shape = self.of(params)
        return bool(shape) and any(self.of(one) == shape for one in others)


def _key(params: Params) -> str:
    return repr(sorted(params.items()))
