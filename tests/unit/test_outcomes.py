"""Every outcome has one consequence for the budget and one for Optuna."""

from __future__ import annotations

from optuna.trial import TrialState

from hpo.outcomes import COUNTED, FAILURES, SETTLED, Outcome


def test_outcome_counts_or_fails_or_ends_only_an_attempt() -> None:
    attempt_only = {Outcome.RELEASED, Outcome.PREEMPTED, Outcome.MISFIT, Outcome.DISK_FULL}
    assert set(SETTLED) | set(FAILURES) | attempt_only == set(Outcome)
    assert not set(SETTLED) & set(FAILURES)
    assert set(SETTLED) - set(COUNTED) == {Outcome.REJECTED}


def test_optuna_completes_only_complete_trials_and_prunes_the_rest_that_counts() -> None:
    states = {outcome: TrialState[outcome.optuna_state] for outcome in Outcome}
    assert [outcome for outcome, state in states.items() if state is TrialState.COMPLETE] == ["complete"]
    assert [outcome for outcome, state in states.items() if state is TrialState.PRUNED] == [
        "pruned", "diverged", "oom", "timed out", "infeasible", "rejected"
    ]  # fmt: skip
