"""Tags of studies, by which `hpo ls` selects them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from hpo.errors import UsageError
from hpo.study.catalog import read_study
from hpo.suggestions import did_you_mean
from storage import budget
from storage.optuna import attributes

if TYPE_CHECKING:
    from storage.engine import Database

LONGEST = 50
"""Most characters of a tag."""
MOST = 50
"""Most tags of a study."""


def change_tags(
    database: Database, study: str, tags: Sequence[str], *, remove: bool = False
) -> tuple[str, ...]:
    """Add tags to a study, or remove them; return those that it has now.

    Raises:
        UnknownStudyError: no study has that name.
        UsageError: a tag is invalid, or the study does not have one that is to be removed.
    """
    for tag in tags:
        if not tag.isprintable() or not 0 < len(tag) <= LONGEST or " " in tag or "," in tag:
            raise UsageError(
                f"invalid tag {tag[:LONGEST]!r}: use at most {LONGEST} characters without spaces and commas"
            )

    def change(connection: Connection) -> tuple[str, ...]:
        study_id = read_study(connection, study, database).study_id
        budget.lock_study(connection, study_id)
        before = attributes.texts(attributes.read(connection, study_id, attributes.TAGS))
        # A repetition after a lost confirmation finds its own work: no refusal of a tag that is gone already.
        missing = [tag for tag in tags if tag not in before] if remove else []
        if missing and not done:
            raise UsageError(
                f"study {study!r} has no tag {missing[0]!r}{did_you_mean(missing[0], before)}: it has"
                f" {', '.join(before) or 'none'}"
            )
        now = [tag for tag in before if tag not in tags] if remove else dict.fromkeys((*before, *tags))
        if len(now) > MOST:
            raise UsageError(f"study {study!r} would have {len(now)} tags: remove some, {MOST} are the most")
        attributes.write(connection, study_id, attributes.TAGS, tuple(now))
        done.append(True)
        return tuple(now)

    done: list[bool] = []
    return database.transaction(change)
