"""Rungs of freeze-thaw in the database: claims follow the rule, prefer their own host, and end the study."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import Connection, text

from hpo.outcomes import Outcome
from hpo.search.freeze_thaw import NAME, FreezeThaw, Ladder, levels_of
from hpo.search.optuna_study import Search
from storage import agents, attempts, budget, goals, leases, repeats, reservations
from storage.claiming import claims
from storage.claiming.claims import Claim, NoWork
from storage.engine import Database
from storage.freeze_thaw import pauses, rungs
from storage.freeze_thaw.thawing import by_rank
from tests.integration.rows import SPACE, StudyRows
from tests.specs import THIRDS
from tests.specs import spec as make_spec

pytestmark = pytest.mark.usefixtures("thirds")

RULE = FreezeThaw(epochs=9, levels=THIRDS)
LEASE = 3600.0


class Frozen:
    """A study of nine epochs a trial, whose agents are on several hosts."""

    def __init__(self, database: Database, trials: int, **spec: object) -> None:
        self.do: Callable[..., Any] = database.transaction
        self.rule = RULE
        self.spec = {
            "seed": 0,
            "pruner": NAME,
            "epochs": RULE.epochs,
            "metric": "loss",
            "direction": "minimize",
        }
        row = {"spec": json.dumps(self.spec | spec), "n": trials}
        self.execute(
            "INSERT INTO hpo.studies (study_id, name, spec, budget) VALUES (1, 's', CAST(:spec AS json), :n)",
            **row,
        )

    def execute(self, sql: str, **values: object) -> Any:
        return self.do(lambda c: c.execute(text(sql), values))

    def agent(self, host: str = "here") -> int:
        def join(c: Connection) -> int:
            agent = agents.new_agent_id(c)
            agents.join(c, agent, 1, host, 1, "boot:1:0", 4, {}, LEASE)
            return agent

        found: int = self.do(join)
        return found

    def claim(self, agent: int, slot: int = 0, host: str = "here") -> Claim | NoWork:
        found: Claim | NoWork = self.do(lambda c: claims.claim(c, 1, agent, host, slot, "cpu:0", LEASE))
        return found

    def reach(self, claim: Claim, rung: int, value: float) -> bool:
        """Record the epochs up to a rung with a value; if the trial is paused there, release it and return True."""

        def write(c: Connection) -> bool:
            attempts.record(c, claim.attempt_id, [(e, {"loss": value}, 0.1) for e in range(1, rung + 1)])
            paused = rungs.judge(c, claim.attempt_id, self.rule, {rung: value})
            if paused:
                leases.release(c, claim.attempt_id)
            return paused

        found: bool = self.do(write)
        return found

    def settle(self, claim: Claim, value: float) -> None:
        self.do(lambda c: leases.settle(c, claim.attempt_id, Outcome.COMPLETE, value))

    def outcomes(self) -> list[tuple[str, float | None]]:
        rows = self.execute("SELECT outcome, value FROM hpo.trials ORDER BY ordinal")
        return [(row.outcome, row.value) for row in rows]


@pytest.mark.parametrize(
    ("stored", "budgets"), [((), (25,)), (((4, 2), (7, 3)), (25,)), ((), (1, 4, 10, 25))]
)
def test_claims_follow_the_rule_in_memory(
    database: Database, stored: tuple[tuple[int, int], ...], budgets: tuple[int, ...]
) -> None:
    """The same pauses, promotions and finalists, with equal scores and scores that are not finite among them.

    A study whose budget is raised goes on as if it had begun with it: its paused trials are open again.
    """
    study, draw = Frozen(database, budgets[0], rungs=stored), random.Random(1)
    if stored:
        study.rule = FreezeThaw(epochs=9, levels=levels_of(9, stored))
    ladder = Ladder(study.rule)
    agent, complete = study.agent(), 0
    reservations: list[int] = []
    reached: dict[int, int] = {}
    for size in budgets:
        study.do(lambda c: budget.set_budget(c, 1, size))  # noqa: B023
        assert study.do(lambda c: pauses.reopen(c, 1)) == len(ladder.paused())
        while isinstance(claim := study.claim(agent), Claim):
            expected = ladder.thaw()
            if expected is None and len(reservations) == size:
                expected = ladder.finish(complete)
            assert claim.fresh is (expected is None)
            if expected is None:
                reservations.append(claim.reservation_id)
            else:
                assert claim.reservation_id == reservations[expected]
            number = reservations.index(claim.reservation_id)
            for rung in (*study.rule.rungs, study.rule.epochs):
                value = draw.choice((0.1, 0.2, 0.3, 0.4, math.nan))
                if rung <= reached.get(number, 0):
                    continue
                reached[number] = rung
                if rung == study.rule.epochs:
                    study.settle(claim, value)
                    complete += 1
                elif study.reach(claim, rung, value):
                    assert not ladder.report(number, rung, value)
                    break
                else:
                    assert ladder.report(number, rung, value)
        assert claim is NoWork.DONE
        assert ladder.finish(complete) is None
        outcomes = [outcome for outcome, _ in study.outcomes()]
        assert (outcomes.count("complete"), outcomes.count("pruned")) == (complete, size - complete)


@pytest.mark.parametrize(
    ("rule", "direction", "values"),
    [
        ("last", "minimize", [0.5, 0.4, None]),
        ("best", "minimize", [0.3, 0.4, 0.1]),
        ("best", "maximize", [0.5, 0.4, 0.1]),
    ],
)
def test_trial_that_never_goes_on_has_its_value_so_far(
    database: Database, rule: str, direction: str, values: list[float | None]
) -> None:
    study = Frozen(database, 3, value=rule, direction=direction)
    agent = study.agent()
    for slot, losses in enumerate(((0.3, 0.5), (0.4, 0.4), (0.1, math.nan))):
        claim = study.claim(agent, slot)
        assert isinstance(claim, Claim)
        epochs = [(epoch, {"loss": loss}, 0.1) for epoch, loss in enumerate(losses, 1)]
        study.do(lambda c, a=claim.attempt_id, e=epochs: attempts.record(c, a, e))
        study.do(lambda c, a=claim.attempt_id: rungs.judge(c, a, RULE, {1: 0.5}))
        study.do(lambda c, a=claim.attempt_id: leases.release(c, a))
    study.do(lambda c: pauses.end(c, 1))
    assert study.outcomes() == [("pruned", value) for value in values]


def test_trials_that_never_go_on_end_in_optuna_as_if_each_was_told(database: Database) -> None:
    rows = StudyRows(database)
    reports = ({}, {1: 0.5, 2: 0.25}, {1: 0.5, 2: math.nan}, {1: math.inf}, {1: -math.inf}, {2: 0.75})
    trials = [rows.study.ask() for _ in range(2) for _ in reports]
    for trial, values in zip(trials, (*reports, *reports), strict=True):
        for step, value in values.items():
            trial.report(value, step)
    told, ours = trials[: len(reports)], trials[len(reports) :]
    # Another program has closed the last one.
    for trial in (*told, ours[-1]):
        rows.study.tell(trial, state=TrialState.PRUNED)
    for trial in ours:
        rows.trial(trial_id=trial._trial_id, paused_epoch=1, paused_score=0.5)
    database.transaction(lambda c: pauses.end(c, rows.study_id))

    ended = [(trial.state, trial.values, trial.datetime_complete) for trial in rows.study.get_trials()]
    assert [end[:2] for end in ended[len(told) :]] == [end[:2] for end in ended[: len(told)]]
    assert all(end[2] >= ended[0][2] for end in ended)
    decided = database.transaction(
        lambda c: c.execute(text("SELECT DISTINCT outcome, told_optuna, decided_at FROM hpo.trials")).all()
    )
    # One time of the decision for all: to read it for each takes a time that is quadratic in the trials.
    assert [(row.outcome, row.told_optuna) for row in decided] == [("pruned", True)]


def test_reopened_trial_is_told_by_an_agent_that_has_seen_it_closed(database: Database) -> None:
    """Optuna's cache never reads a closed trial again."""
    rows = StudyRows(database, spec=make_spec(SPACE, epochs=9, pruner=NAME, sampler="tpe"), budget=2)
    going_on, killed, waiting = (rows.study.ask() for _ in range(3))
    for trial in (going_on, killed, waiting):
        trial.report(0.5, 1)
    paused = {"paused_epoch": 1, "paused_score": 0.5}
    first = rows.trial(trial_id=going_on._trial_id, **paused)
    rows.trial("pruned", error="ended by hpo kill", trial_id=killed._trial_id, told_optuna=True)
    rows.trial(trial_id=waiting._trial_id, **paused)
    rows.study.tell(killed, state=TrialState.PRUNED)
    database.transaction(lambda c: pauses.end(c, rows.study_id))
    spec = make_spec(SPACE, epochs=9, pruner=NAME, sampler="tpe")
    search = Search(rows.study_id, spec, database.optuna)
    search.take_over(going_on._trial_id)
    assert database.transaction(lambda c: pauses.reopen(c, rows.study_id)) == 0, "the budget is spent"

    rows.set(budget=4)
    assert database.transaction(lambda c: pauses.reopen(c, rows.study_id)) == 2
    database.transaction(lambda c: pauses.thaw(c, first))
    search.take_over(going_on._trial_id)
    search.tell(going_on._trial_id, going_on.number, Outcome.COMPLETE, 0.25)
    fresh = optuna.load_study(
        study_name=rows.name, storage=database.optuna._backend.engine.url.render_as_string(False)
    )
    assert [(trial.state.name, trial.values) for trial in fresh.get_trials()] == [
        ("COMPLETE", [0.25]),
        ("PRUNED", [0.5]),
        ("RUNNING", None),
    ]
    assert [trial.datetime_complete is None for trial in fresh.get_trials()] == [False, False, True]


