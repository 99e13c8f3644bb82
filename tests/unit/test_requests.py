"""Names that a study may have."""

from __future__ import annotations

import pytest

from hpo.requests import StudyNameError, check_study_name


@pytest.mark.parametrize("name", ["a", "digits-cnn", "run_2.1", "9", "x" * 100])
def test_good(name: str) -> None:
    assert check_study_name(name) == name


@pytest.mark.parametrize("name", ["", "..", ".x", "-x", "a/b", "a b", "é", "x\n", "x" * 101])
def test_bad(name: str) -> None:
    with pytest.raises(StudyNameError, match="letters"):
        check_study_name(name)
