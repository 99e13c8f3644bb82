"""Ctrl-C, SIGTERM and SIGKILL of every kind of process: at most one epoch is trained again."""

from __future__ import annotations

import os
import signal

import pytest

from tests.acceptance.service import SOON, TIMEOUT, Running, Service

EPOCHS = 40


def test_first_ctrl_c_lets_epochs_end(service: Service) -> None:
    agent = service.begin()
    agent.send_signal(signal.SIGINT)
    ended = agent.wait().clean(130)
    assert "Ctrl-C again" in ended.out
    first = service.rows("SELECT * FROM hpo.attempts")
    assert [attempt.outcome for attempt in first] == ["released"]
    reached = service.value("SELECT epochs FROM hpo.trials")
    service.finish(1, EPOCHS)
    attempts = service.rows("SELECT * FROM hpo.attempts ORDER BY attempt_id")
    assert [(a.outcome, a.resumed_from) for a in attempts] == [("released", 0), ("complete", reached)]
    assert service.value("SELECT number FROM hpo.trials") == 0


def test_second_ctrl_c_ends_at_once(service: Service) -> None:
    service.set(TEST_EPOCH_SECONDS=300)
    agent = service.launch("Counted", "--trials", 1, "--workers", 1)
    service.wait_for(service.trainers)
    agent.send_signal(signal.SIGINT)
    service.wait_for(lambda: "Ctrl-C again" in agent.output())
    assert agent.alive
    agent.send_signal(signal.SIGINT)
    assert agent.wait(SOON).code == 130
    assert service.value("SELECT outcome FROM hpo.attempts") == "released"


def start(service: Service, command: str, objective: str, workers: int, epochs: int) -> Running:
    """Start a study, and return the agent of `hpo launch` or one that joins."""
    wanted = ("--trials", workers, "--workers", workers, "--epochs", epochs, "--pruner", "none")
    if command == "launch":
        return service.launch(objective, *wanted)
    assert service.launched(objective, *wanted, "--no-run").code == 0
    return service.start("worker", "--study", "s", "--slots", workers)


@pytest.mark.parametrize("command", ["launch", "worker"])
def test_sigterm_releases_trials(service: Service, command: str) -> None:
    service.set(TEST_HOLD=2)
    agent = start(service, command, "Counted", 2, EPOCHS)
    service.wait_for_epoch(1, trials=2)
    agent.send_signal(signal.SIGTERM)
    ended = agent.wait(SOON)
    assert (ended.code, ended.err) == (130, "")
    outcomes = service.outcomes()
    assert outcomes == ["released", "released"]
    service.finish(2, EPOCHS)
    assert service.value("SELECT min(resumed_from) FROM hpo.attempts WHERE outcome = 'complete'") >= 1


def test_sigterm_abandons_endless_epoch(service: Service) -> None:
    """It is abandoned, and its trial resumes from the previous epoch."""
    gate = service.folder / "gate"
    service.set(TEST_GATE=gate)
    agent = start(service, "worker", "Gated", 1, 16)
    service.wait_for_epoch(15)
    agent.send_signal(signal.SIGTERM)
    ended = agent.wait(SOON)
    assert (ended.code, ended.err) == (130, "")
    assert service.value("SELECT outcome FROM hpo.attempts") == "released"
    gate.touch()
    service.hpo("worker", "--study", "s", "--slots", 1).clean()
    service.check_records(1, epochs=16)
    attempts = service.rows("SELECT resumed_from FROM hpo.attempts ORDER BY attempt_id")
    assert [attempt.resumed_from for attempt in attempts] == [0, 15]


def test_killed_trainer_resumes_from_checkpoint(service: Service) -> None:
    agent = service.begin()
    (pid,) = service.trainers()
    os.kill(pid, signal.SIGKILL)
    service.hurry()
    ended = agent.wait().clean()
    assert "SIGKILL" in ended.out
    service.check_records(1, epochs=EPOCHS)
    attempts = service.rows("SELECT * FROM hpo.attempts ORDER BY attempt_id")
    assert [attempt.outcome for attempt in attempts] == ["lost", "complete"]
    assert attempts[1].resumed_from >= 3
    # The killed trainer may have saved one more epoch than it reported.
    assert attempts[1].resumed_from - attempts[0].epochs in (0, 1)
    assert len(service.study().trials) == 1


def test_killed_template_leaves_trainers_running(service: Service) -> None:
    agent = service.begin(trials=4, workers=2, epochs=12)
    before = service.trainers()
    os.kill(agent.template.pid, signal.SIGKILL)
    service.hurry()
    agent.wait().clean()
    service.check_records(4, epochs=12)
    outcomes = {
        row.attempt_id: row.outcome for row in service.rows("SELECT attempt_id, outcome FROM hpo.attempts")
    }
    assert set(outcomes.values()) == {"complete"}
    assert set(before.values()) < set(outcomes)


def test_launch_after_killed_agent_continues_at_once(service: Service) -> None:
    service.set(HPO_LEASE_SECONDS=600)
    agent = service.begin(trials=2, workers=2)
    agent.kill()
    # Trainers and template detect it by themselves.
    service.wait_for(lambda: not service.processes())
    held = service.rows(
        "SELECT lease_until - clock_timestamp() AS left FROM hpo.attempts WHERE ended_at IS NULL"
    )
    # Longer than the launch may take.
    assert [row.left.total_seconds() > 2 * TIMEOUT for row in held] == [True, True]

    service.finish(2, EPOCHS)
    attempts = service.rows("SELECT * FROM hpo.attempts ORDER BY attempt_id")
    assert [attempt.outcome for attempt in attempts] == ["lost", "lost", "complete", "complete"]
    assert min(attempt.resumed_from for attempt in attempts[2:]) >= 3
    assert len(service.study().trials) == 2


def test_attempt_with_expired_lease_is_fenced(service: Service) -> None:
    agent = service.begin()
    ((pid, attempt),) = service.trainers().items()
    service.rows(
        "UPDATE hpo.attempts SET ended_at = clock_timestamp(), outcome = 'lost' WHERE attempt_id = :a",
        a=attempt,
    )
    service.wait_for(lambda: not any(process.pid == pid for process in service.processes()))
    service.hurry()
    ended = agent.wait().clean()
    assert "another agent has taken the trial over" in ended.out
    assert len(ended.trial_lines) == 1
    service.check_records(1, epochs=EPOCHS)
    assert len(service.study().trials) == 1
    epochs = service.rows("SELECT attempt_id FROM hpo.epochs ORDER BY epoch")
    assert epochs[0].attempt_id == attempt
    assert epochs[-1].attempt_id != attempt


@pytest.mark.parametrize(
    ("number", "reaches_template"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)],
)
def test_signal_while_objective_loads(service: Service, number: int, reaches_template: bool) -> None:
    """No unfinished study and no process is left behind."""
    slow = service.folder / "slow.py"
    slow.write_text("import time\ntime.sleep(300)\n")
    agent = service.start("launch", "--study", "s", "--objective", f"{slow}:Slow")
    service.wait_for(lambda: service.runs("hpo.trainer.template.fork_server"))
    if reaches_template:
        agent.template.send_signal(number)
    agent.send_signal(number)
    ended = agent.wait(SOON)
    # Click ends the line that a terminal began with ^C.
    assert (ended.code in (130, -signal.SIGTERM), ended.err.strip()) == (True, "")
    service.wait_for(lambda: not service.processes())
    assert service.value("SELECT count(*) FROM hpo.studies") == 0
