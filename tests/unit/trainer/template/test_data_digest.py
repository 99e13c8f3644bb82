"""The digest of loaded data."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hpo.trainer.template.data_digest import MOST_VALUES, data_digest

IMAGES = np.arange(3 * MOST_VALUES, dtype=np.uint8).reshape(-1, 16)


@dataclass(frozen=True)
class Split:
    """A part of a data set."""

    x: Any
    y: Any = 0


def digest(**attributes: Any) -> str:
    return data_digest(SimpleNamespace(**attributes))


@pytest.mark.parametrize(
    "place",
    [
        lambda array: {"a": array},
        lambda array: {"a": (array, 1)},
        lambda array: {"a": [{"x": array}]},
        lambda array: {"a": Split(array)},
        lambda array: {"a": (Split(array), Split(IMAGES))},
    ],
)
def test_same_arrays_have_the_same_digest_and_others_another(place: Any) -> None:
    shuffled = np.random.default_rng(1).permutation(IMAGES)
    assert digest(**place(IMAGES)) == digest(**place(IMAGES.copy()))
    # Neither the layout in memory nor any object without data counts.
    assert digest(**place(IMAGES)) == digest(**place(np.asfortranarray(IMAGES)), other=object())
    for other in (shuffled, IMAGES[1:], IMAGES.astype(float), IMAGES.reshape(-1, 8)):
        assert digest(**place(IMAGES)) != digest(**place(other))


NESTED = {1: {2: {3: {4: {5: IMAGES}}}}}


@pytest.mark.parametrize(
    "value", [None, object(), 3, [1] * 10**6, "text", np.array([None, {}]), Split, NESTED]
)
def test_objective_without_arrays_has_no_digest(value: Any) -> None:
    assert digest(a=value) == ""
    assert digest(a=value, b=np.zeros(0)) != ""


def test_list_that_holds_itself_ends() -> None:
    endless: list[Any] = [np.ones(3)]
    endless.append(endless)
    assert digest(a=endless)
