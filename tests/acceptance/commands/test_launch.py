"""`hpo launch` and `hpo worker`: exactly the requested trials, by any number of agents."""

from __future__ import annotations

import json
import re
import signal

import pytest
from optuna.trial import TrialState

from hpo.devices.provenance import versions
from hpo.process.identity import host_name, process_identity
from tests.acceptance.service import SOON, Service


def test_launch_runs_exactly_the_requested_trials(service: Service) -> None:
    first = service.launched("Counted", "--trials", 5, "--workers", 2, "--pruner", "none").clean()
    assert len(first.trial_lines) == 5
    assert "5 of 5 trials finished" in first.out
    line = re.compile(r"complete value=[\d.]+ epochs=4 seconds=[\d.]+ x=\S+ letter=[ab] \[\d/5\]( new best)?")
    assert all(line.fullmatch(shown) for shown in first.trial_lines), first.out
    service.check_records(5, epochs=4)

    again = service.hpo("launch", "--study", "s")
    assert (again.code, again.trial_lines, again.err) == (0, [], "")

    extended = service.hpo("launch", "--study", "s", "--trials", 7, "--workers", 2)
    assert (extended.code, len(extended.trial_lines)) == (0, 2)
    service.check_records(7, epochs=4)

    study = service.study()
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 7
    for trial in study.trials:
        loss = (trial.params["x"] - 2) ** 2
        assert trial.intermediate_values == pytest.approx({epoch: loss + 1 / epoch for epoch in (1, 2, 3, 4)})
        assert trial.value == trial.intermediate_values[4]
    # The known good configuration came first.
    assert (study.best_trial.number, study.best_params["x"]) == (0, 2.0)


def test_simultaneous_launches_share_an_empty_database(fresh_service: Service) -> None:
    service = fresh_service
    service.set(TEST_EPOCH_SECONDS=0.02)
    agents = [service.launch("Counted", "--trials", 8, "--workers", 1) for _ in range(2)]
    ended = [agent.wait() for agent in agents]
    assert [(one.code, one.err) for one in ended] == [(0, ""), (0, "")]
    assert sum(len(one.trial_lines) for one in ended) == 8
    service.check_records(8, epochs=4)
    assert service.value("SELECT count(*) FROM hpo.studies") == 1


def test_workers_join_and_share_the_trials(service: Service) -> None:
    service.set(TEST_EPOCH_SECONDS=5)
    agent = service.launch("Counted", "--trials", 24, "--workers", 1, "--pruner", "none")
    service.wait_for(service.trainers)
    joined = service.start("worker", "--study", "s", "--slots", 2)
    service.wait_for(lambda: len(service.trainers()) == 3)
    service.hurry()
    # The start time distinguishes an agent from a later process with the same id.
    processes = [process_identity(running.pid) for running in (agent, joined)]
    ended = [agent.wait(), joined.wait()]
    assert [(one.code, one.err) for one in ended] == [(0, ""), (0, "")]
    assert min(len(one.trial_lines) for one in ended) > 0
    service.check_records(24, epochs=4)
    shares = service.rows(
        "SELECT agent_id, count(*) AS n FROM hpo.attempts WHERE outcome = 'complete' GROUP BY agent_id"
    )
    assert len(shares) == 2
    assert sum(share.n for share in shares) == 24
    agents = service.rows("SELECT host, pid, process, slots, versions FROM hpo.agents ORDER BY ordinal")
    assert [(row.host, row.pid, row.process, row.slots) for row in agents] == [
        (host_name(), agent.pid, processes[0], 1),
        (host_name(), joined.pid, processes[1], 2),
    ]
    assert all(versions().items() < row.versions.items() for row in agents)


def test_idle_agent_takes_trials_prefetched_by_another(service: Service) -> None:
    gate = service.folder / "gate"
    service.set(TEST_EPOCH_SECONDS=0.1, TEST_GATE=gate)
    agent = service.launch(
        "Gated", "--trials", 2, "--workers", 1, "--epochs", 16, "--pruner", "none", "--sampler", "random"
    )
    # From half of the first trial on.
    service.wait_for(lambda: service.value("SELECT count(*) FROM hpo.attempts WHERE device = 'next'"))
    service.set(TEST_GATE="")
    joined = service.start("worker", "--study", "s", "--slots", 1)
    service.wait_for(lambda: service.value("SELECT count(*) FROM hpo.attempts WHERE outcome = 'complete'"))
    gate.touch()
    ended = [joined.wait(), agent.wait()]
    assert [(one.code, one.err, len(one.trial_lines)) for one in ended] == [(0, "", 1), (0, "", 1)]
    service.check_records(2, epochs=16)
    attempts = service.rows("SELECT outcome, device, epochs FROM hpo.attempts ORDER BY attempt_id")
    assert [row.outcome for row in attempts] == ["complete", "released", "complete"]
    assert (attempts[1].device, attempts[1].epochs) == ("next", 0)
    # A prefetched trial is neither shown as an attempt nor counted as training time.
    (taken,) = (
        trial for trial in json.loads(service.hpo("trials", "--study", "s", "--json").out) if trial["number"]
    )
    (trained,) = service.rows(
        "SELECT extract(epoch FROM ended_at - started_at)::float8 AS s FROM hpo.attempts ORDER BY attempt_id OFFSET 2"
    )
    assert (taken["attempts"], taken["seconds"]) == (1, pytest.approx(trained.s, abs=0.01))


