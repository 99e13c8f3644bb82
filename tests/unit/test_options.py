"""Names of studies."""

from __future__ import annotations

import pytest

from hpo.options.study_name import StudyNameError, check_study_name


@pytest.mark.parametrize("name", ["a", "digits-cnn", "run_2.1", "9", "x" * 100])
def test_valid_name_is_accepted(name: str) -> None:
    assert check_study_name(name) == name


@pytest.mark.parametrize("name", ["", "..", ".x", "-x", "a/b", "a b", "é", "x\n", "x" * 101])
def test_invalid_name_is_refused(name: str) -> None:
    with pytest.raises(StudyNameError, match="letters"):
        check_study_name(name)
