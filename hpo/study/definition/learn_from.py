"""Earlier studies from whose results a new study starts: those of `--learn-from`, else found by their definition."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from hpo import formatting
from hpo.errors import StudyConflictError, UsageError
from hpo.options.defaults import LaunchDefaults
from hpo.options.fields import NONE
from hpo.options.launch_request import LaunchRequest
from hpo.search.samplers import SAMPLERS
from hpo.search.spec import StudySpec
from hpo.search.starting.learned import LEAST, STUDIES, EarlierStudy, summarized
from hpo.search.starting.starting_points import inside
from hpo.study.catalog import read_study
from objectives.data_options import DataOptions
from storage.studies import is_spec
from storage.tables import studies
from storage.trials import ranked_params

if TYPE_CHECKING:
    from hpo.study.definition.launched_study import LaunchedStudy
    from storage.engine import Database


def learned(
    database: Database, request: LaunchRequest, spec: StudySpec, existing: LaunchedStudy | None
) -> tuple[EarlierStudy, ...]:
    """Return the results from which a study starts; those that it has stay, if the request names no other studies.

    Raises:
        UnknownStudyError: the request names a study that does not exist.
        UsageError: the request names none, too many, or one whose results cannot be used.
        StudyConflictError: the study has begun with the results of others.
    """
    names = _names(request.learn_from)
    if existing is not None:
        stored = existing.spec.learned
        if names is None and (existing.begun or spec.objective == existing.spec.objective):
            return stored
        if names is not None and {*names} == {earlier.study for earlier in stored}:
            return stored
        if existing.begun and names:
            raise StudyConflictError(_conflict(request, stored))
    learns = SAMPLERS[spec.sampler].learns
    if names is None:
        # With a seed a search is to be repeatable, whichever studies there are.
        automatic = learns and request.seed is None
        return database.transaction(lambda c: _of_same(c, request.study, spec)) if automatic else ()
    if names and not learns:
        raise UsageError(
            f"--learn-from {request.learn_from}: --sampler {spec.sampler} learns from no trial: leave --learn-from out,"
            " or use another sampler"
        )

    def read(connection: Connection) -> tuple[EarlierStudy, ...]:
        return tuple(_named(connection, name, request.study, spec, database) for name in names)

    return database.transaction(read)


def default_seed(learned_from: Sequence[EarlierStudy]) -> int:
    """Return the seed of a new study, unless one is given.

    With the seed of its earlier studies it would draw their random trials again.
    """
    names = ",".join(earlier.study for earlier in learned_from)
    # 31 bits, as many as --seed has.
    return zlib.crc32(names.encode()) >> 1 if names else LaunchDefaults.seed


def _names(option: str | None) -> list[str] | None:
    """Return the names of an option's studies, each once; None if it was not given."""
    if option is None:
        return None
    names = [name for part in option.split(",") if (name := part.strip())]
    if not names:
        raise UsageError(f"--learn-from is empty: name a study, or {NONE}")
    if [name.lower() for name in names] == [NONE]:
        return []
    if len(set(names)) > STUDIES:
        raise UsageError(f"--learn-from names {len(set(names))} studies: name at most {STUDIES}")
    return list(dict.fromkeys(names))


def _conflict(request: LaunchRequest, stored: Sequence[EarlierStudy]) -> str:
    began = f"the results of {', '.join(earlier.study for earlier in stored)}" if stored else "none"
    return (
        f"study {request.study!r} began with {began}, not those of {request.learn_from}: leave --learn-from out to"
        " continue it, or create another study with --study"
    )


def _named(
    connection: Connection, name: str, study: str, spec: StudySpec, database: Database
) -> EarlierStudy:
    if name == study:
        raise UsageError(f"--learn-from {name}: a study learns from its own trials anyway: name another one")
    earlier = read_study(connection, name, database)
    if not spec.open_space and not set(spec.space) & set(earlier.spec_json["space"]):
        raise UsageError(
            f"--learn-from {name}: it tunes {earlier.objective}, which has no parameter of {spec.objective}: name a"
            " study with parameters of the same names"
        )
    ranked = ranked_params(connection, earlier.study_id, maximize=earlier.maximize)
    if not ranked:
        raise UsageError(
            f"--learn-from {name}: none of its trials has finished: hpo status --study {name} shows its progress"
        )
    found = summarized(name, ranked)
    if not inside(spec, found.configurations):
        raise UsageError(
            f"--learn-from {name}: no value of its best configurations lies inside the space of {spec.objective}: name"
            " a study whose space overlaps, or leave --learn-from out"
        )
    return found


def _of_same(connection: Connection, study: str, spec: StudySpec) -> tuple[EarlierStudy, ...]:
    """Return the results of the latest studies with the objective, goal and data of a spec, the latest first."""
    wanted = _definition(spec.to_json())
    found = []
    query = select(studies.c.study_id, studies.c.name, studies.c.spec).order_by(studies.c.study_id.desc())
    for row in connection.execute(query):
        if row.name == study or not is_spec(row.spec) or _definition(row.spec) != wanted:
            continue
        if row.spec.get("design") is not None:
            # Its values surround a result that the other study has.
            continue
        ranked = ranked_params(connection, row.study_id, maximize=spec.direction == "maximize")
        if len(ranked) >= LEAST and inside(spec, (one := summarized(row.name, ranked)).configurations):
            found.append(one)
        if len(found) == STUDIES:
            break
    return tuple(found)


def _definition(spec_json: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return objective, goal and data of a spec, also of one of an earlier version."""
    stored = spec_json.get("data")
    data = DataOptions().to_json() | (dict(stored) if isinstance(stored, Mapping) else {})
    # The same data may lie in another place.
    for name in ("data_dir", "cache_dir", *(["source"] if data.get("digest") else [])):
        data.pop(name, None)
    return (*(spec_json.get(name) for name in ("objective", "metric", "direction")), data)


def described(learned_from: Sequence[EarlierStudy]) -> str:
    """Return e.g. `a (50 trials) and b (12 trials)`."""
    return formatting.joined(
        [f"{one.study} ({formatting.counted(one.trials, 'trial')})" for one in learned_from]
    )


def log_line(learned_from: Sequence[EarlierStudy], *, asked: bool) -> str:
    """Return the line that reports from which studies a search starts."""
    if not learned_from:
        return "the search goes on without the results of earlier studies"
    remedy = "" if asked else "; --learn-from none, or a --seed, starts without"
    return f"the search starts from the results of {described(learned_from)}{remedy}"
