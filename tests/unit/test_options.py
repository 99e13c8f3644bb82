"""Names that a study may have, and what is written twice to keep imports light."""

from __future__ import annotations

from typing import get_args

import pytest

from hpo import options
from hpo.options import StudyNameError, check_study_name
from objectives import base


@pytest.mark.parametrize("name", ["a", "digits-cnn", "run_2.1", "9", "x" * 100])
def test_good(name: str) -> None:
    assert check_study_name(name) == name


@pytest.mark.parametrize("name", ["", "..", ".x", "-x", "a/b", "a b", "é", "x\n", "x" * 101])
def test_bad(name: str) -> None:
    with pytest.raises(StudyNameError, match="letters"):
        check_study_name(name)


def test_precisions_are_those_of_a_device() -> None:
    assert get_args(base.Precision) == options.PRECISIONS
