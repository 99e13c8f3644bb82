"""`hpo pause`, `resume` and `stop`: every agent obeys within seconds, and nothing begun is lost."""

from __future__ import annotations

from tests.acceptance.service import Service

NEWEST = "SELECT extract(epoch FROM clock_timestamp() - max(created_at)) FROM hpo.epochs"
COUNT = "SELECT count(*) FROM hpo.epochs"


def test_pause_resume_stop_and_continue(service: Service) -> None:
    agent = service.begin(trials=2, workers=2, epochs=60, at=2)

    service.hpo("pause", "--study", "s").clean()
    # Five epochs' time without an epoch: the trainers hold.
    service.wait_for(lambda: service.value(NEWEST) > 2.0)
    assert agent.alive
    assert len(service.trainers()) == 2
    recorded = service.value(COUNT)

    assert service.hpo("resume", "--study", "s").code == 0
    service.wait_for(lambda: service.value(COUNT) > recorded)

    assert service.hpo("stop", "--study", "s").code == 0
    agent.wait().clean()
    attempts = service.rows("SELECT * FROM hpo.attempts")
    assert [attempt.outcome for attempt in attempts] == ["released", "released"]
    numbers = {row.number for row in service.rows("SELECT number FROM hpo.trials")}
    reached = service.value("SELECT max(epochs) FROM hpo.trials")

    # A worker does not wake a stopped study; a launch does.
    idle = service.hpo("worker", "--study", "s")
    assert (idle.code, idle.trial_lines) == (0, [])
    service.finish(2, 60, "--workers", 2)
    assert {row.number for row in service.rows("SELECT number FROM hpo.trials")} == numbers
    resumed = service.rows("SELECT resumed_from FROM hpo.attempts WHERE outcome = 'complete'")
    assert max(row.resumed_from for row in resumed) == reached
    assert min(row.resumed_from for row in resumed) >= 2
