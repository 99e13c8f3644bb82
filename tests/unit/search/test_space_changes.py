"""A changed space is noticed, whatever Python takes for equal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hpo.errors import StudyConflictError
from hpo.options.launch_request import LaunchRequest
from hpo.search.space_changes import with_space
from objectives.description import Description
from objectives.spaces.choices import categorical
from tests.specs import spec

NO_TRIALS: Any = SimpleNamespace(transaction=lambda _: [])


def described(choices: list[Any]) -> Description:
    space = {"c": categorical(choices)}
    return Description(
        name="o", metric="loss", direction="minimize", epochs=1, space=space, first=(), summary="o"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ([1, 2], [True, 2], "c: was one of 1, 2, is one of True, 2"),
        ([1, 2], [1.0, 2.0], "(choices=(1, 2)), is CategoricalDistribution(choices=(1.0, 2.0))"),
        ([[1], "a"], [[True], "a"], "c: was one of [1], a, is one of [True], a"),
    ],
    ids=str,
)
def test_choices_of_another_type_are_another_space(old: list[Any], new: list[Any], message: str) -> None:
    stored, request = spec(described(old).space), LaunchRequest(study="s")
    assert with_space(NO_TRIALS, 0, stored, request, described(old)) == stored
    with pytest.raises(StudyConflictError) as caught:
        with_space(NO_TRIALS, 0, stored, request, described(new))
    assert message in str(caught.value)
    assert not spec(described(old).space, objective_space=described(old).space).narrowed
    assert spec(described(new).space, objective_space=described(old).space).narrowed
