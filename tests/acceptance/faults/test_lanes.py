"""Searches whose trials train in lanes of one process: budgets are exact, whatever is killed."""

from __future__ import annotations

import importlib.util
import os
import signal

import pytest

from tests.acceptance.service import Running, Service

# Their objectives train nothing, but the commands refuse a backend that is not installed.
if importlib.util.find_spec("jax") is None:
    pytest.skip("lanes need JAX: make test-jax", allow_module_level=True)

LANES = 4
TRIALS = 10
EPOCHS = 6


def launch(service: Service, *more: object, objective: str = "Laned") -> Running:
    service.set(KERAS_BACKEND="jax", TEST_EPOCH_SECONDS=0.15)
    return service.launch(
        objective,
        *("--workers", 1, "--lanes", LANES, "--trials", TRIALS, "--epochs", EPOCHS, "--pruner", "none"),
        *more,
    )


def hosts(service: Service) -> set[int]:
    """Return the processes that attempts run in."""
    return set(service.trainers())


def running(service: Service) -> int:
    return int(service.value("SELECT count(*) FROM hpo.attempts WHERE ended_at IS NULL AND pid IS NOT NULL"))


def test_search_in_lanes_trains_several_trials_in_one_process(service: Service) -> None:
    agent = launch(service)
    service.wait_for(lambda: running(service) == LANES)
    assert len(hosts(service)) == 1
    service.hurry()
    agent.wait().clean()
    service.check_records(TRIALS, EPOCHS)
    assert set(service.outcomes()) == {"complete"}
    assert service.value("SELECT count(DISTINCT pid) FROM hpo.attempts") == 1
    retrained = service.hpo("retrain", "--study", "s", "--workers", 1, "--lanes", 3, "--seeds", 3).clean()
    assert "test_accuracy" in retrained.out


def test_killed_hosts_templates_and_agents_cost_no_trial(service: Service) -> None:
    """A host is killed twice, with its template once; then the agent, whose successor ends the study."""
    agent = launch(service, "--max-lost", 2)
    killed: set[int] = set()
    for epoch, with_template in ((2, False), (3, True)):
        service.wait_for_epoch(epoch)
        service.wait_for(lambda: hosts(service) - killed and running(service) == LANES)
        if with_template:
            os.kill(agent.template.pid, signal.SIGKILL)
        for pid in hosts(service) - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    service.wait_for(lambda: hosts(service) - killed and running(service) == LANES)
    assert "lost" not in service.outcomes()
    # Trials that were among the dead twice are trained in processes of their own.
    service.wait_for(lambda: len(hosts(service)) > 1)
    agent.kill()
    service.hurry()
    launch(service).wait().clean()
    service.check_records(TRIALS, EPOCHS)
    assert "lost" not in {row.outcome for row in service.rows("SELECT outcome FROM hpo.trials")}


def test_trial_that_kills_its_process_is_found_out_and_the_others_end(service: Service) -> None:
    launch(service, "--max-lost", 1, objective="Lethal").wait().clean()
    service.check_records(TRIALS, EPOCHS)
    trials = service.rows("SELECT number, outcome FROM hpo.trials ORDER BY number")
    assert [row.outcome for row in trials if row.outcome == "lost"] == ["lost"]
    attempts = service.rows(
        "SELECT a.outcome, number FROM hpo.attempts a JOIN hpo.trials USING (reservation_id) ORDER BY attempt_id"
    )
    assert [row.outcome for row in attempts if row.number == 0] == ["released", "released", "lost"]
    assert {row.outcome for row in attempts if row.number != 0} == {"released", "complete"}


@pytest.mark.parametrize(
    ("variables", "arguments", "says"),
    [
        (
            {"KERAS_BACKEND": "tensorflow"},
            (),
            "--lanes 4 needs JAX, and Keras uses tensorflow: add --backend jax",
        ),
        ({}, ("--memory-per-worker", "4G"), "--memory-per-worker limits a process"),
        ({}, ("--fresh-processes",), "--fresh-processes gives each trial a process of its own"),
    ],
)
def test_lanes_that_cannot_work_are_refused(
    service: Service, variables: dict[str, str], arguments: tuple[str, ...], says: str
) -> None:
    service.set(**{"KERAS_BACKEND": "jax", **variables})
    ended = service.launched("Laned", "--lanes", LANES, *arguments)
    assert says in ended.complaint(2)
    assert "or leave --lanes and HPO_LANES out" in ended.err


def test_objective_with_its_own_training_is_refused_in_lanes(service: Service) -> None:
    service.set(KERAS_BACKEND="jax")
    says = service.launched("Counted", "--lanes", LANES).complaint(2)
    assert "does not train by the loop of KerasObjective" in says
