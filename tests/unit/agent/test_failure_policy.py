"""Failures after which agents stop."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from hpo.agent import failure_policy
from hpo.outcomes import Outcome
from storage.budget import Counts, Failure


def bug(error: str, line: int = 12) -> Failure:
    traceback = (
        'Traceback (most recent call last):\n  File "/hpo/trainer.py", line 5, in _outcome\n    objective.train()\n'
        f'  File "/mine.py", line {line}, in train\n    raise\n{error}\n'
    )
    return Failure(Outcome.BUG, error, traceback)


LOST = Failure(Outcome.LOST, "lost 3 times, the last time: its process was ended by SIGKILL", "")


@pytest.mark.parametrize(
    "failures",
    [
        [bug("ValueError: bad x 0.1"), bug("ValueError: bad x 0.2"), bug("ValueError: bad x 0.3")],
        # With other failures in between.
        [bug("ValueError: a"), bug("KeyError: 'b'", 9), bug("ValueError: c"), LOST, bug("ValueError: d")],
        [LOST, LOST, LOST],
    ],
)
def test_failures_of_one_bug_count_together_though_their_messages_differ(failures: list[Failure]) -> None:
    error = failure_policy.same_bug(failures, "s", 3)
    assert error is not None
    assert str(error).startswith(f"3 trials have failed with {failures[0].error}, and none has finished: ")
    assert error.traceback == failures[0].traceback


@pytest.mark.parametrize(
    "failures",
    [
        [bug("ValueError: a"), bug("ValueError: b")],
        [bug("ValueError: a"), bug("KeyError: a"), bug("ValueError: b")],
        [bug("ValueError: a", 1), bug("ValueError: b", 2), bug("ValueError: c", 3)],
        [],
    ],
)
def test_different_bugs_do_not_stop_the_agents(failures: list[Failure]) -> None:
    assert failure_policy.same_bug(failures, "s", 3) is None


@pytest.mark.parametrize(("state", "stops"), [("complete", False), ("paused", False), ("waiting", True)])
def test_bug_stops_the_agents_only_before_a_trial_has_finished_or_paused(state: str, stops: bool) -> None:
    store = Mock(**{"failures.return_value": (Counts(budget=9, failing=3, **{state: 1}), [LOST] * 3)})
    assert (failure_policy.reason_to_stop(store, 10) is not None) is stops


def test_metric_that_no_report_has_stops_the_agents_at_the_first_trial() -> None:
    unknown = bug(
        "MetricUnknownError: run.report() was given loss, but not 'val_loss', the objective's metric"
    )
    error = failure_policy.same_bug([bug("ValueError: a", 1), unknown], "s", 3)
    assert str(error).startswith(
        f"1 trial has failed with {unknown.error}, and none has finished: fix the objective"
    )


def test_figure_that_no_trial_has_stops_the_agents_at_the_first_trial() -> None:
    unknown = bug(
        "FigureUnknownError: trials have no figure 'a' for --constraint or --also-minimize, but loss"
    )
    assert str(failure_policy.same_bug([unknown], "s", 3)) == (
        f"1 trial has failed with {unknown.error}, and none has finished: name one of these in another study, or give"
        " it with run.measure() before the first epoch, then hpo launch or hpo resume"
    )


def test_killed_trials_are_no_bug_of_the_objective() -> None:
    error = str(failure_policy.same_bug([LOST], "s", 1))
    assert error.startswith("1 trial has failed with lost 3 times")
    assert "fix the objective" not in error
    assert "hpo logs --study s" in error


def test_too_many_failures_show_the_last_traceback() -> None:
    last = bug("KeyError: 'b'")
    error = failure_policy.too_many([last, bug("ValueError: a")], "s", failing=12, max_failed=10)
    assert str(error).startswith(
        "12 trials have failed (--max-failed 10), the last with: KeyError: 'b' (raise hpo.Infeas"
    )
    assert error.traceback == last.traceback


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (
            [(Outcome.OUT_OF_MEMORY, 12, "MemoryError: no 8 GiB")],
            "no trial of the study is complete (12 out of memory, the last with MemoryError: no 8 GiB): use fewer",
        ),
        (
            [(Outcome.DIVERGED, 2, "loss is nan"), (Outcome.PRUNED, 1, "")],
            "no trial of the study is complete (2 diverged, 1 pruned, the last with loss is nan): narrow the search",
        ),
        (
            [(Outcome.INFEASIBLE, 3, "a kernel of 7")],
            "no trial of the study is complete (3 infeasible, the last with a kernel of 7): narrow the search space to",
        ),
        ([(Outcome.PRUNED, 1, "")], "no trial of the study is complete (1 pruned): use another --pruner"),
    ],
)
def test_study_without_a_complete_trial_is_reported_with_counts_cause_and_remedy(ends, message) -> None:
    error = failure_policy.none_complete(ends, "s")
    assert str(error).startswith(message)
    assert str(error).endswith("; hpo trials --study s lists them")
