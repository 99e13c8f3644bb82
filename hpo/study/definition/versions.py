"""Versions of an objective's code, and of its images, among the agents and trials of a study.

Changed code is reported by a launch, which continues with it, and refused by a worker, which cannot know which
version the study is to continue with.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, exists, func, select

from hpo import formatting
from hpo.devices.provenance import DATA_DIGEST
from hpo.errors import StudyConflictError
from hpo.process.identity import is_dead
from hpo.search.spec import StudySpec
from hpo.study.predicates import alive_agent
from storage.engine import Database
from storage.studies import StoredStudy
from storage.tables import agents, attempts, trials

log = logging.getLogger(__name__)

CODE = "objective"
"""Key of the digest of the objective's code among an agent's versions."""


class Trained(NamedTuple):
    """Digests of the code and of the study's own images that an agent trains; empty: not known, or none."""

    code: str
    images: str = ""

    @property
    def versions(self) -> dict[str, str]:
        """The known digests, by their keys among an agent's versions."""
        return {key: digest for key, digest in ((CODE, self.code), (DATA_DIGEST, self.images)) if digest}


_DIGEST = re.compile(r"digest (\w+)")
_SUBJECTS = {CODE: "the objective's code", DATA_DIGEST: "the content of the study's data"}
_REMEDIES = {CODE: " train with both (--code keep or --code restart),", DATA_DIGEST: ""}


def check_agents(database: Database, study: StoredStudy, now: Trained) -> None:
    """Check that no living agent trains the study with other code or on other images.

    Raises:
        StudyConflictError: one does.
    """
    for key, digest in now.versions.items():
        _check_agents(database, study, key, digest)


def _check_agents(database: Database, study: StoredStudy, key: str, digest: str) -> None:
    query = select(agents.c.host, agents.c.pid, agents.c.process).where(
        agents.c.study_id == study.study_id, alive_agent(), agents.c.versions[key].astext != digest
    )
    living = [
        f"{row.host} (process {row.pid})"
        for row in database.transaction(lambda c: c.execute(query).all())
        if not is_dead(row.process)
    ]
    if living:
        raise StudyConflictError(
            f"{_SUBJECTS[key]} differs from that which {formatting.counted(len(living), 'agent')} of study"
            f" {study.name!r} train: {', '.join(living[:3])}: end them first (hpo stop --study {study.name}),"
            f"{_REMEDIES[key]} or start another study with --study"
        )


def report_changes(database: Database, study: StoredStudy, spec: StudySpec, now: Trained) -> None:
    """Log that a launch continues a study with other code or on other images than its earlier trials."""
    stored = Trained(spec.code, spec.data.digest).versions
    for key, digest in now.versions.items():
        before = stored.get(key, digest)
        last = _last_trial_with_other(database, study, key, digest) if before != digest else None
        if last is not None:
            shown = "; hpo report shows which trials ran with which code" if key == CODE else ""
            log.warning(
                f"{_SUBJECTS[key]} has changed since trial {last} ({before} -> {digest}): later trials may not be"
                f" comparable with earlier ones{shown}"
            )


def report_interrupted(database: Database, study: StoredStudy, code: str, choice: str | None) -> None:
    """Log whether the trials that other code has begun resume from its state."""
    numbers = database.transaction(lambda c: _interrupted(c, study.study_id, code)) if code else []
    if not numbers:
        return
    trials_begun = (
        f"{'trial' if len(numbers) == 1 else 'trials'} {formatting.ranges(numbers)}, begun with other code,"
    )
    resumes, begins = ("resumes", "begins") if len(numbers) == 1 else ("resume", "begin")
    if choice == "restart":
        log.info(f"{trials_begun} {begins} again from epoch 1")
    elif choice == "keep":
        log.info(f"{trials_begun} {resumes} from what that code has saved")
    else:
        log.warning(
            f"{trials_begun} {resumes} from what that code has saved: to begin again from epoch 1, add --code restart"
            " (--code keep confirms)"
        )


def other_data(data: str, others: Sequence[tuple[str, str]]) -> str:
    """Return a warning if data differ from those of another agent, the latest first; else an empty text.

    `data` and the second entries of `others`, next to their hosts, are lines of `objectives.data.description`.
    """
    found = _DIGEST.search(data)
    for host, line in others:
        known = _DIGEST.search(line)
        if found and known and found[1] != known[1]:
            return (
                f"the data differ from those that an agent on {host} has loaded for this study (digest {known[1]}"
                f" there, {found[1]} here): trials may not be comparable; give every host the same data, or start"
                " another study with --study"
            )
    return ""


def _interrupted(connection: Connection, study_id: int, code: str) -> list[int]:
    """Return the numbers of the trials that wait and have run with other code."""
    held = attempts.alias()
    is_held = exists().where(held.c.reservation_id == trials.c.reservation_id, held.c.ended_at.is_(None))
    query = (
        select(trials.c.number)
        .distinct()
        .select_from(attempts.join(trials).join(agents))
        .where(
            trials.c.study_id == study_id,
            trials.c.outcome.is_(None),
            attempts.c.epochs > 0,
            agents.c.versions[CODE].astext != code,
            ~is_held,
        )
    )
    return sorted(connection.execute(query).scalars())


def _last_trial_with_other(database: Database, study: StoredStudy, key: str, digest: str) -> int | None:
    query = (
        select(func.max(trials.c.number))
        .select_from(attempts.join(trials).join(agents))
        .where(
            trials.c.study_id == study.study_id,
            attempts.c.pid.is_not(None),
            agents.c.versions[key].astext != digest,
        )
    )
    number: int | None = database.transaction(lambda c: c.execute(query).scalar_one())
    return number


def codes_of_study(connection: Connection, study_id: int) -> dict[str, int]:
    """Return the number of trials that ran with each version of the objective's code, as far as it was recorded."""
    code = agents.c.versions[CODE].astext
    query = (
        select(code.label("code"), func.count(trials.c.reservation_id.distinct()).label("trials"))
        .select_from(attempts.join(trials).join(agents))
        .where(trials.c.study_id == study_id, attempts.c.pid.is_not(None), code.is_not(None))
        .group_by(code)
        .order_by(func.min(attempts.c.attempt_id))
    )
    return {row.code: row.trials for row in connection.execute(query)}


def codes_of_trials(database: Database, study_id: int, numbers: Sequence[int]) -> dict[int, frozenset[str]]:
    """Return the digests of the code that has trained each trial, as far as they were recorded."""
    code = agents.c.versions[CODE].astext
    query = (
        select(trials.c.number, func.array_agg(code.distinct()).label("codes"))
        .select_from(attempts.join(trials).join(agents))
        .where(
            trials.c.study_id == study_id,
            trials.c.number.in_(numbers),
            attempts.c.epochs > 0,
            code.is_not(None),
        )
        .group_by(trials.c.number)
    )
    return {
        row.number: frozenset(row.codes) for row in database.transaction(lambda c: c.execute(query).all())
    }
