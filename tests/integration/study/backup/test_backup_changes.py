"""A backup in which one value was changed restores as a study that can be used, or is refused and changes nothing."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hpo.errors import BackupFileError, HpoError
from hpo.study.backup.backup import read_backup, write_backup
from hpo.study.catalog import delete_study, list_studies
from hpo.study.history import read_history
from hpo.study.monitoring import status
from hpo.study.results import best_trials, trials
from storage.engine import Database
from storage.optuna.trials import RESERVATION_ATTRIBUTE
from tests.integration.rows import StudyRows, add_retrain
from tests.integration.study.backup.test_backup import rows_and_next_reservation

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 2, 2**31, 2**53, 2**63, 10**400, 1.5, 1e308),
    *(
        "",
        "x",
        "NaN",
        "Infinity",
        "../../x",
        "\u202e",
        "infinity",
        "2020-13-45T00:00:00",
        "99999-01-01T00:00:00+00:00",
        "x" * 10_000,
    ),
    *([], [1], [[None]], {}, {"a": None}, {"a": {"b": ["c"]}}),
)
"""Values of which each column and each key of the JSON in a column refuses some."""

MOST = int(os.environ.get("FUZZ", "40"))
"""Number of changes that are tried; FUZZ=9999 tries all."""

Change = Callable[[list[Any]], None]


@pytest.fixture
def file(database: Database, tmp_path: Path) -> Path:
    """Write a backup with rows in every table but those of plain Optuna."""
    study = StudyRows(database, "demo")
    agent = study.agent()
    reservation = study.trial("complete", 0.75, completed=1, trial_id=None)
    attempt = study.attempt(reservation, agent, ended=1.0)
    study.epoch(reservation, attempt, 1, {"loss": "NaN", "val_accuracy": 0.5})
    study.attempt(study.trial(trial_id=None), agent)
    trial = study.study.ask()
    trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    trial.report(0.5, 1)
    trial.set_user_attr(RESERVATION_ATTRIBUTE, reservation)
    study.study.tell(trial, 0.5)
    database.optuna.set_study_system_attr(study.study_id, f"dashboard:{trial._trial_id}:note_str:0", "a note")
    study.study.set_user_attr("owner", "me")
    add_retrain(study, [0.5, 0.75])
    write_backup(database, "demo", tmp_path / "demo.gz")
    return tmp_path / "demo.gz"


def test_backup_with_one_change_is_usable_or_changes_nothing(
    database: Database, file: Path, tmp_path: Path
) -> None:
    with gzip.open(file, "rt") as old:
        lines = [json.loads(line) for line in old]
    found = list(changes(lines))
    outcomes = set()
    for name, change in random.Random(0).sample(found, min(MOST, len(found))):
        changed = json.loads(json.dumps(lines))
        change(changed)
        changed[-1] = {"rows": len(changed) - 2}
        with gzip.open(tmp_path / "changed.gz", "wt", compresslevel=1) as new:
            new.writelines(f"{json.dumps(line)}\n" for line in changed)
        outcomes.add(outcome(database, tmp_path, name))
    assert outcomes == {"restored", "refused"}
    # Ids that refused restores have drawn leave gaps, which nothing minds.
    read_backup(database, file, "again")
    assert {study.name for study in list_studies(database)} == {"demo", "again"}


def outcome(database: Database, folder: Path, name: str) -> str:
    *before, _ = rows_and_next_reservation(database)
    refusal = ""
    try:
        read_backup(database, folder / "changed.gz", "again")
    except BackupFileError as exc:
        refusal = str(exc)
    if refusal:
        *after, _ = rows_and_next_reservation(database)
        assert (after, "\n" in refusal) == (before, False), name
        return "refused"
    try:
        use(database, folder)
        *after, _ = rows_and_next_reservation(database)
        assert after == before
    except Exception as exc:
        raise AssertionError(f"with {name}, a restored study cannot be used") from exc
    return "restored"


def use(database: Database, folder: Path) -> None:
    list_studies(database)
    json.dumps(status.study_status(database, "again").to_json())
    for row in trials.trial_rows(database, "again"):
        json.dumps(row.to_json())
    read_history(database, "again")
    # There may be no best trial.
    with suppress(HpoError):
        best_trials.best_trials(database, "again", 3)
    write_backup(database, "again", folder / "again.gz")
    delete_study(database, "again", folders=[folder / "checkpoints"], force=True)


def changes(lines: list[Any]) -> Iterator[tuple[str, Change]]:
    """Yield changes of each column in a row of each table, with their names."""
    seen = set()
    for index, line in enumerate(lines[1:-1], 1):
        if line["table"] in seen:
            continue
        seen.add(line["table"])
        yield f"two rows of {line['table']}", lambda rows, i=index: rows.insert(i, rows[i])
        yield f"a row less of {line['table']}", lambda rows, i=index: rows.pop(i)
        for place in places(line["row"]):
            name = f"{line['table']}.{'.'.join(map(str, place))}"
            yield f"{name} left out", lambda rows, i=index, p=place: parent(rows[i], p).pop(p[-1])
            for value in ODD:
                yield (
                    f"{name}={value!r:.40}",
                    lambda rows, i=index, p=place, v=value: parent(rows[i], p).__setitem__(p[-1], v),
                )


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to each value in a row, its JSON included."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def parent(line: Any, path: tuple[Any, ...]) -> Any:
    found = line["row"]
    for key in path[:-1]:
        found = found[key]
    return found
