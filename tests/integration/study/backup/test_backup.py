"""Backups contain every table, restore every value, and damaged files are refused."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from hpo.errors import (
    BackupFileError,
    FileNotWritableError,
    StudyConflictError,
    StudyDamagedError,
    UnknownStudyError,
)
from hpo.search.spec import StudySpec
from hpo.study.backup.backup import read_backup, write_backup
from hpo.study.catalog import delete_study, find_study, list_studies
from storage.engine import Database
from storage.opening import open_database
from storage.studies import folder_name
from storage.study_tables import TABLES
from tests.integration.rows import StudyRows
from tests.specs import spec
from tests.unit.analysis.ablation.simulated import SPACE, design_of

CURIOUS = 'a "quoted" \\ line\nanother – with ünïcode \t and a {brace}'


@pytest.fixture
def file(database: Database, tmp_path: Path) -> Path:
    """Write a backup of a study with two trials."""
    study = StudyRows(database, "demo")
    agent = study.agent()
    reservation_id = study.trial("complete", 0.75, completed=1, error=CURIOUS)
    attempt = study.attempt(reservation_id, agent, ended=1.0)
    study.epoch(reservation_id, attempt, 1, {"loss": "NaN", "val_accuracy": 0.1 + 0.2})
    paused = study.trial(paused_epoch=3, paused_score=math.inf)
    study.attempt(paused, agent)
    study.rung(paused, 3, math.inf)
    optuna_trial = study.study.ask()
    optuna_trial.report(math.nan, 1)
    optuna_trial.report(math.inf, 2)
    optuna_trial.set_user_attr("note", CURIOUS)
    study.study.tell(optuna_trial, 1e-300)
    note = f"dashboard:{optuna_trial._trial_id}:note_str:0"
    database.optuna.set_study_system_attr(study.study_id, note, "a note")
    database.transaction(lambda c: c.execute(text("UPDATE hpo.trials SET trial_id = NULL")))
    path = tmp_path / "demo.gz"
    made = write_backup(database, "demo", path)
    assert (made.study, made.trials) == ("demo", 2)
    assert list(tmp_path.iterdir()) == [path]
    return path


def test_backup_contains_every_table(database: Database) -> None:
    query = (
        "SELECT table_schema || '.' || table_name FROM information_schema.tables"
        " WHERE table_schema IN ('public', 'hpo') AND table_name NOT IN ('alembic_version', 'version_info')"
    )
    found = database.transaction(lambda c: set(c.execute(text(query)).scalars()))
    assert {table.name for table in TABLES} == found


def test_restored_study_has_the_same_values(database: Database, file: Path) -> None:
    assert read_backup(database, file, "again").trials == 2
    import optuna

    (first,) = optuna.load_study(study_name="again", storage=database.optuna).get_trials()
    assert math.isnan(first.intermediate_values[1])
    assert first.intermediate_values[2] == math.inf
    assert (first.value, first.user_attrs["note"]) == (1e-300, CURIOUS)
    query = (
        "SELECT metrics, error, decided_at FROM hpo.epochs JOIN hpo.trials USING (reservation_id) JOIN hpo.studies"
        " USING (study_id) ORDER BY name"
    )
    again, demo = database.transaction(lambda c: c.execute(text(query)).all())
    assert again == demo
    assert again.metrics == {"loss": "NaN", "val_accuracy": 0.1 + 0.2}
    # optuna-dashboard finds a trial's note by its Optuna id.
    study_id = database.optuna.get_study_id_from_name("again")
    notes = {f"dashboard:{first._trial_id}:note_str:0": "a note"}
    assert database.optuna.get_study_system_attrs(study_id) == notes
    query = "SELECT array_agg(outcome ORDER BY attempt_id) FROM hpo.attempts"
    assert database.transaction(lambda c: c.scalar(text(query))) == [None, None, None, "released"]
    query = (
        "SELECT paused_epoch, paused_score, epoch, score, rungs.study_id = trials.study_id, params::text"
        " FROM hpo.rungs JOIN hpo.trials USING (reservation_id)"
    )
    paused = (3, math.inf, 3, math.inf, True, '{"learning_rate": 0.011}')
    assert database.transaction(lambda c: c.execute(text(query)).all()) == [paused] * 2


def test_experiment_is_restored_with_its_design_unless_it_is_damaged(
    database: Database, tmp_path: Path
) -> None:
    planned, file = design_of(), tmp_path / "e.gz"
    rows = StudyRows(database, "e", spec=spec(SPACE, design=planned))
    rows.trial("complete", 0.5, params=planned.base, trial_id=None)
    write_backup(database, "e", file)
    read_backup(database, file, "again")
    stored = find_study(database, "again").spec_json
    assert StudySpec.from_json(stored).design == planned
    with gzip.open(file, "rt") as old:
        lines = old.read().splitlines()
    for damage in ({"points": []}, {"seeds": [-1]}, {"settings": {"colour": 1}}):
        damaged = {**stored, "design": {**stored["design"], **damage}}
        with gzip.open(file, "wt") as new:
            new.write("\n".join([*changed("hpo.studies", {"spec": damaged}, lines), ""]))
        with pytest.raises(BackupFileError, match="no valid spec"):
            read_backup(database, file, "third")


def test_backup_of_revision_0002_restores(database: Database) -> None:
    file = Path(__file__).parents[3] / "data" / "study-of-revision-0002.gz"
    assert read_backup(database, file, "again").trials == 2
    query = (
        "SELECT desired_state, reservation_id, told_optuna, trials.epochs, metrics FROM hpo.studies"
        " JOIN hpo.trials USING (study_id) LEFT JOIN hpo.epochs USING (reservation_id) ORDER BY number"
    )
    found = database.transaction(lambda c: c.execute(text(query)).all())
    assert found == [
        ("pause", 1, False, 1, {"loss": "NaN", "val_accuracy": 0.75}),
        ("pause", 2, True, 1, None),
    ]


def test_restore_does_not_overwrite_a_study(database: Database, file: Path) -> None:
    exists = r"study 'demo' already exists in .* --as, or run hpo delete"
    with pytest.raises(StudyConflictError, match=exists) as refused:
        read_backup(database, file)
    assert "\n" not in str(refused.value)
    database.optuna.create_new_study(database.optuna.get_study_directions(1), "plain")
    with pytest.raises(StudyConflictError, match="plain"):
        read_backup(database, file, "plain")


def without(table: str, lines: list[str]) -> list[str]:
    return [line for line in lines if f'"{table}"' not in line]


def replaced(old: str, new: str, lines: list[str]) -> list[str]:
    return [line.replace(old, new) for line in lines]


def changed(table: str, values: dict[str, object], lines: list[str]) -> list[str]:
    """Change values of every row of a table."""
    return [
        json.dumps({"table": table, "row": json.loads(line)["row"] | values})
        if f'"{table}"' in line
        else line
        for line in lines
    ]


def counted(lines: list[str]) -> list[str]:
    """Correct the row count in the last line."""
    return [*lines[:-1], json.dumps({**json.loads(lines[-1]), "rows": len(lines) - 2})]


PASSWORDS = json.dumps({"table": "public.passwords", "row": {}})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: lines[:-1], "truncated"),
        (lambda lines: without("hpo.epochs", lines), "row count in its last line is wrong"),
        (lambda lines: counted([*lines[:-1], PASSWORDS, lines[-1]]), "unknown table, 'public.passwords'"),
        (lambda lines: counted(without("hpo.agents", lines)), "refers to a missing row"),
        (lambda lines: counted(without("hpo.studies", lines)), "0 rows of hpo.studies, not one"),
        (lambda lines: [lines[0], "42"], "not a complete backup"),
        (lambda lines: [lines[0], "[" * 100_000], "nested too deeply"),
        (lambda lines: [lines[0], f"[{'[],' * 500_000}]"], "more than 500000 lists"),
        (lambda lines: [lines[0], " " * (2**25 + 1)], "longer than 33554432 characters"),
        (lambda lines: replaced('"budget":10', '"budget":"ten"', lines), "hpo.studies has no valid budget"),
        (lambda lines: replaced('"slots":2', '"slots":"two"', lines), "not of its column's type"),
        (lambda lines: changed("hpo.studies", {"uid": "../../x"}, lines), "no valid uid"),
        (lambda lines: changed("hpo.studies", {"spec": {}}, lines), "no valid spec"),
        (lambda lines: changed("hpo.studies", {"spec": None}, lines), "no valid spec"),
        (lambda lines: changed("hpo.studies", {"desired_state": "dance"}, lines), "no valid desired_state"),
        (lambda lines: replaced('"direction":"MAX', '"direction":"MIN', lines), "contradict each other"),
        (
            lambda lines: replaced('"reservation_id":', '"reservation_id":922337203685477', lines),
            "reservation_id",
        ),
        (lambda lines: changed("hpo.trials", {"params": [1]}, lines), "no valid params"),
        (
            lambda lines: changed("hpo.agents", {"seen_at": "99999-01-01T00:00:00+00:00"}, lines),
            "no valid seen_at",
        ),
        (lambda lines: changed("hpo.attempts", {"ended_at": "infinity"}, lines), "no valid ended_at"),
        (lambda lines: changed("hpo.epochs", {"seconds": "NaN"}, lines), "no valid seconds"),
        (lambda lines: changed("hpo.epochs", {"metrics": {"loss": "low"}}, lines), "no valid metrics"),
        (lambda lines: changed("hpo.trials", {"error": "a\0"}, lines), "contains NUL or half a character"),
        (lambda lines: changed("hpo.trials", {"error": "\ud800"}, lines), "contains NUL or half a character"),
        (
            lambda lines: changed("public.trial_user_attributes", {"value_json": "{"}, lines),
            "no valid value_json",
        ),
        (lambda lines: lines[1:], "does not begin like a backup"),
        (lambda lines: replaced('"format": 1', '"format": 2', lines), "format 2.*newer"),
        (lambda lines: replaced('"hpo": "0', '"hpo": "9', lines), "was written from tables .*empty database"),
    ],
)
def test_damaged_backup_changes_nothing(
    database: Database, file: Path, damage: Callable[[list[str]], list[str]], message: str
) -> None:
    with gzip.open(file, "rt") as old:
        lines = old.read().splitlines()
    assert damage(lines) != lines
    with gzip.open(file, "wt") as new:
        new.write("\n".join([*damage(lines), ""]))
    before = rows_and_next_reservation(database)
    with pytest.raises(BackupFileError, match=message) as refused:
        read_backup(database, file, "again")
    assert "\n" not in str(refused.value)
    *rows, next_id = rows_and_next_reservation(database)
    # Ids that a transaction drew before it failed are not drawn again.
    assert rows == before[:-1]
    assert before[-1] <= next_id <= before[-1] + 2


def rows_and_next_reservation(database: Database) -> list[int]:
    """Return the number of rows of each table, and the state of the sequence of reservation ids."""
    queries = [f"SELECT count(*) FROM {table.name}" for table in TABLES]
    sequence = database.transaction(
        lambda c: c.execute(
            text("SELECT pg_get_serial_sequence('hpo.trials', 'reservation_id')")
        ).scalar_one()
    )
    queries.append(f"SELECT last_value + CAST(is_called AS integer) FROM {sequence}")
    return [database.transaction(lambda c, q=query: c.execute(text(q)).scalar_one()) for query in queries]


def test_missing_or_truncated_file_is_not_a_backup(database: Database, tmp_path: Path, file: Path) -> None:
    with pytest.raises(BackupFileError, match=r"^there is no file .*none: check its name"):
        read_backup(database, tmp_path / "none")
    plain = tmp_path / "plain"
    plain.write_text("{}")
    with pytest.raises(BackupFileError, match="not a complete backup"):
        read_backup(database, plain)
    plain.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(BackupFileError, match="not a complete backup"):
        read_backup(database, plain, "again")


def test_failed_backup_leaves_no_file(database: Database, file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownStudyError):
        write_backup(database, "none", tmp_path / "none.gz")
    before = file.read_bytes()
    with pytest.raises(FileNotWritableError):
        write_backup(database, "demo", file / "below a file.gz")
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_backup_to_a_full_device_is_an_error_and_leaves_the_device(database: Database, file: Path) -> None:
    assert file.exists()
    with pytest.raises(
        FileNotWritableError, match=r"^/dev/full cannot be written \(No space left on device\): name"
    ):
        write_backup(database, "demo", Path("/dev/full"))
    assert Path("/dev/full").is_char_device()


def test_rows_are_restored_in_batches(database: Database, tmp_path: Path) -> None:
    study = StudyRows(database, "many", budget=2500)
    query = (
        "INSERT INTO hpo.trials (study_id, ordinal, seed, outcome) SELECT :s, n, n, 'pruned'"
        " FROM generate_series(0, 2499) n"
    )
    database.transaction(lambda c: c.execute(text(query), {"s": study.study_id}))
    write_backup(database, "many", tmp_path / "many.gz")
    assert read_backup(database, tmp_path / "many.gz", "copy").trials == 2500
    counted = "SELECT count(*), count(DISTINCT reservation_id) FROM hpo.trials"
    assert database.transaction(lambda c: c.execute(text(counted)).one()) == (5000, 5000)


def test_failed_restore_uses_up_no_reservation_ids(
    database: Database, empty_storage_url: str, file: Path, tmp_path: Path
) -> None:
    """Checkpoint folders are named after them."""
    damaged = tmp_path / "damaged.gz"
    with gzip.open(file, "rt") as old, gzip.open(damaged, "wt") as new:
        new.write("\n".join(old.read().splitlines()[:-1]))
    reservation_ids = "SELECT array_agg(reservation_id ORDER BY reservation_id) FROM hpo.trials"
    before = database.transaction(lambda c: c.execute(text(reservation_ids)).scalar_one())
    with open_database(empty_storage_url, tmp_path) as other:
        with pytest.raises(BackupFileError):
            read_backup(other, damaged)
        # A row that only the database refuses, after others have been written.
        with gzip.open(file, "rt") as old, gzip.open(damaged, "wt") as new:
            new.write(old.read().replace('"pid":42', '"pid":"none"'))
        begun = rows_and_next_reservation(other)
        with pytest.raises(BackupFileError):
            read_backup(other, damaged)
        assert rows_and_next_reservation(other) == begun
        read_backup(other, file)
        assert other.transaction(lambda c: c.execute(text(reservation_ids)).scalar_one()) == before


def test_damaged_study_is_listed_and_can_be_deleted(database: Database, tmp_path: Path) -> None:
    study = StudyRows(database, "demo")
    StudyRows(database, "sound")
    study.set(spec={}, uid="../../victim")
    victim = tmp_path / "victim"
    victim.mkdir()
    states = {row.name: row.state for row in list_studies(database)}
    assert states == {"demo": "damaged", "sound": "idle"}
    with pytest.raises(StudyDamagedError, match="hpo delete --study demo"):
        find_study(database, "demo")
    (tmp_path / "a" / "checkpoints").mkdir(parents=True)
    delete_study(database, "demo", folders=[tmp_path / "a" / "checkpoints"])
    assert [row.name for row in list_studies(database)] == ["sound"]
    assert victim.is_dir()


@pytest.mark.parametrize("uid", ["..", "/../../x", "a/b", "ABCDEF12", "12345678/../.."])
def test_folder_of_a_study_never_leaves_its_parent(uid: str) -> None:
    with pytest.raises(StudyDamagedError, match="outside its folder"):
        folder_name("demo", uid)
