"""The rules of a run hold by hand and in the service: calls that it refuses, and where an interrupted run resumes."""

from __future__ import annotations

import math
import re
from collections import namedtuple
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from hpo.trainer.pipe import TrainerPipe
from hpo.trainer.run import TrainerRun
from hpo.trainer.testing import start_message
from objectives.base import Objective, Params, Run
from objectives.checked_run import CheckedRun
from objectives.errors import DivergedError, MetricMissingError
from objectives.local_run import LocalRun
from objectives.states import copy_state
from objectives.values import ValueRefusedError
from tests.odd_values import ODD

EPOCHS = 7


class Runs:
    """Runs of one trial, each of which resumes the one before."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.last: LocalRun | None = None
        self.pipes: list[Connection] = []

    def resume(self) -> CheckedRun:
        if self.folder is None:
            self.last = LocalRun(total_epochs=EPOCHS, resume=self.last.checkpoint if self.last else None)
            return self.last
        self.pipes += Pipe()
        start = start_message(epochs=EPOCHS, checkpoints=str(self.folder), reply_seconds=0.0)
        return TrainerRun(TrainerPipe(self.pipes[-1]), start)


@pytest.fixture(params=["by hand", "service"])
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path / "trial" if request.param == "service" else None)
    yield runs
    for connection in runs.pipes:
        connection.close()


def objective(train: Callable[[Params, Run], None]) -> Objective:
    """Return an objective whose metric is `loss`."""
    return type("Made", (Objective,), {"train": lambda _self, params, run: train(params, run)})()


class Killed(BaseException):
    """The end of a process."""


def counting(saves: Callable[[int], str], killed_at: int, moment: str) -> Objective:
    """Count the epochs of training in the state; `saves` returns when an epoch's state is saved."""

    def train(_: Params, run: Run) -> None:
        trained = run.state["trained"] if run.state else np.zeros(1)
        for epoch in run.epochs():
            trained += 1
            when = saves(epoch)
            if "before" in when:
                run.save({"trained": trained})
            if epoch == killed_at and moment == "before":
                raise Killed
            run.report(loss=0.0, epoch=epoch, trained=float(trained[0]))
            assert trained[0] == epoch, "history and state belong together"
            if "after" in when:
                run.save({"trained": trained})
            if epoch == killed_at and moment == "after":
                raise Killed

    return objective(train)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("saves", "resumed_after"),
    [
        (lambda _: "before", {"before": 4, "after": 5}),
        (lambda _: "after", {"before": 4, "after": 5}),
        (lambda _: "before and after", {"before": 4, "after": 5}),
        (lambda _: "", {"before": 0, "after": 0}),
        (lambda epoch: "before" if epoch % 3 == 0 else "", {"before": 3, "after": 3}),
        (lambda epoch: "after" if epoch == 2 else "", {"before": 2, "after": 2}),
        (lambda epoch: "before" if epoch == 6 else "", {"before": 0, "after": 0}),
    ],
    ids=["before", "after", "both", "never", "every third", "once", "late"],
)
def test_interrupted_run_resumes_after_the_epoch_of_its_saved_state(
    runs: Runs, saves: Callable[[int], str], resumed_after: dict[str, int], moment: str
) -> None:
    with pytest.raises(Killed):
        counting(saves, 5, moment).train({}, runs.resume())
    again = runs.resume()
    assert again._completed == resumed_after[moment]
    assert (again.state is None) == (again._completed == 0)
    counting(saves, 0, "").train({}, again)
    assert again._completed == EPOCHS


def test_state_saved_before_the_first_epoch_or_after_the_last_is_kept(runs: Runs) -> None:
    run = runs.resume()
    run.save({"prepared": True})
    run = runs.resume()
    assert (run.state, next(iter(run.epochs()))) == ({"prepared": True}, 1)
    run = runs.resume()
    for _ in run.epochs():
        run.report(loss=0.0)
    run.save({"trained": EPOCHS})
    run = runs.resume()
    assert (run.state, list(run.epochs())) == ({"trained": EPOCHS}, [])


def test_state_that_a_run_has_resumed_is_not_replaced_before_its_loop(runs: Runs) -> None:
    run = runs.resume()
    next(iter(run.epochs()))
    run.report(loss=0.0)
    run.save({"trained": 1})
    runs.resume().save({"trained": 0})
    assert runs.resume().state == {"trained": 1}


