"""Claims follow a model's advice where it is still possible; a study ends only by advice on all that is paused."""

from __future__ import annotations

import math

import pytest

from hpo.outcomes import Outcome
from hpo.search.freeze_thaw import rule_for
from storage import attempts, leases
from storage.claiming import claims
from storage.claiming.claims import Claim, NoWork
from storage.engine import Database
from storage.freeze_thaw import curves, rungs
from storage.freeze_thaw.advice import Advice
from tests.integration.storage.test_rungs import LEASE, Frozen

RULE = rule_for(9, (), modelled=True)


class Advised(Frozen):
    """A study whose trials pause after each epoch unless the model lets them go on."""

    def __init__(self, database: Database, trials: int, **spec: object) -> None:
        super().__init__(database, trials, curve_model=True, **spec)
        self.rule = RULE

    def claim_by(
        self, agent: int, *ranked: int | None, paused: int | None = None, slot: int = 0, host: str = "here"
    ) -> Claim | NoWork:
        advice = Advice(ranked=ranked, paused=paused)
        found: Claim | NoWork = self.do(
            lambda c: claims.claim(c, 1, agent, host, slot, "cpu:0", LEASE, advice=advice)
        )
        return found

    def paused(self, agent: int, value: float, host: str = "here", epoch: int = 1) -> int:
        """Pause a new trial after an epoch and return its reservation."""
        claim = self.claim_by(agent, None, slot=9, host=host)
        assert isinstance(claim, Claim)
        assert claim.fresh
        self.execute("UPDATE hpo.trials SET params = '{}' WHERE reservation_id = :t", t=claim.reservation_id)
        assert self.reach(claim, epoch, value)
        return claim.reservation_id

    def read(self, **options: object) -> curves.StudyCurves:
        found: curves.StudyCurves = self.do(lambda c: curves.read(c, 1, RULE, **options))
        return found


def reserved(claim: Claim | NoWork) -> int | None:
    assert isinstance(claim, Claim)
    return None if claim.fresh else claim.reservation_id


def test_claim_takes_the_first_of_a_ranking_that_is_still_possible(database: Database) -> None:
    study = Advised(database, 6)
    agent = study.agent()
    first, second, third = (study.paused(agent, value) for value in (0.5, 0.4, 0.3))
    assert reserved(study.claim_by(agent, first, None, second, slot=0)) == first
    # Another agent was faster.
    assert reserved(study.claim_by(agent, first, second, slot=1)) == second
    assert reserved(study.claim_by(agent, first, None, third, slot=2)) is None
    assert reserved(study.claim_by(agent, third, slot=3)) == third
    # Without advice, because the model failed, a new configuration begins.
    assert reserved(study.claim(agent, 4)) is None


def test_trial_that_another_host_paused_waits_until_no_configuration_is_left(database: Database) -> None:
    study = Advised(database, 3)
    here, there = study.agent(), study.agent("there")
    mine, other = study.paused(here, 0.5), study.paused(there, 0.1, "there")
    assert reserved(study.claim_by(here, other, mine, None)) == mine
    assert reserved(study.claim_by(here, other, None, slot=1)) is None
    assert reserved(study.claim_by(here, other, slot=2)) == other


def test_study_ends_by_advice_on_all_paused_trials_after_some_are_complete(database: Database) -> None:
    study = Advised(database, 5)
    agent = study.agent()
    for value in (0.5, 0.4, math.nan, 0.3, 0.2):
        study.paused(agent, value)
    # The model saw four of them.
    assert study.claim_by(agent, paused=4) is NoWork.ELSEWHERE
    for expected in (0.2, 0.3, 0.4):
        claim = study.claim_by(agent, paused=study.read().paused)
        assert isinstance(claim, Claim)
        study.settle(claim, expected)
    assert study.claim_by(agent, paused=2) is NoWork.DONE
    outcomes = study.outcomes()
    assert [outcome for outcome, _ in outcomes] == ["pruned", "complete", "pruned", "complete", "complete"]
    assert [value for _, value in outcomes] == [0.5, 0.4, None, 0.3, 0.2]


def test_model_decides_whether_a_trial_goes_on(database: Database) -> None:
    study = Advised(database, 2)
    agent = study.agent()
    claim = study.claim_by(agent, None)
    assert isinstance(claim, Claim)

    def judged(scores: dict[int, float], *, goes_on: bool) -> bool:
        found: bool = study.do(lambda c: rungs.judge(c, claim.attempt_id, RULE, scores, goes_on=goes_on))
        return found

    assert not judged({1: 0.5}, goes_on=True)
    # An epoch that is judged already is not judged again, as after a restart.
    assert not judged({1: 0.5}, goes_on=False)
    assert judged({1: 0.5, 2: math.nan}, goes_on=True)
    assert judged({1: 0.5, 2: math.nan}, goes_on=True)
    rows = study.execute("SELECT paused_epoch, paused_score FROM hpo.trials").all()
    assert [tuple(row) for row in rows] == [(2, math.inf)]


def test_curves_have_states_scores_and_the_ends_of_trials(database: Database) -> None:
    study = Advised(database, 9, direction="maximize")
    agent = study.agent()
    study.paused(agent, -0.5, epoch=2)
    for slot, (outcome, value) in enumerate(((Outcome.COMPLETE, 0.75), (Outcome.DIVERGED, None))):
        claim = study.claim_by(agent, None, slot=slot)
        assert isinstance(claim, Claim)
        study.do(lambda c, a=claim.attempt_id: attempts.record(c, a, [(1, {"loss": 0.1}, 0.1)]))
        study.do(lambda c, a=claim.attempt_id, o=outcome, v=value: leases.settle(c, a, o, v))
    running = study.claim_by(agent, None, slot=5)
    assert isinstance(running, Claim)
    study.execute("UPDATE hpo.trials SET params = '{\"x\": 1}' WHERE params IS NULL")

    found = study.read()
    assert [(one.state, one.scores) for one in found.trials] == [
        ("paused", {2: -0.5}),
        ("ended", {9: -0.75}),
        ("ended", {1: math.inf}),
    ]
    assert (found.reserved, found.begins, found.paused) == (4, True, None)
    own = study.read(attempt_id=running.attempt_id, scores={1: 0.25}).trials[-1]
    assert (own.state, own.scores, own.params) == ("running", {1: 0.25}, {"x": 1})


@pytest.mark.parametrize("number", [10, 2000])
def test_number_of_curves_that_are_read_is_bounded(database: Database, number: int) -> None:
    study = Advised(database, number)
    study.execute(
        "INSERT INTO hpo.trials (study_id, ordinal, seed, params, paused_epoch, paused_score)"
        " SELECT 1, n, 0, '{}', 1 + n % 3, abs(n - 700) FROM generate_series(0, :n - 1) AS n",
        n=number,
    )
    study.execute(
        "INSERT INTO hpo.rungs (study_id, reservation_id, epoch, score)"
        " SELECT 1, reservation_id, paused_epoch, paused_score FROM hpo.trials"
    )
    found = study.read()
    assert (found.begins, found.paused) == (False, number)
    ordinals = [one.ordinal for one in found.trials]
    assert len(set(ordinals)) == len(ordinals) <= 400
    assert {number - 1, min(700, number - 1), 0} <= set(ordinals)