def test_trial_that_ended_by_itself_while_it_was_paused_stays_ended(database: Database) -> None:
    study = Frozen(database, 3)
    claim = study.claim(study.agent())
    assert isinstance(claim, Claim)
    assert study.do(lambda c: rungs.judge(c, claim.attempt_id, RULE, {1: 0.5}))
    study.do(lambda c: leases.settle(c, claim.attempt_id, Outcome.PRUNED, 0.5))
    assert study.do(lambda c: pauses.reopen(c, 1)) == 0
    assert study.outcomes() == [("pruned", 0.5)]


@pytest.mark.parametrize(("scores", "completes"), [((0.5, 0.4), True), ((math.nan, math.nan), False)])
def test_repeats_begin_once_a_paused_trial_is_complete(
    database: Database, scores: tuple[float, float], completes: bool
) -> None:
    """There is nothing to repeat without a complete trial; where none can become complete, the search goes on."""
    study = Frozen(database, 4, repeats=2)
    agent = study.agent()
    for score in scores:
        claim = study.claim(agent)
        assert isinstance(claim, Claim)
        assert claim.fresh
        assert study.reach(claim, 1, score)
    claim = study.claim(agent)
    assert isinstance(claim, Claim)
    assert claim.fresh is not completes
    if completes:
        assert claim.ordinal == 1
        for rung in RULE.rungs[1:]:
            if study.reach(claim, rung, 0.4):
                claim = study.claim(agent)
                assert isinstance(claim, Claim)
                assert (claim.fresh, claim.ordinal) == (False, 1)
        study.settle(claim, 0.4)
        repeat = study.claim(agent)
        assert isinstance(repeat, Claim)
        assert repeat.fresh


