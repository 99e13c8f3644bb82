"""The names that a study may have."""

from __future__ import annotations

import re

from hpo.errors import UsageError

_STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class StudyNameError(UsageError):
    """The name of a study is also a folder's: at most 100 letters, digits, `.`, `_` and `-`."""


def check_study_name(name: str) -> str:
    """Return the name if it is valid.

    Raises:
        StudyNameError: the name holds other characters, or too many.
    """
    if not isinstance(name, str) or not _STUDY_NAME.fullmatch(name):
        raise StudyNameError(
            f"invalid study name {name!r}: use letters, digits, '.', '_' and '-', "
            "a letter or digit first, at most 100"
        )
    return name