def test_state_of_an_epoch_that_the_loop_left_unreported_is_not_kept(runs: Runs) -> None:
    run = runs.resume()
    for epoch in run.epochs():
        run.save({"trained": epoch})
        if epoch == 3:
            break
        run.report(loss=0.0)
    run.save({"trained": 3})
    assert runs.resume().state == {"trained": 2}


def test_saved_state_is_a_copy(runs: Runs) -> None:
    weights, rates, run = np.zeros(2), [0.5], runs.resume()
    next(iter(run.epochs()))
    run.save({"weights": weights, "rates": rates})
    weights += 1
    rates.append(0.25)
    run.report(loss=0.0)
    for _ in range(2):
        state = runs.resume().state
        assert state is not None
        assert (state["weights"].tolist(), state["rates"]) == ([0, 0], [0.5])
        state["weights"][:] = 9


STATES = [
    {"file": np.ones(2), "a/b": np.arange(3), "": np.array(3.5), "ä\x00\ud800": np.array(["x"])},
    {"number": 1, "flag": True, "none": None, "text": "ä\x00", "nested": {"a": [1, {"b": [0.5]}]}},
    {"half": np.float16(0.5), "count": np.int64(7), "yes": np.bool_(True), "name": np.str_("x")},
    {"infinite": math.inf, "__header__": np.ones(1), "allow_pickle": np.ones(1), "arr_0": 3, "0": np.ones(1)},
    {"weights": [np.ones((2, 3)), np.zeros(3)], "moments": {"m": [np.arange(2.0)], "steps": np.int64(7)}},
    {"pair": (1, (0.5, np.ones(1))), "empty": [(), [], {}], "half": [np.ones(2, ml_dtypes.bfloat16)]},
    {"marks": [{"__array__": 0}, {"__tuple__": [1]}, {"__dict__": {"__array__": 0}}], "__array__": 3},
    {},
]


def same(found: Any, given: Any) -> bool:
    """Return whether two states are equal, with the types of all their parts."""
    if type(found) is not type(given):
        return False
    if isinstance(given, dict):
        return list(found) == list(given) and all(same(found[key], given[key]) for key in given)
    if isinstance(given, list | tuple):
        return len(found) == len(given) and all(map(same, found, given))
    if isinstance(given, np.ndarray | np.generic):
        return found.dtype == given.dtype and np.array_equal(found, given)
    return found == given


@pytest.mark.parametrize("state", STATES)
def test_state_returns_with_its_types(runs: Runs, state: dict[str, Any]) -> None:
    runs.resume().save(state)
    assert same(dict(runs.resume().state or {}), state)


def test_saved_arrays_in_lists_are_copies(runs: Runs) -> None:
    weights, run = [np.zeros(2)], runs.resume()
    next(iter(run.epochs()))
    run.save({"weights": weights})
    weights[0] += 1
    run.report(loss=0.0)
    assert same(dict(runs.resume().state or {}), {"weights": [np.zeros(2)]})