def test_repeats_of_an_extended_study_go_on_without_a_comparison(database: Database) -> None:
    rows = StudyRows(database, spec=make_spec(SPACE, epochs=9, pruner=NAME, sampler="tpe"), budget=2)
    for repeated in (False, True):
        trial = rows.study.ask()
        if repeated:
            trial.set_user_attr(repeats.ATTRIBUTE, 0)
        rows.study.tell(trial, 0.5)
        rows.trial("complete", 0.5, completed=9, trial_id=trial._trial_id, told_optuna=True)
    for found in (2, 0):
        assert database.transaction(lambda c: pauses.extend(c, rows.study_id, 9)) == found
    query = "SELECT outcome, paused_epoch, paused_score, value FROM hpo.trials ORDER BY number"
    assert [tuple(row) for row in database.transaction(lambda c: c.execute(text(query)).all())] == [
        (None, 9, 0.5, None),
        (None, None, None, None),
    ]
    counts = database.transaction(lambda c: budget.count(c, rows.study_id))
    assert (counts.paused, counts.waiting, counts.finished) == (1, 1, 0)
    states = "SELECT DISTINCT state, (SELECT count(*) FROM public.trial_values) AS number FROM public.trials"
    assert database.transaction(lambda c: c.execute(text(states)).all()) == [("RUNNING", 0)]
    # A complete repeat is no reason to end the trial that it repeats.
    ended = "UPDATE hpo.trials SET outcome = 'complete', value = 0.5 WHERE paused_epoch IS NULL"
    database.transaction(lambda c: c.execute(text(ended)))
    counts = database.transaction(lambda c: budget.count(c, rows.study_id))
    extended = FreezeThaw(epochs=18, levels=levels_of(18, [(9, 3)]))
    thawed = database.transaction(lambda c: by_rank(c, rows.study_id, counts, extended, "here"))
    first = "SELECT reservation_id FROM hpo.trials ORDER BY number LIMIT 1"
    assert counts.complete == 1
    assert thawed == database.transaction(lambda c: c.execute(text(first)).scalar_one())


