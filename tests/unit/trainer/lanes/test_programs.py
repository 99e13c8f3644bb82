"""Programs of a host's lanes: whose failure an error is that one trial of several meets."""

from __future__ import annotations

import importlib.util
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from objectives import backend

if backend.name() != "jax" or importlib.util.find_spec("jax") is None:
    pytest.skip("lanes need JAX: make test-jax", allow_module_level=True)

import jax

from hpo.trainer.lanes import programs as programs_module
from hpo.trainer.lanes.programs import Programs
from objectives.device import Device
from objectives.errors import SharedFailureError
from objectives.lanes.lanes import Lanes
from objectives.lanes.work import LanesClosedError

NO_MEMORY = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 2147483648 bytes."


class Odd(Exception):
    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise ValueError


@pytest.fixture
def programs() -> Programs:
    return Programs(Device(lanes=2, precision="float32"))


def fail(programs: Programs, shape: str, index: int, error: BaseException) -> None:
    with programs.lane(shape, index, Future()):
        raise error


def enter(programs: Programs, shape: str, index: int) -> None:
    with programs.lane(shape, index, Future()):
        pass


@pytest.mark.parametrize("other", ["small", "large"])
def test_want_of_memory_is_that_of_all_trials_of_the_process(programs: Programs, other: str) -> None:
    error = RuntimeError(NO_MEMORY)
    with programs.lane(other, 1, Future()), pytest.raises(SharedFailureError, match="Out of memory") as found:
        fail(programs, "small", 0, error)
    assert found.value.__cause__ is error


def test_trials_of_a_program_without_memory_end_with_it_and_later_ones_get_another(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, closed, replaced = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(Lanes, "close", lambda _: closed.set())

    def train() -> None:
        with programs.lane("small", 1, Future()):
            entered.set()
            assert closed.wait(10.0)
            assert replaced.wait(10.0)
            # As its next batch does.
            raise LanesClosedError("the lanes are closed")

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(train)
        assert entered.wait(10.0)
        with pytest.raises(SharedFailureError):
            fail(programs, "small", 0, RuntimeError(NO_MEMORY))
        # The same lane, of a program in which nothing trains.
        enter(programs, "small", 1)
        replaced.set()
        with pytest.raises(SharedFailureError, match="Out of memory"):
            other.result()


@pytest.mark.parametrize("error", [RuntimeError(NO_MEMORY), MemoryError()])
def test_want_of_memory_of_a_trial_without_others_is_its_own(
    programs: Programs, error: BaseException
) -> None:
    for _ in range(2):
        with pytest.raises(type(error)) as found:
            fail(programs, "small", 0, error)
        assert found.value is error


def test_programs_that_are_kept_are_closed_before_a_trial_is_at_fault(programs: Programs) -> None:
    with programs.lane("large", 0, Future()):
        pass
    with pytest.raises(SharedFailureError, match="Out of memory"):
        fail(programs, "small", 0, RuntimeError(NO_MEMORY))
    with pytest.raises(RuntimeError, match="Out of memory"):
        fail(programs, "small", 0, RuntimeError(NO_MEMORY))


def test_error_of_the_device_is_that_of_all_trials_and_of_their_process(programs: Programs) -> None:
    error = jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access")
    with (
        programs.lane("large", 1, Future()),
        pytest.raises(SharedFailureError, match="ILLEGAL_ADDRESS") as found,
    ):
        fail(programs, "small", 0, error)
    assert found.value.__cause__ is error
    assert programs.broken


@pytest.mark.parametrize("other", ["small", "large"])
@pytest.mark.parametrize("error", [jax.errors.JaxRuntimeError("INTERNAL: x"), RuntimeError(NO_MEMORY)])
def test_last_one_to_meet_what_all_have_met_is_not_at_fault(
    programs: Programs, other: str, error: BaseException
) -> None:
    def fail_after_another() -> None:
        with programs.lane(other, 1, Future()):
            with pytest.raises(SharedFailureError):
                fail(programs, "small", 0, error)
            raise type(error)(str(error))

    with pytest.raises(SharedFailureError):
        fail_after_another()


def test_device_that_has_failed_is_no_fault_of_a_trial_that_begins_later(programs: Programs) -> None:
    for kind in (jax.errors.JaxRuntimeError, SharedFailureError):
        with pytest.raises(kind, match="INTERNAL"):
            fail(programs, "small", 0, jax.errors.JaxRuntimeError("INTERNAL: x"))


def test_error_of_the_device_of_a_trial_without_others_is_its_own(programs: Programs) -> None:
    with pytest.raises(jax.errors.JaxRuntimeError):
        fail(programs, "small", 0, jax.errors.JaxRuntimeError("INTERNAL: x"))
    assert programs.broken


@pytest.mark.parametrize("error", [ValueError("no such layer"), SystemExit(3), Odd()])
def test_other_errors_end_their_trial_alone(programs: Programs, error: BaseException) -> None:
    with programs.lane("small", 1, Future()):
        with pytest.raises(type(error)):
            fail(programs, "small", 0, error)
        with programs.lane("small", 0, Future()):
            pass
    assert not programs.broken


def test_memory_of_a_program_that_compiles_is_not_waited_for(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, closed = threading.Event(), threading.Event()
    monkeypatch.setattr(programs_module, "MOST_CLOSING_SECONDS", 0.0)
    monkeypatch.setattr(Lanes, "close", lambda _: (compiled.wait(10.0), closed.set()))
    enter(programs, "small", 0)
    programs.drop_idle()
    assert not closed.is_set()
    compiled.set()
    assert closed.wait(10.0)
