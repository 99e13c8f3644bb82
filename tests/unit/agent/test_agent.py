"""The loop of an agent on a pool and a store without processes or a database."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpo.agent.store.testing.trial_store import FakeTrialStore
from hpo.outcomes import Outcome
from hpo.process.shutdown import ExitCode
from hpo.trainer.ends.exits import Event
from hpo.trainer.messages import Command, Epoch, EpochRecord, Finished, Start, Started, Tick
from hpo.trainer.testing import FakePool, trained
from storage.attempts import NEXT
from storage.claiming.claims import Claim
from tests.specs import spec
from tests.unit.agent.world import CRASHED, KILLED, World, epoch, events


def test_agent_trains_until_the_budget_is_spent(world: World) -> None:
    world.study.budget, world.pool = 5, FakePool(slots=2, versions={"data": "digits: 9 images"})
    assert world.run() is ExitCode.DONE
    assert world.outcomes == [Outcome.COMPLETE] * 5
    assert [end.value for end in world.progress.ended] == [0.5] * 5
    assert all(attempt is not None for attempt in world.attempts)
    assert world.progress.views[-1].counts.complete == 5
    assert world.study.data == "digits: 9 images"


def test_pruner_ends_a_trial_after_its_epoch(world: World) -> None:
    world.study.prunes = lambda number, epoch: number == 0 and epoch == 1
    world.study.budget = 2
    world.run()
    assert world.outcomes == [Outcome.PRUNED, Outcome.COMPLETE]
    assert (0, Command.PRUNE) in world.pool.sent
    assert world.study.trials[0].value == 1.0


@pytest.mark.parametrize(("pruner", "waits"), [("none", False), ("median", True)])
def test_trainer_waits_for_each_answer_where_a_pruner_judges(world: World, pruner: str, waits: bool) -> None:
    world.study.spec = spec(pruner=pruner)
    world.store = FakeTrialStore(world.study)
    world.run()
    assert [start.ahead == 0 for start in world.pool.starts] == [waits]


def test_timeout_stops_the_agent_with_exit_code_zero(world: World) -> None:
    world.study.budget = 10**6
    assert world.run(timeout=0.05) is ExitCode.DONE
    assert world.study.desired_state == "run"
    assert world.attempts[-1] in (Outcome.RELEASED, Outcome.COMPLETE)


def test_timeout_counts_from_the_end_of_loading(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, skipped = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + skipped[0])
    world.pool.ready = False
    world.study.budget = 3

    def load() -> None:
        world.pool.ready, skipped[0] = True, 100.0

    world.after(2, load)
    assert world.run(timeout=60.0) is ExitCode.DONE
    assert world.outcomes == [Outcome.COMPLETE] * 3


def test_paused_study_holds_its_trials_until_it_is_resumed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, skipped = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + skipped[0])
    steps = {2: "pause", 6: "run"}
    count = 0

    def on_wait() -> None:
        nonlocal count
        count += 1
        world.study.desired_state = steps.get(count, world.study.desired_state)

        if count == 5:
            held.extend(attempt.held for attempt in world.study.attempts)
            skipped[0] = 7200.0

    held: list[bool] = []
    world.pool.on_wait = on_wait
    assert world.run(hung_seconds=3.0) is ExitCode.DONE
    assert held == [True]
    assert not world.study.attempts[0].held
    assert world.progress.ended[0].seconds < 3600
    commands = [message for _, message in world.pool.sent if isinstance(message, Command)]
    assert commands == [Command.PAUSE, Command.RESUME]
    assert world.attempts == [Outcome.COMPLETE]


def test_first_trial_and_each_better_one_are_a_new_best(world: World) -> None:
    world.study.budget = 4
    world.pool.scripts = [lambda start, loss=loss: trained(start, loss=loss) for loss in (0.5, 0.7, 0.3, 0.3)]
    world.run()
    assert [end.new_best for end in world.progress.ended] == [True, False, True, False]


LOSSES = (0.5, 0.25, 0.75)


@pytest.mark.parametrize("outcome", [Outcome.COMPLETE, Outcome.PRUNED])
@pytest.mark.parametrize(("rule", "value"), [("last", 0.75), ("best", 0.25)])
def test_value_of_a_trial_is_its_last_or_best_one(
    world: World, rule: str, value: float, outcome: Outcome
) -> None:
    world.study.spec.__dict__.update(value=rule, epochs=9)
    reports = [epoch(number, loss) for number, loss in enumerate(LOSSES, 1)]
    world.pool.scripts = [events(Started(1, 0), *reports, Finished(outcome))]
    world.run()
    assert (world.outcomes, world.study.trials[0].value) == ([outcome], value)


def test_best_value_of_an_earlier_attempt_counts(world: World) -> None:
    world.study.spec.__dict__.update(value="best", epochs=3)
    history = tuple(epoch(number, loss).record for number, loss in enumerate(LOSSES[:2], 1))
    world.pool.scripts = [
        events(Started(1, 0), *map(Epoch, history), KILLED),
        events(Started(2, 2, history), epoch(3, 0.75), Finished(Outcome.COMPLETE)),
    ]
    world.run()
    assert world.study.trials[0].value == 0.25


def test_best_value_does_not_hide_a_non_finite_end(world: World) -> None:
    world.study.spec.__dict__.update(value="best")
    world.pool.scripts = [
        events(Started(1, 0), epoch(1, 0.5), epoch(2, float("nan")), Finished(Outcome.COMPLETE))
    ]
    world.run()
    assert (world.outcomes, world.study.trials[0].value) == ([Outcome.DIVERGED], None)


def ticking(_: Start) -> list[Event]:
    return [Started(1, 0), epoch(1, 0.25), *(Tick(2, 0.5, 0.0) for _ in range(10**4))]


def test_trial_that_ticks_for_ever_times_out_with_its_last_value(world: World, monkeypatch) -> None:
    real, skipped = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + skipped[0])
    world.study.spec.__dict__.update(trial_timeout_seconds=600.0)
    world.study.budget = 2
    world.pool.scripts = [ticking]
    waits = 0

    def on_wait() -> None:
        nonlocal waits
        waits += 1
        if waits >= 6:
            # Not at once: an agent that was stopped so long would not count it.
            skipped[0] += 4.0
        if waits == 6:
            # A real trainer ticks once a second: most listens read nothing.
            world.pool._trainers[0].paused = True

    world.pool.on_wait = on_wait
    assert world.run(hung_seconds=10**6) is ExitCode.DONE
    assert world.outcomes == [Outcome.TIMED_OUT, Outcome.COMPLETE]
    assert world.pool.killed == [0]
    first = world.study.trials[0]
    assert (first.value, first.error) == (0.25, "it trained for more than 10m00s (--trial-timeout)")


def test_epochs_of_earlier_attempts_count_towards_the_time_limit(world: World) -> None:
    world.study.spec.__dict__.update(trial_timeout_seconds=600.0, epochs=3)
    history = (EpochRecord(1, {"loss": 0.5}, 500.0),)
    second = Epoch(EpochRecord(2, {"loss": 0.4}, 100.0))
    world.pool.scripts = [events(Started(1, 1, history), second, epoch(3), Finished(Outcome.COMPLETE))]
    world.run()
    assert (world.outcomes, world.pool.killed) == ([Outcome.TIMED_OUT], [0])
    assert world.study.trials[0].value == 0.4


def test_trial_that_finished_while_the_agent_waited_is_not_timed_out(world: World, monkeypatch) -> None:
    real, skipped = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + skipped[0])
    world.study.spec.__dict__.update(trial_timeout_seconds=600.0)
    # The database was unreachable for longer than the limit, and the trainer went on.
    world.after(2, lambda: skipped.__setitem__(0, 10**4))
    world.run(hung_seconds=10**6)
    assert world.outcomes == [Outcome.COMPLETE]


def test_short_trials_are_prefetched_and_fill_slots_at_once(world: World) -> None:
    world.study.budget = 6
    world.after(4, world.finish_first)
    assert world.prefetching_agent().run() is ExitCode.DONE
    assert world.outcomes == [Outcome.COMPLETE] * 6
    assert all(attempt.device != NEXT for attempt in world.study.attempts)


def test_answer_to_a_trial_that_has_ended_does_not_reach_the_next_one_in_its_slot(world: World) -> None:
    world.study.budget = 2
    world.study.spec = replace(world.study.spec, epochs=4)
    world.store = FakeTrialStore(world.study)
    world.study.prunes = lambda number, epoch: number == 0 and epoch == 3
    agent = world.prefetching_agent()

    def finish_at_once() -> None:
        # The database did not answer for a while, and the trainer went on to the end.
        world.pool.burst = 100
        world.finish_first()
        world.after(1, lambda: setattr(world.pool, "burst", 1))

    world.after(4, finish_at_once)
    assert agent.run() is ExitCode.DONE
    assert world.outcomes == [Outcome.COMPLETE] * 2


@pytest.mark.parametrize(
    ("sampler", "slots", "prefetches"),
    [("random", 1, True), ("qmc", 1, True), ("tpe", 1, False), ("cmaes", 1, False), ("tpe", 2, True)],
)
def test_lone_slot_prefetches_nothing_that_depends_on_the_running_trial(
    world: World, sampler: str, slots: int, prefetches: bool
) -> None:
    world.study.budget, world.pool = 6, FakePool(slots=slots)
    world.study.spec = replace(world.study.spec, sampler=sampler)
    prefetched: list[bool] = []

    def look() -> None:
        prefetched.append(any(attempt.device == NEXT for attempt in world.study.attempts))
        for slot, start in enumerate(world.pool.starts):
            world.pool._trainers[slot].events = trained(start)[1:]

    world.after(5, look)
    agent = world.prefetching_agent()
    world.pool.scripts *= slots
    assert agent.run() is ExitCode.DONE
    assert prefetched == [prefetches]
    assert world.outcomes == [Outcome.COMPLETE] * 6


@pytest.mark.parametrize(
    ("slots", "most", "trained_in_all"), [(1, 5, 5), (2, 5, (5, 6)), (1, 12, 12), (1, 1, 1)]
)
def test_search_stops_once_its_epochs_are_trained_and_goes_on_with_more(
    world: World, slots: int, most: int, trained_in_all: object
) -> None:
    world.study.budget, world.pool = 4, FakePool(slots=slots)
    world.study.spec = replace(world.study.spec, max_epochs=most, epochs=3)
    world.store = FakeTrialStore(world.study)
    assert world.run() is ExitCode.DONE
    epochs = sum(len(trial.epochs) for trial in world.study.trials)
    assert epochs in (trained_in_all if isinstance(trained_in_all, tuple) else (trained_in_all,))
    assert not any(attempt.open for attempt in world.study.attempts)
    assert world.outcomes.count(Outcome.COMPLETE) == sum(
        len(trial.epochs) == 3 for trial in world.study.trials
    )


def test_lone_slot_resumes_a_lost_trial_before_the_prefetched_one(world: World) -> None:
    world.study.budget = 3

    def crash() -> None:
        world.pool._trainers[0].events = [CRASHED]

    world.after(4, crash)
    assert world.prefetching_agent().run() is ExitCode.DONE
    assert [start.number for start in world.pool.starts] == [0, 0, 1, 2]


def test_prefetched_trial_taken_by_an_idle_agent_is_not_trained_twice(world: World) -> None:
    world.study.budget = 2
    agent, other = world.prefetching_agent(), FakeTrialStore(world.study)
    taken: list[Claim] = []

    def take() -> None:
        claim = other.claim(0, "cpu")
        assert isinstance(claim, Claim)
        taken.append(claim)
        other.settle(claim.attempt_id, Outcome.COMPLETE, 0.1)
        world.finish_first()

    world.after(4, take)
    assert agent.run() is ExitCode.DONE
    assert len(taken) == 1
    assert world.outcomes == [Outcome.COMPLETE] * 2
    assert world.study.trials[1].value == 0.1


def test_log_of_an_attempt_is_uploaded_at_its_end(world: World) -> None:
    def printing(start: Start) -> list[Event]:
        Path(start.log).parent.mkdir(parents=True, exist_ok=True)
        Path(start.log).write_text("printed")
        return trained(start)

    world.pool.scripts = [printing]
    world.run()
    assert world.study.logs == {1: "printed"}
    assert list((world.folder / "logs").iterdir()) == []