def test_timeout_keeps_started_trials(service: Service) -> None:
    service.set(TEST_EPOCH_SECONDS=0.3)
    timed = service.launched(
        "Counted", "--trials", 2, "--workers", 1, "--timeout", "2s", "--epochs", 30
    ).clean()
    assert "the time is up" in timed.out
    assert service.value("SELECT outcome FROM hpo.attempts") == "released"
    service.finish(2, 30)
    assert service.value("SELECT max(resumed_from) FROM hpo.attempts") >= 1


def test_short_trials_are_prefetched(service: Service) -> None:
    gate = service.folder / "gate"
    service.set(TEST_GATE=gate)
    agent = service.launch("Gated", "--trials", 8, "--workers", 2, "--epochs", 16, "--pruner", "none")
    ahead = "SELECT attempt_id FROM hpo.attempts WHERE device = 'next' ORDER BY attempt_id"
    # As many as slots, from half of the first trials on.
    service.wait_for(lambda: len(service.rows(ahead)) == 2)
    prefetched = [row.attempt_id for row in service.rows(ahead)]
    gate.touch()
    agent.wait().clean()
    service.check_records(8, epochs=16)
    attempts = service.rows("SELECT attempt_id, slot, device, outcome FROM hpo.attempts ORDER BY attempt_id")
    assert {(row.slot, row.outcome) for row in attempts} == {(0, "complete"), (1, "complete")}
    assert "next" not in {row.device for row in attempts}
    # They were the next ones, one in each slot.
    assert prefetched == [row.attempt_id for row in attempts[2:4]]
    assert {row.slot for row in attempts[2:4]} == {0, 1}


def test_prefetched_trials_are_released(service: Service) -> None:
    service.set(TEST_EPOCH_SECONDS=0.05)
    agent = service.launch(
        "Counted", "--trials", 400, "--workers", 1, "--epochs", 4, "--pruner", "none", "--sampler", "random"
    )
    held = "SELECT count(*) FROM hpo.attempts WHERE ended_at IS NULL AND device = 'next'"
    service.wait_for(lambda: service.value(held) == 1)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(SOON).code == 130
    assert service.rows("SELECT * FROM hpo.attempts WHERE ended_at IS NULL") == []
    trials = service.value("SELECT count(*) FROM hpo.trials WHERE outcome IS NOT NULL")
    service.finish(trials + 3, 4, "--trials", trials + 3)


def test_configurations_that_violate_a_constraint_are_not_trained_and_do_not_count(service: Service) -> None:
    options = ("--constraint", "parameters<=20", "--constraint", "odd<=0", "--also-minimize", "parameters")
    ended = service.launched("Sized", "--trials", 12, "--workers", 2, *options).clean()
    assert "12 of 12 trials finished" in ended.out
    assert re.search(r"trial=0 attempt=\d+ rejected .*parameters is 40 > 20 \(--constraint\)", ended.out)
    trials = service.rows("SELECT outcome, epochs, params->>'size' AS size FROM hpo.trials ORDER BY number")
    assert {(one.outcome, one.epochs) for one in trials} == {
        ("complete", 2),
        ("infeasible", 2),
        ("rejected", 0),
    }
    for one in trials:
        size = int(one.size)
        assert one.outcome == ("rejected" if size > 20 else "infeasible" if size % 2 else "complete")
    states = [trial.state for trial in service.study().trials]
    assert states.count(TrialState.COMPLETE) == [one.outcome for one in trials].count("complete")
    front = json.loads(service.hpo("best", "--study", "s", "--front", "--json").clean().out)
    complete = [int(one.size) for one in trials if one.outcome == "complete"]
    assert [one["figures"] for one in front] == [
        {"odd": 0.0, "parameters": float(size)} for size in sorted({*complete}, reverse=True)
    ]
