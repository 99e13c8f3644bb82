"""Commands next to agents in containers: init, launch --no-run, health; and refused databases."""

from __future__ import annotations

import signal

from tests.acceptance.service import OBJECTIVES, Service

PREPARE = ("launch", "--no-run", "--study", "s", "--objective", f"{OBJECTIVES}:Counted", "--pruner", "none")
CONTROL = "SELECT desired_state FROM hpo.studies"


def test_study_is_prepared_then_run_by_workers(fresh_service: Service) -> None:
    service = fresh_service
    done = service.hpo("init").clean()
    assert "up to date; 0 studies" in done.out
    for trials in (1, 2):
        done = service.hpo(*PREPARE, "--trials", trials).clean()
        assert f"study=s {trials} trials in total" in done.out
        assert "hpo worker --study s" in done.out
    assert service.value("SELECT count(*) FROM hpo.agents") == 0
    # Repeated preparation, as by each `docker compose up`, does not undo later commands of the user.
    assert service.hpo("pause", "--study", "s").code == 0
    assert service.hpo(*PREPARE).code == 0
    assert service.value(CONTROL) == "pause"
    assert service.hpo("resume", "--study", "s").code == 0
    assert service.hpo("worker", "--study", "s", "--slots", 1).code == 0
    service.check_records(2, epochs=4)


def test_health_of_agents(service: Service) -> None:
    service.set(HPO_LEASE_SECONDS=4, TEST_EPOCH_SECONDS=0.2)
    assert service.hpo(*PREPARE, "--epochs", 200).code == 0
    nobody = service.hpo("health", "--study", "s")
    assert "no agent of study 's' runs on" in nobody.complaint()
    agent = service.start("worker", "--study", "s", "--slots", 1)
    service.wait_for_epoch(1)
    well = service.hpo("health", "--study", "s").clean()
    assert f"agent {agent.pid} (1 slot): last heartbeat " in well.out
    # Alive, but stuck: it renews no lease.
    agent.send_signal(signal.SIGSTOP)
    silent = "SELECT clock_timestamp() - seen_at > interval '2.1 s' FROM hpo.agents"
    service.wait_for(lambda: service.value(silent))
    assert "the last heartbeat of agent" in service.hpo("health", "--study", "s").complaint()
    agent.send_signal(signal.SIGCONT)
    service.wait_for(lambda: not service.value(silent))
    assert service.hpo("health", "--study", "s").code == 0
    agent.send_signal(signal.SIGTERM)
    assert agent.wait().code == 130
    assert service.hpo("health", "--study", "s").code == 1


def test_embedded_database_can_be_disabled(service: Service) -> None:
    del service.environment["HPO_STORAGE"]
    service.set(HPO_EMBEDDED="off")
    refused = service.hpo(*PREPARE)
    assert "HPO_EMBEDDED=off" in refused.complaint(2)
    assert "set HPO_STORAGE" in refused.complaint(2)
    assert not (service.folder / "home").exists()


def test_database_of_newer_version_is_refused_in_one_line(service: Service) -> None:
    service.rows("UPDATE hpo.alembic_version SET version_num = '9999'")
    for command in (("init",), ("worker", "--study", "s")):
        refused = service.hpo(*command)
        assert "migrated by a newer hpo-service" in refused.complaint()
        assert "upgrade this installation" in refused.complaint()
    assert service.value("SELECT version_num FROM hpo.alembic_version") == "9999"


def test_large_study_uses_asha_and_extended_study_keeps_its_pruner(service: Service) -> None:
    def pruner() -> str:
        pruner: str = service.value("SELECT spec->>'pruner' FROM hpo.studies WHERE name = 's'")
        return pruner

    few = ("launch", "--no-run", "--study", "s", "--objective", f"{OBJECTIVES}:Counted")
    assert service.hpo(*few, "--trials", 99).code == 0
    assert pruner() == "median"
    assert service.hpo("launch", "--no-run", "--study", "s", "--trials", 100).code == 0
    assert pruner() == "median"
    assert service.hpo("delete", "--study", "s", "--yes").code == 0
    assert service.hpo(*few, "--trials", 100).code == 0
    assert pruner() == "asha"