@pytest.mark.parametrize(
    "value",
    [
        {1: 2},
        {"a": (1, {2})},
        namedtuple("Point", "x")(1),
        [np.array([None])],
        [b"x"],
        np.array([None]),
        np.zeros(1, [("x", ml_dtypes.bfloat16)]),
        1j,
        b"x",
        object(),
        {1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_state_that_would_change_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueRefusedError, match=r"run\.save\(\) was given"):
        copy_state({"weights": value})


@pytest.mark.parametrize("make", ODD)
def test_odd_state_returns_or_is_refused_by_name(runs: Runs, make: Callable[[], object]) -> None:
    kept: dict[str, object] = {}
    for name, value in {"plain": make(), "listed": [make()], "keyed": {"key": make()}}.items():
        try:
            kept |= copy_state({name: value})
        except ValueRefusedError as exc:
            refusal = str(exc)
            assert re.match(rf"run\.save\(\) was given '{name}'", refusal)
            assert len(refusal) < 1000
    runs.resume().save(kept)
    found = runs.resume().state
    assert found is not None
    assert list(map(type, found.values())) == list(map(type, kept.values()))
    np.testing.assert_equal(dict(found), kept)


@pytest.mark.parametrize(
    ("name", "shown"), [(1, "the number 1"), (10**38, f"the number {10**38}"), (None, "None")]
)
def test_name_of_a_state_must_be_a_string(name: Any, shown: str) -> None:
    with pytest.raises(ValueRefusedError, match=f"given a name that is {shown}: names are strings"):
        copy_state({name: 2})


def twice(run: Run) -> None:
    for _ in run.epochs():
        run.report(loss=1.0)
        run.report(loss=1.0)


def silent(run: Run) -> None:
    for epoch in run.epochs():
        if epoch == EPOCHS:
            run.report(loss=1.0)


def other_metric(run: Run) -> None:
    for _ in run.epochs():
        run.report(accuracy=1.0)


def after_the_loop(run: Run) -> None:
    for _ in run.epochs():
        run.report(loss=1.0)
    run.report(loss=1.0)


def ignoring(run: Run) -> None:
    for _ in run.epochs():
        with pytest.raises(DivergedError):
            run.report(loss=math.nan)


def ignoring_the_last(run: Run) -> None:
    ignoring_once = iter(run.epochs())
    next(ignoring_once)
    with pytest.raises(DivergedError):
        run.report(loss=math.nan)


@pytest.mark.parametrize(
    ("train", "error", "message"),
    [
        (twice, MetricMissingError, "called again in epoch 1"),
        (silent, MetricMissingError, r"ended epoch 1 without calling run.report\(\)"),
        (other_metric, MetricMissingError, "was given accuracy, but not 'loss'"),
        (after_the_loop, MetricMissingError, f"called again in epoch {EPOCHS}"),
        (lambda run: run.report(loss=1.0), MetricMissingError, "outside the loop"),
        (lambda _: None, MetricMissingError, "returned without a reported epoch"),
        (lambda run: list(run.epochs())[:0] or None, MetricMissingError, "ended epoch 1"),
        (lambda run: next(iter(run.epochs())) and None, MetricMissingError, "without a reported epoch"),
        (ignoring, DivergedError, "loss is nan after epoch 1"),
        (ignoring_the_last, DivergedError, "loss is nan after epoch 1"),
    ],
)
def test_wrong_loop_is_refused(
    runs: Runs, train: Callable[[Run], None], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        objective(lambda _, run: train(run)).train({}, runs.resume())


def two_loops(run: Run) -> None:
    for epoch in run.epochs():
        run.report(loss=1.0)
        if epoch == 2:
            break
    for _ in run.epochs():
        run.report(loss=0.5)


def left_early(run: Run) -> None:
    for _ in run.epochs():
        run.report(loss=1.0)
        return


@pytest.mark.parametrize(("train", "epochs"), [(two_loops, EPOCHS), (left_early, 1)])
def test_loop_may_be_left_early_and_entered_again(
    runs: Runs, train: Callable[[Run], None], epochs: int
) -> None:
    run = runs.resume()
    objective(lambda _, run: train(run)).train({}, run)
    assert run._completed == epochs


def test_objective_that_calls_train_of_its_base_class_is_checked_once(runs: Runs) -> None:
    class Base(Objective):
        def train(self, params: Params, run: Run) -> None:  # noqa: ARG002
            next(iter(run.epochs()))

    class Derived(Base):
        def train(self, params: Params, run: Run) -> None:
            super().train(params, run)
            run.report(loss=1.0)

    Derived().train({}, runs.resume())


def test_train_of_any_form_is_checked() -> None:
    class Mixin:
        def train(self, _config: Params, the_run: Run, *, _epochs: int = 1) -> None:
            next(iter(the_run.epochs()))
            the_run.report(accuracy=1.0)

    class Mixed(Mixin, Objective):  # type: ignore[misc]
        pass

    class Derived(Mixed):
        def train(self, config: Params, the_run: Run) -> None:  # type: ignore[override]
            super().train(config, the_run=the_run, _epochs=2)

    class Static(Objective):
        @staticmethod
        def train(_config: Params, the_run: Run) -> None:  # type: ignore[override]
            next(iter(the_run.epochs()))

    for one in (Mixed(), Derived()):
        with pytest.raises(MetricMissingError, match="not 'loss'"):
            one.train({}, LocalRun(total_epochs=1))
    Static().train({}, LocalRun(total_epochs=1))
