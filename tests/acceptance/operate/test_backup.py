"""A study moves to another server in a file, and goes on there."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.hpo_commands import HpoCommands
from tests.acceptance.service import Service

EPOCHS = 16
WIDE = ("--workers", 2, "--epochs", EPOCHS, "--pruner", "none")


@pytest.fixture
def elsewhere(tmp_path: Path, empty_storage_url: str, commands: HpoCommands) -> Iterator[Service]:
    """A service on a database of its own without any table, and on a copy of the checkpoints."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    service = Service(folder, empty_storage_url, commands)
    try:
        yield service
    finally:
        survivors = service.close()
    assert survivors == []


def as_optuna_sees_it(service: Service) -> list[dict[str, Any]]:
    """All that Optuna knows of the study's trials; numbers of our own and of the database apart."""
    trials = []
    for trial in service.study().get_trials():
        about = dict(vars(trial))
        attributes = dict(about.pop("_user_attrs"))
        assert attributes.pop("hpo_token") > 0
        del about["_trial_id"]
        trials.append({**about, "user": attributes})
    return trials


OURS = (
    "SELECT name, spec, budget, desired_state, agents_seen, created_at FROM hpo.studies",
    "SELECT ordinal, number, seed, lost, epochs, outcome, value, error, told_optuna, created_at, decided_at"
    " FROM hpo.trials ORDER BY ordinal",
    "SELECT ordinal, epoch, metrics, seconds, e.created_at FROM hpo.epochs e JOIN hpo.trials USING (reservation_id)"
    " ORDER BY ordinal, epoch",
    "SELECT ordinal, slot, a.device, a.epochs, a.outcome, a.started_at, tail FROM hpo.attempts a"
    " JOIN hpo.trials USING (reservation_id) LEFT JOIN hpo.attempt_logs USING (attempt_id)"
    " ORDER BY ordinal, a.started_at",
)


def test_restored_study_continues_on_another_server(
    service: Service, elsewhere: Service, tmp_path: Path
) -> None:
    file, kept = tmp_path / "study.hpo.gz", tmp_path / "kept"
    assert service.launched("Gated", "--trials", 2, *WIDE).code == 0
    service.set(TEST_GATE=tmp_path / "gate")
    agent = service.start("launch", "--study", "s", "--trials", 6, "--workers", 2)
    service.wait_for_epoch(EPOCHS - 1, trials=4)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait().code == 130
    interrupted = service.value("SELECT count(*) FROM hpo.trials WHERE outcome IS NULL AND epochs > 0")
    assert interrupted == 2
    service.hpo("backup", "--study", "s", "-o", file).clean()
    for copy in (elsewhere.folder / "checkpoints", kept):
        shutil.copytree(service.folder / "checkpoints", copy)

    # The file and the checkpoints are all that goes along. Those are found by the reservation_ids, which an empty
    # database has free.
    go_on(elsewhere, service, file, resumed=interrupted)
    assert elsewhere.hpo("restore", file).complaint().startswith("hpo: study 's' already exists")

    # Now every id there is taken: of Optuna's rows and of ours, reservation_ids included.
    assert elsewhere.hpo("delete", "--study", "s", "--yes").code == 0
    elsewhere.set(HPO_CHECKPOINTS=kept)
    go_on(elsewhere, service, file, resumed=0)


def go_on(elsewhere: Service, service: Service, file: Path, resumed: int) -> None:
    """Restore the study of a service and train it to its end; so many of its trials go on from a checkpoint."""
    restored = elsewhere.hpo("restore", file).clean()
    assert "hpo launch --study s" in restored.out
    assert as_optuna_sees_it(elsewhere) == as_optuna_sees_it(service)
    for query in OURS:
        assert elsewhere.rows(query) == service.rows(query)
    assert elsewhere.hpo("launch", "--study", "s", "--trials", 8).code == 0
    elsewhere.check_records(8, EPOCHS)
    found = elsewhere.value(
        "SELECT count(*) FROM hpo.attempts WHERE outcome = 'complete' AND resumed_from > 0"
    )
    assert found == resumed


def test_backup_of_running_study_is_consistent(service: Service, tmp_path: Path) -> None:
    agent = service.begin(trials=8, workers=2, epochs=EPOCHS, epoch_seconds=0.3)
    file = tmp_path / "running.gz"
    assert service.hpo("backup", "--study", "s", "-o", file).code == 0
    assert agent.alive
    assert service.hpo("restore", file, "--as", "copy").code == 0
    copied = "SELECT study_id FROM hpo.studies WHERE name = 'copy'"
    live = (
        "SELECT count(*) FROM hpo.attempts JOIN hpo.trials USING (reservation_id) WHERE attempts.ended_at IS NULL"
        f" AND study_id = ({copied})"
    )
    assert service.value(live) == 0
    gaps = (
        "SELECT t.epochs, count(e.epoch), max(e.epoch) FROM hpo.trials t LEFT JOIN hpo.epochs e USING (reservation_id)"
        f" WHERE study_id = ({copied}) GROUP BY reservation_id, t.epochs"
    )
    for epochs, recorded, last in service.rows(gaps):
        assert epochs == recorded == (last or 0)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait().code == 130
    # Both go on, each on its own.
    service.set(TEST_EPOCH_SECONDS=0)
    for name in ("s", "copy"):
        assert service.hpo("launch", "--study", name).code == 0
        finished = "SELECT count(*) FROM hpo.trials JOIN hpo.studies USING (study_id) WHERE name = :n AND told_optuna"
        assert service.value(finished, n=name) == 8
        assert len(service.study(name).get_trials()) == 8
