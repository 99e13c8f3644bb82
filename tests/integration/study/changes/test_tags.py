"""Tags and notes of studies: kept, shown, and selected by."""

from __future__ import annotations

from typing import Any

import pytest

from hpo.errors import UnknownStudyError, UsageError
from hpo.study.catalog import list_studies
from hpo.study.changes.tags import change_tags
from hpo.study.history import read_history
from hpo.study.monitoring.status import study_status
from hpo.study.notes import save_note
from storage.engine import Database
from tests.integration.rows import StudyRows


def test_studies_are_listed_by_their_tags(database: Database) -> None:
    for name in ("a", "b"):
        StudyRows(database, name)
    assert change_tags(database, "a", ["night", "ü/1"]) == ("night", "ü/1")
    assert change_tags(database, "a", ["night", "new"]) == ("night", "ü/1", "new")
    change_tags(database, "b", ["night"])

    def named(*tags: str) -> list[str]:
        return sorted(study.name for study in list_studies(database, tags))

    assert (named(), named("night"), named("night", "new"), named("x")) == (["a", "b"], ["a", "b"], ["a"], [])
    assert study_status(database, "a").tags == ("night", "ü/1", "new")
    assert change_tags(database, "a", ["night", "new", "ü/1"], remove=True) == ()
    assert study_status(database, "a").tags == ()


@pytest.mark.parametrize("tag", ["", "a b", "a,b", "x" * 51, "a\n", "\x1b[1m"])
def test_invalid_tag_is_refused(database: Database, tag: str) -> None:
    StudyRows(database, "a")
    with pytest.raises(UsageError, match="invalid tag"):
        change_tags(database, "a", ["good", tag])
    assert study_status(database, "a").tags == ()


def test_missing_tag_and_too_many_are_refused(database: Database) -> None:
    rows = StudyRows(database, "a")
    change_tags(database, "a", ["night"])
    with pytest.raises(UsageError, match="'a' has no tag 'nigt'; did you mean night"):
        change_tags(database, "a", ["night", "nigt"], remove=True)
    with pytest.raises(UsageError, match="would have 51 tags"):
        change_tags(database, "a", [str(number) for number in range(50)])
    with pytest.raises(UnknownStudyError):
        change_tags(database, "b", ["night"])
    assert study_status(database, "a").tags == ("night",)
    # Programs that use Optuna may write anything.
    odd: tuple[Any, ...] = ("text", {"a": 1}, ["kept", 3], None)
    for value in odd:
        rows.study.set_user_attr("hpo_tags", value)
        assert study_status(database, "a").tags == (("kept",) if isinstance(value, list) else ())
        assert len(list_studies(database)) == 1


def test_removal_whose_confirmation_was_lost_is_repeated(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    StudyRows(database, "a")
    change_tags(database, "a", ["night"])
    transaction = database.transaction
    monkeypatch.setattr(database, "transaction", lambda work: (transaction(work), transaction(work))[1])
    assert change_tags(database, "a", ["night"], remove=True) == ()


def test_note_on_a_study_is_shown(database: Database) -> None:
    rows = StudyRows(database, "a")
    rows.trial("complete", 0.5)
    for text in ("first " * 300, "the good ü\0"):
        save_note(database, "a", None, text)
    assert study_status(database, "a").note == r"the good ü\x00"
    history = read_history(database, "a")
    assert (history.status.note, history.notes) == (r"the good ü\x00", {})
    with pytest.raises(UsageError, match="write at most"):
        save_note(database, "a", None, "a" * 2001)
    save_note(database, "a", None, "")
    assert study_status(database, "a").note == ""
