"""Conformance tests of trial stores: the real one and the fake of the unit tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from optuna.trial import TrialState

from hpo.agent.store.testing.study import FakeStudy
from hpo.agent.store.testing.trial_store import FakeTrialStore
from hpo.agent.store.trial_store import TrialStore
from hpo.outcomes import Outcome
from hpo.search.spec import StudySpec
from storage.attempts import NEXT, LeaseLostError
from storage.budget import Rejections
from storage.claiming.claims import Claim, NoWork
from storage.engine import Database
from storage.reservations import OpenReservations
from tests.integration.stores import StoredStudy, begun, claimed, report
from tests.specs import spec

SPEC = spec(max_lost=2)
BUDGET = 2


@dataclass
class Backend:
    """A study, with functions that open its agents' stores, expire its leases and set its state."""

    open: Callable[[], TrialStore]
    expire_leases: Callable[[], object]
    set_state: Callable[[str], object]


@pytest.fixture(params=["fake", "postgresql"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return _backend(request, SPEC, BUDGET)


@pytest.fixture(params=["fake", "postgresql"])
def frozen(request: pytest.FixtureRequest) -> Backend:
    """A study of four trials with freeze-thaw, whose rungs are epochs 1 and 3."""
    return _backend(request, replace(SPEC, pruner="freeze-thaw", epochs=9), 4)


def _backend(request: pytest.FixtureRequest, spec: StudySpec, budget: int) -> Backend:
    if request.param == "fake":
        study = FakeStudy(spec=spec, budget=budget)
        return Backend(
            lambda: FakeTrialStore(study),  # type: ignore[return-value,arg-type]
            study.expire_leases,
            lambda state: setattr(study, "desired_state", state),
        )
    stored = StoredStudy(request.getfixturevalue("database"), spec, budget)
    return Backend(stored.agent, stored.expire_leases, stored.set_state)


def test_budget_is_reserved_and_settled_once(backend: Backend) -> None:
    store = backend.open()
    first, second = claimed(store, 0), claimed(store, 1)
    assert (first.fresh, second.fresh, first.reservation_id != second.reservation_id) == (True, True, True)
    assert store.claim(2, "cpu") is NoWork.ELSEWHERE
    for claim, loss in ((first, 0.5), (second, 0.25)):
        trial_id, number, params = store.sample(claim)
        assert float(params["x"]) >= 0.0
        store.begin(claim.attempt_id, 1, 0)
        assert report(store, claim, trial_id, loss) == {1: loss}
        store.settle(claim.attempt_id, Outcome.COMPLETE, loss)
        store.settle(claim.attempt_id, Outcome.COMPLETE, loss)
    assert store.claim(0, "cpu") is NoWork.DONE
    snapshot = store.refresh()
    assert (snapshot.counts.complete, snapshot.counts.running, snapshot.counts.left) == (2, 0, 0)
    assert snapshot.best is not None
    assert snapshot.best[:2] == (number, 0.25)


def test_claim_of_a_slot_can_be_repeated(backend: Backend) -> None:
    store = backend.open()
    first, again = claimed(store), claimed(store)
    assert (again.attempt_id, again.reservation_id, again.fresh) == (
        first.attempt_id,
        first.reservation_id,
        False,
    )


@pytest.mark.parametrize(("state", "reason"), [("pause", NoWork.PAUSED), ("stop", NoWork.STOPPED)])
def test_paused_or_stopped_study_has_no_claim(backend: Backend, state: str, reason: NoWork) -> None:
    backend.set_state(state)
    store = backend.open()
    assert store.claim(0, "cpu") is reason
    assert store.refresh().desired_state == state


@pytest.mark.usefixtures("thirds")
def test_trial_that_is_not_among_the_best_of_its_rung_pauses_until_it_is(frozen: Backend) -> None:
    store, other = frozen.open(), frozen.open()

    def reached(loss: float, epoch: int = 1) -> tuple[Claim, bool]:
        """Return the claim of the next trial, and whether it is paused with that loss after an epoch."""
        claim = claimed(store)
        trial_id, *_ = store.sample(claim)
        store.begin(claim.attempt_id, 1, epoch - 1)
        report(store, claim, trial_id, loss, epoch)
        paused = store.judgement.pauses(claim.attempt_id, {epoch: loss})
        assert store.judgement.pauses(claim.attempt_id, {epoch: loss}) is paused, "it can be repeated"
        return claim, paused

    _, paused = reached(0.5)
    assert paused
    assert other.claim(1, "cpu").fresh, "its trainer has not ended"  # type: ignore[union-attr]
    other.release(2)
    # A dead agent has lost nothing of a paused trial.
    frozen.expire_leases()
    other.reap_expired()
    assert (other.refresh().counts.paused, other.refresh().counts.waiting) == (1, 1)
    assert other.files.open_reservations().paused == (1,)
    second, paused = reached(0.3)
    assert (second.fresh, paused) == (False, True)
    store.release(second.attempt_id)
    third, paused = reached(0.4)
    assert (third.fresh, paused) == (True, True)
    store.release(third.attempt_id)

    thawed = claimed(other, 3)
    assert (thawed.reservation_id, thawed.fresh) == (second.reservation_id, False)
    assert not other.judgement.pauses(thawed.attempt_id, {1: 0.3}), "it has passed this rung"
    fourth = claimed(store)
    assert fourth.fresh, "of three, only one goes on"
    store.settle(fourth.attempt_id, Outcome.COMPLETE, 0.9)
    assert store.claim(0, "cpu") is NoWork.ELSEWHERE, "others may yet be among the best"
    other.settle(thawed.attempt_id, Outcome.COMPLETE, 0.2)
    assert store.claim(0, "cpu") is NoWork.DONE
    counts = store.refresh().counts
    assert (counts.complete, counts.pruned, counts.paused, counts.left) == (2, 2, 0, 0)


def test_released_trial_resumes_with_its_parameters(backend: Backend) -> None:
    store, other = backend.open(), backend.open()
    claim = claimed(store)
    sampled = store.sample(claim)
    store.release(claim.attempt_id)
    again = claimed(other)
    assert (again.reservation_id, again.fresh) == (claim.reservation_id, False)
    assert other.sample(again) == sampled


def test_report_is_valid_until_another_attempt_trains_the_epoch_again(backend: Backend) -> None:
    store = backend.open()
    claim, trial_id = begun(store)
    assert report(store, claim, trial_id) == {1: 0.5}
    assert report(store, claim, trial_id, 9.0) == {1: 0.5}, "a repeated write changes nothing"
    store.release(claim.attempt_id)
    again = claimed(store)
    store.begin(again.attempt_id, 2, 1)
    assert report(store, again, trial_id, 9.0) == {1: 9.0}, "it resumed another checkpoint"


def test_expired_attempt_is_fenced_from_every_write(backend: Backend) -> None:
    store, other = backend.open(), backend.open()
    claim, trial_id = begun(store)
    backend.expire_leases()
    store.reap_expired()
    store.check_held(claim.attempt_id)
    other.reap_expired()
    for write in (
        lambda: store.begin(claim.attempt_id, 1, 0),
        lambda: store.assign_slot(claim.attempt_id, 0, "cpu"),
        lambda: report(store, claim, trial_id),
        lambda: store.settle(claim.attempt_id, Outcome.COMPLETE, 0.5),
        lambda: store.check_held(claim.attempt_id),
        lambda: store.files.while_held(claim.attempt_id, lambda: pytest.fail("not held")),
    ):
        with pytest.raises(LeaseLostError) as lost:
            write()
        assert lost.type is LeaseLostError, "no other program closed the trial"
    # These have no effect and raise no error.
    store.lose(claim.attempt_id, "late")
    store.release(claim.attempt_id)
    again = claimed(other)
    assert again.reservation_id == claim.reservation_id
    assert other.sample(again)[0] == trial_id
    other.begin(again.attempt_id, 1, 0)
    assert report(other, again, trial_id, 0.25) == {1: 0.25}
    other.settle(again.attempt_id, Outcome.COMPLETE, 0.25)
    best = other.refresh().best
    assert best is not None
    assert best[1] == 0.25


@pytest.mark.parametrize(
    ("kinds", "outcome"),
    [
        ([Outcome.LOST, Outcome.LOST], Outcome.LOST),
        ([Outcome.HUNG, Outcome.HUNG], Outcome.HUNG),
        ([Outcome.HUNG, Outcome.LOST], Outcome.LOST),
    ],
)
def test_trial_lost_too_often_fails(backend: Backend, kinds: list[Outcome], outcome: Outcome) -> None:
    store = backend.open()
    reservations = set()
    for kind in kinds:
        claim, _ = begun(store)
        reservations.add(claim.reservation_id)
        store.lose(claim.attempt_id, "its process was ended by SIGKILL", kind)
    assert len(reservations) == 1
    counts, failures = store.failures(10)
    assert (counts.failed, counts.failing, counts.left) == (1, 1, BUDGET)
    assert [failure.outcome for failure in failures] == [outcome]
    assert failures[0].error == "lost 2 times, the last time: its process was ended by SIGKILL"


def test_out_of_memory_each_time_counts_towards_the_budget(backend: Backend) -> None:
    store = backend.open()
    for _ in range(2):
        claim, _ = begun(store)
        store.lose(claim.attempt_id, "the kernel killed it", Outcome.OUT_OF_MEMORY)
    assert store.refresh().counts.finished == 1


def test_idle_agent_takes_a_prefetched_trial(backend: Backend) -> None:
    store, other = backend.open(), backend.open()
    begun(store)
    prefetched = claimed(store, 1, NEXT)
    sampled = store.sample(prefetched)
    taken = claimed(other)
    assert (taken.reservation_id, taken.untrained) == (prefetched.reservation_id, True)
    assert other.sample(taken) == sampled
    with pytest.raises(LeaseLostError):
        store.assign_slot(prefetched.attempt_id, 0, "cpu")


def test_prefetched_trial_in_a_slot_is_not_taken(backend: Backend) -> None:
    store, other = backend.open(), backend.open()
    begun(store)
    prefetched = claimed(store, 1, NEXT)
    store.sample(prefetched)
    store.assign_slot(prefetched.attempt_id, 1, "cpu")
    assert other.claim(0, "cpu") is NoWork.ELSEWHERE


def test_files_of_a_trial_are_touched_only_while_no_agent_holds_it(backend: Backend) -> None:
    store = backend.open()
    claim, _ = begun(store)
    touched: list[str] = []
    assert not store.files.while_waiting(claim.reservation_id, lambda: touched.append("held"))
    assert store.files.open_reservations() == OpenReservations(running=frozenset({claim.reservation_id}))
    store.files.while_held(claim.attempt_id, lambda: touched.append("ours"))
    store.release(claim.attempt_id)
    assert store.files.while_waiting(claim.reservation_id, lambda: touched.append("waiting"))
    assert store.files.open_reservations() == OpenReservations(waiting=frozenset({claim.reservation_id}))
    assert touched == ["ours", "waiting"]
    ended: list[int] = []
    store.files.while_ended([claim.reservation_id, 10**6], ended.extend)
    assert ended == [10**6], "a trial that waits is open"


def test_log_is_orphaned_once_its_attempt_and_agent_have_ended(backend: Backend) -> None:
    store, other = backend.open(), backend.open()
    claim = claimed(store)
    _, number, _ = store.sample(claim)
    assert other.files.orphaned_logs([claim.attempt_id], 60.0) == {(number, claim.attempt_id): False}
    store.leave()
    assert other.files.orphaned_logs([claim.attempt_id, 10**6], 60.0) == {(number, claim.attempt_id): True}
    assert other.refresh().counts.running == 0


def test_data_that_differ_from_those_of_another_agent_are_reported(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    study = StoredStudy(database, SPEC, BUDGET)
    study.agent().note_data("/a/mine.npz: 90 training images, digest aa")
    same, other = study.agent(), study.agent()
    same.note_data("/b/mine.npz: 90 training images, digest aa")
    assert not caplog.messages
    for _ in range(2):
        other.note_data("/b/mine.npz: 90 training images, digest bb")
    (message,) = caplog.messages
    assert "has loaded for this study (digest aa there, bb here): trials may not be comparable" in message


@pytest.fixture(params=["fake", "postgresql"])
def bounded(request: pytest.FixtureRequest) -> Backend:
    """A study of two trials with constraints."""
    return _backend(request, replace(SPEC, constraints=("parameters<=10", "loss<=1")), 2)


def test_figures_of_a_trial_are_kept_once(bounded: Backend) -> None:
    store = bounded.open()
    claim, trial_id = begun(store)
    store.measure(claim.attempt_id, {"parameters": 9.0})
    store.measure(claim.attempt_id, {"parameters": 8.0})
    report(store, claim, trial_id, 0.5)
    report(store, claim, trial_id, 2.0, 2)
    assert store.figures_of_epochs(claim.attempt_id, 1, ["parameters"]) == {"loss": 0.5}
    assert store.figures_of_epochs(claim.attempt_id, 2, []) == {"loss": 2.0}
    bounded.expire_leases()
    bounded.open().reap_expired()
    with pytest.raises(LeaseLostError):
        store.measure(claim.attempt_id, {"loss": 0.0})


def test_rejected_configurations_do_not_count_and_are_counted_in_a_row(bounded: Backend) -> None:
    store = bounded.open()
    for _ in range(3):
        claim, _ = begun(store)
        store.settle(claim.attempt_id, Outcome.REJECTED, None, "too large")
    counts = store.refresh().counts
    assert (counts.rejected, counts.finished, counts.failed, counts.begun, counts.left) == (3, 0, 0, 0, 2)
    assert store.rejections() == Rejections(number=3, reason="too large", alike=True)
    claim, _ = begun(store)
    store.settle(claim.attempt_id, Outcome.INFEASIBLE, 2.0, "violates")
    assert store.rejections() == Rejections(number=0, reason="", alike=False)
    for reason in ("too large", "too large again"):
        claim, _ = begun(store)
        store.settle(claim.attempt_id, Outcome.REJECTED, None, reason)
    assert store.rejections() == Rejections(number=2, reason="too large again", alike=False)
    assert store.refresh().best is None


def test_sampler_sees_by_how_much_figures_violate_their_bounds(database: Database) -> None:
    study = StoredStudy(database, replace(SPEC, constraints=("parameters<=10", "loss<=1", "size>=4")), 2)
    store = study.agent()
    claim, trial_id = begun(store)
    store.measure(claim.attempt_id, {"parameters": 5.0, "size": 1.0})
    store.measure(claim.attempt_id, {"parameters": 6.0})
    for epoch, loss in ((1, 3.0), (2, float("nan"))):
        report(store, claim, trial_id, loss, epoch)
        store.figures_of_epochs(claim.attempt_id, epoch, ["parameters", "size"])
    store.settle(claim.attempt_id, Outcome.INFEASIBLE, None, "violates")
    (trial,) = study.optuna.trials
    figures = {name: value for name, value in trial.user_attrs.items() if name.startswith("hpo_figure_")}
    assert figures == {"hpo_figure_parameters": 5.0, "hpo_figure_size": 1.0, "hpo_figure_loss": 3.0}
    assert trial.constraints == {"parameters<=10": -0.5, "size>=4": 0.75, "loss<=1": 1e9}
    assert trial.state is TrialState.PRUNED
