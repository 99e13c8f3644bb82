"""Counts of trials by outcome."""

from __future__ import annotations

import pytest

from hpo.outcomes import COUNTED, Outcome
from storage.budget import Counts, fields


def test_counts_name_each_outcome_that_cut_trials_short() -> None:
    counts = Counts(budget=9, complete=1, pruned=2, timed_out=1, out_of_memory=3)
    assert (counts.finished, counts.left) == (7, 2)
    assert counts.cut_short == "2 pruned, 3 oom, 1 timed out"
    assert Counts(complete=4).cut_short == "0 pruned"


@pytest.mark.parametrize("outcome", COUNTED)
def test_trial_is_counted_under_its_outcome_only(outcome: Outcome) -> None:
    counts = Counts(budget=3).plus(outcome)
    assert {one: counts.of(one) for one in COUNTED if counts.of(one)} == {outcome: 1}
    assert counts == Counts(budget=3, **fields({outcome: 1, Outcome.BUG: 2}))
    assert counts.plus(outcome, -1) == Counts(budget=3)