def test_trials_that_may_be_of_the_best_third_at_the_end_are_kept(database: Database) -> None:
    """A sweep in the midst of a search removes the checkpoints of no trial that `--epochs` would let go on later."""
    study = Frozen(database, 7, takes_restarts=True)
    agent, kept = study.agent(), []
    for value in (3.0, 1.0, 2.0, 5.0, 6.0, 4.0, 7.0):
        claim = study.claim(agent)
        assert isinstance(claim, Claim)
        study.settle(claim, value)
        kept.append(study.do(lambda c: reservations.open_reservations(c, 1)).kept)
    # By ordinal: a trial that follows can only push others out.
    assert kept == [(1,), (1, 2), (3, 2), (3, 2), (3, 2), (3, 2), (3, 2)]


def test_goal_ends_a_study_whatever_is_paused(database: Database) -> None:
    study = Frozen(database, 9, target=0.25)
    agent = study.agent()
    for value in (0.5, 0.4, 0.6):
        claim = study.claim(agent)
        assert isinstance(claim, Claim)
        assert study.reach(claim, 1, value)
    claim = study.claim(agent)
    assert isinstance(claim, Claim)
    assert not claim.fresh
    study.settle(claim, 0.25)
    assert study.claim(agent) is NoWork.DONE
    assert study.outcomes() == [("pruned", 0.5), ("complete", 0.25), ("pruned", 0.6)]
    found = study.do(lambda c: goals.read(c, 1))
    assert (found.reached, found.best_value, found.trials_since_best) == ("target", 0.25, 0)


def test_paused_trials_go_on_after_all_of_a_finite_space_have_begun(database: Database) -> None:
    study = Frozen(database, 9, configurations=3)
    agent = study.agent()
    for value in (0.5, 0.4, 0.6):
        claim = study.claim(agent)
        assert isinstance(claim, Claim)
        study.execute(
            "UPDATE hpo.trials SET params = CAST(:p AS json) WHERE params IS NULL", p=f'{{"x": {value}}}'
        )
        assert study.reach(claim, 1, value)
    claim = study.claim(agent)
    assert isinstance(claim, Claim)
    assert not claim.fresh
    study.settle(claim, 0.3)
    assert study.claim(agent) is NoWork.DONE
    assert study.outcomes() == [("pruned", 0.5), ("complete", 0.3), ("pruned", 0.6)]


def test_trial_goes_on_where_its_checkpoint_is(database: Database) -> None:
    study = Frozen(database, 7)
    here, there = study.agent(), study.agent("there")
    running = study.claim(here, 9)
    for agent, host, values in ((there, "there", (0.2, 0.7, 0.8)), (here, "here", (0.4, 0.5, 0.6))):
        held = [study.claim(agent, slot, host) for slot in range(3)]
        for claim, value in zip(held, values, strict=True):
            assert isinstance(claim, Claim)
            assert claim.fresh
            study.do(lambda c, a=claim.attempt_id, v=value: rungs.judge(c, a, RULE, {1: v}))
        for claim in held:
            assert isinstance(claim, Claim)
            # As if all had reached the rung at once.
            study.execute(
                "UPDATE hpo.trials t SET paused_epoch = 1, paused_score = r.score FROM hpo.rungs r"
                " WHERE r.reservation_id = t.reservation_id AND t.reservation_id = :t",
                t=claim.reservation_id,
            )
            study.do(lambda c, a=claim.attempt_id: leases.release(c, a))

    def score(claim: Claim | NoWork) -> float | None:
        assert isinstance(claim, Claim)
        found: float | None = study.execute(
            "SELECT score FROM hpo.rungs WHERE reservation_id = :t", t=claim.reservation_id
        ).scalar_one_or_none()
        return found

    # Of six, 0.2 and 0.4 go on.
    assert score(study.claim(here, 0)) == 0.4
    assert isinstance(running, Claim)
    study.execute("UPDATE hpo.studies SET budget = 8")
    assert score(study.claim(here, 1)) is None, "a new configuration, because the other host has an agent"
    study.execute("UPDATE hpo.agents SET ended_at = clock_timestamp() WHERE host = 'there'")
    assert score(study.claim(here, 2)) == 0.2
