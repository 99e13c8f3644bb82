"""Failures of trials are distinguished, counted and shown."""

from __future__ import annotations

import csv
import io

from optuna.trial import TrialState

from tests.acceptance.service import Completed, Service


def rows_of(shown: Completed) -> list[dict[str, str]]:
    assert (shown.code, shown.err) == (0, "")
    return list(csv.DictReader(io.StringIO(shown.out)))


def test_outcomes_are_distinguished(service: Service) -> None:
    # One worker, so that the pruner can compare with the four fine trials.
    ended = service.launched("Moody", "--workers", 1, "--trials", 9).clean()
    # The bug, started last, does not count: no further trial was needed.
    assert (
        "9 of 9 trials finished (4 complete, 2 pruned, 1 diverged, 1 oom, 1 infeasible), 0 failed"
        in ended.out
    )
    more = service.hpo("launch", "--study", "s", "--workers", 1, "--trials", 10, "--max-failed", 1)
    assert more.code == 1
    last = more.err.splitlines()[-1]
    assert last.startswith(
        "hpo: 1 trial has failed (--max-failed 1), the last with: ValueError: the objective is broken"
    )
    assert more.err.count("Traceback (most recent call last)") == 1
    service.check_records(9, epochs=4)

    trials = rows_of(service.hpo("trials", "--study", "s", "--csv"))
    assert [trial["state"] for trial in trials] == ["complete"] * 4 + [
        *("pruned", "diverged", "oom", "infeasible", "pruned", "bug"),
    ]
    why = [trial["why"] for trial in trials]
    assert why[0] == "trained to the end"
    assert why[4] == "pruned after epoch 2"
    assert why[5].startswith("diverged after epoch 2: loss")
    assert why[6] == "out of memory after epoch 1: MemoryError: the model is too large"
    assert why[7] == "infeasible after epoch 1: a kernel of 7 in an image of 5"
    assert why[8] == "pruned after epoch 1"
    assert why[9] == "error after epoch 1: ValueError: the objective is broken"

    known = service.study().trials
    assert [trial.state for trial in known] == (
        [TrialState.COMPLETE] * 4 + [TrialState.PRUNED] * 5 + [TrialState.FAIL]
    )
    assert [bool(trial.constraints) for trial in known] == [False] * 5 + [True, True, True, False, False]
    assert service.study().best_trial.number in (0, 1, 2, 3)


def test_same_bug_in_every_trial_stops_launch(service: Service) -> None:
    broken = service.launched("Moody", "--workers", 1, "--trials", 20, "--param", "mood=bug")
    assert broken.code == 1
    assert broken.err.count("Traceback (most recent call last)") == 1
    assert broken.err.count("ValueError: the objective is broken\n") == 1
    last = broken.err.splitlines()[-1]
    assert last.startswith(
        "hpo: 3 trials have failed with ValueError: the objective is broken, and none has finished"
    )
    outcomes = [row.outcome for row in service.rows("SELECT outcome FROM hpo.trials")]
    assert outcomes == ["bug"] * 3
    assert [trial.state for trial in service.study().trials] == [TrialState.FAIL] * 3
    assert "complete trial" in service.hpo("retrain", "--study", "s").complaint()


def test_fixed_objective_retries_failed_study(service: Service) -> None:
    service.set(TEST_ILL="bug")
    assert service.launched("Moody", "--workers", 1, "--trials", 2, "--param", "mood=fine").code == 1
    service.set(TEST_ILL="")
    service.finish(2, 4, "--workers", 1)
    assert service.value("SELECT count(*) FROM hpo.trials WHERE outcome = 'bug'") == 3


def test_restarted_agents_share_one_limit_of_failed_trials(service: Service) -> None:
    fine = ("--param", "mood=fine", "--max-failed", 2)
    assert service.launched("Moody", "--workers", 1, "--trials", 1, *fine).code == 0
    assert service.hpo("launch", "--no-run", "--study", "s", "--trials", 3).code == 0
    service.set(TEST_ILL="bug")
    for _ in range(3):
        worker = service.hpo("worker", "--study", "s", "--slots", 1)
        assert worker.code == 1
        last = worker.err.splitlines()[-1]
        assert last.startswith("hpo: 2 trials have failed (--max-failed 2), the last with: ValueError")
    assert service.value("SELECT count(*) FROM hpo.trials WHERE outcome = 'bug'") == 2
    # The option asserts that the objective was fixed.
    service.set(TEST_ILL="")
    assert service.hpo("resume", "--study", "s").code == 0
    service.hpo("worker", "--study", "s", "--slots", 1).clean()
    service.check_records(3, epochs=4)


def test_objective_without_report_fails(service: Service) -> None:
    silent = service.launched("Moody", "--workers", 1, "--trials", 2, "--param", "mood=silent")
    assert silent.code == 1
    assert "without calling run.report()" in silent.err.splitlines()[-1]


def test_trial_that_kills_its_process_fails_after_three_attempts(service: Service) -> None:
    dying = service.launched("Moody", "--workers", 1, "--param", "mood=die", "--trials", 2, "--max-failed", 1)
    assert "lost 3 times" in dying.complaint()
    assert "SIGABRT" in dying.complaint()
    attempts = service.rows("SELECT * FROM hpo.attempts ORDER BY attempt_id")
    assert [(a.outcome, a.resumed_from) for a in attempts] == [("lost", 0), ("lost", 1), ("lost", 1)]
    (trial,) = service.rows("SELECT * FROM hpo.trials")
    assert (trial.outcome, trial.told_optuna, trial.epochs) == ("lost", True, 1)
    assert [trial.state for trial in service.study().trials] == [TrialState.FAIL]


def test_full_disk_stops_launch_and_loses_nothing(service: Service) -> None:
    service.set(TEST_ILL="disk")
    full = service.launched("Moody", "--workers", 1, "--trials", 2, "--param", "mood=fine")
    assert "no space left" in full.complaint()
    (attempt,) = service.rows("SELECT outcome, epochs FROM hpo.attempts")
    assert (attempt.outcome, attempt.epochs) == ("released", 1)
    service.set(TEST_ILL="")
    service.finish(2, 4, "--workers", 1)
    attempts = service.rows("SELECT resumed_from FROM hpo.attempts ORDER BY attempt_id")
    assert [attempt.resumed_from for attempt in attempts] == [0, 1, 0]
