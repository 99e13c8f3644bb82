"""Identity of a study: the objective's declarations and code that its trials have in common.

A study that has begun keeps its metric, direction and number of epochs, because its trials must stay comparable.
Changed code is reported by a launch, which continues with it, and refused by a worker, which cannot know which
version the study is to continue with.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, exists, func, select

from hpo import formatting
from hpo.devices.provenance import DATA_DIGEST
from hpo.errors import StudyConflictError
from hpo.options.requests import LaunchRequest
from hpo.process.identity import is_dead
from hpo.search.spec import StudySpec
from hpo.study.predicates import alive_agent
from objectives.description import Description
from objectives.space import same_space
from storage.engine import Database
from storage.optuna.studies import OptunaStudy
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


_SUBJECTS = {CODE: "the objective's code", DATA_DIGEST: "the content of the study's images"}
_REMEDIES = {CODE: " train with both (--code keep or --code restart),", DATA_DIGEST: ""}


def check_declarations(study: str, spec: StudySpec, description: Description, request: LaunchRequest) -> None:
    """Check that the objective declares what the trials of a study that has begun have in common.

    Epochs and the value of a trial are the request's where it gives them.

    Raises:
        StudyConflictError: one of them has changed.
    """
    changes = _changes(spec, description)
    if changes:
        raise StudyConflictError(
            f"the objective has changed since study {study!r} began ({'; '.join(changes)}), and its trials must stay"
            " comparable: restore the objective, or start another study with --study"
        )
    for name, declared, now, used, requested in (
        ("epochs", spec.objective_epochs, description.epochs, spec.epochs, request.epochs),
        ("value", spec.objective_value, description.value, spec.value, request.value),
    ):
        if declared not in (None, now) and used == declared and requested is None:
            raise StudyConflictError(
                f"the objective has changed since study {study!r} began ({_change(name, declared, now)}), and its"
                f" trials must stay comparable: add --{name} {declared} to continue as before, or start another study"
                " with --study"
            )


def check_worker(study: str, spec: StudySpec, description: Description, code: str | None = None) -> None:
    """Check that a worker has loaded the version of the objective that the study trains.

    `code` is the option that lets it join with other code.

    Raises:
        StudyConflictError: it is another one.
    """
    changes = _changes(spec, description)
    if spec.objective_epochs not in (None, description.epochs):
        changes.append(_change("epochs", spec.objective_epochs, description.epochs))
    if spec.objective_value != description.value:
        changes.append(_change("value", spec.objective_value, description.value))
    if not same_space(description.space, spec.objective_space):
        changes.append("another search space")
    other_code = not changes and spec.code and description.code and spec.code != description.code
    if other_code and code is not None:
        log.warning(
            f"the objective's code differs from that of the study ({spec.code} -> {description.code}): trials of this"
            " worker may not be comparable with others; hpo report shows which trials ran with which code"
        )
    elif other_code:
        changes.append(_change("code", spec.code, description.code))
    if changes:
        raise StudyConflictError(
            f"{spec.objective} differs from the version that study {study!r} trains ({'; '.join(changes)}): copy that"
            f" version to this host, or continue the study with this one: hpo launch --study {study}"
            + (", or join with both: --code keep or --code restart" if other_code else "")
        )


def check_worker_images(study: str, spec: StudySpec, digest: str) -> None:
    """Check that the images of a worker's host are those that the study trains on.

    Raises:
        StudyConflictError: they are others.
    """
    if digest and spec.data.digest and digest != spec.data.digest:
        raise StudyConflictError(
            f"the images of {spec.data.source} on this host differ from those that study {study!r} trains on"
            f" ({_change('digest', spec.data.digest, digest)}): copy those to this host and give their place with"
            f" --data, or continue the study with these: hpo launch --study {study}"
        )


def check_optuna(study: str, direction: str, found: OptunaStudy | None) -> None:
    """Check that a study is in Optuna's tables with its direction.

    Raises:
        StudyConflictError: it was deleted or changed with plain Optuna.
    """
    if found is None:
        raise StudyConflictError(
            f"study {study!r} was deleted with plain Optuna, and its trials with it: remove the rest with hpo delete"
            f" --study {study}, or choose another name with --study"
        )
    if found.directions != (direction,):
        raise StudyConflictError(
            f"study {found.name!r} {_optimizes(found.directions)} in Optuna's tables, but its objective is to"
            f" {direction} one metric: choose another name with --study"
        )


def check_twin(found: OptunaStudy, direction: str, owner: str | None) -> None:
    """Check that a study which plain Optuna created can become one of this service.

    `owner` is the name of the study that it belongs to already.

    Raises:
        StudyConflictError: it cannot.
    """
    if owner is not None:
        raise StudyConflictError(
            f"study {found.name!r} is study {owner!r}, renamed with plain Optuna: use --study {owner}, or choose"
            " another name"
        )
    if found.trials:
        raise StudyConflictError(
            f"study {found.name!r} was created with plain Optuna and has trials: choose another name with --study, and"
            " bring known results in with hpo import"
        )
    check_optuna(found.name, direction, found)


def _optimizes(directions: Sequence[str]) -> str:
    if len(directions) == 1:
        return f"has the direction {directions[0]}"
    return f"has {len(directions)} objectives ({', '.join(directions)})"


def _changes(spec: StudySpec, description: Description) -> list[str]:
    # A function has no direction of its own.
    direction = description.direction if description.declares_direction else spec.direction
    pairs = (
        ("metric", spec.metric, description.metric),
        ("direction", spec.direction, direction),
        ("search space", _kind_of_space(spec.open_space), _kind_of_space(description.open_space)),
    )
    return [_change(name, before, now) for name, before, now in pairs if before != now]


def _kind_of_space(open_space: bool) -> str:
    return "asked for in training" if open_space else "declared"


def _change(name: str, before: object, now: object) -> str:
    return f"{name}: was {before}, is {now}"


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
