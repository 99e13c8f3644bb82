"""Lane hosts as their pool sees them: only pipes are real."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from hpo.files.bounded_log import FILE_BYTES, KEPT_BYTES
from hpo.outcomes import Outcome
from hpo.trainer.ends.exits import Blame, SpawnFailed, TrainerExited
from hpo.trainer.lanes import messages, pooled_host
from hpo.trainer.lanes.messages import Ask, Begin, Freed, Placed, Refused, Shape, Train
from hpo.trainer.lanes.process_output import NOTICE
from hpo.trainer.messages import Command, Finished, Start, Started
from hpo.trainer.pipe import encode
from hpo.trainer.template.messages import Exited, Forked, FromTemplate, NotForked
from hpo.trainer.testing import start_message
from objectives.device import Device
from tests.unit.trainer.pool_host import DESCRIBED, DONE, EPOCH, READY, Host

LANES = 2


@dataclass
class Lanes:
    """The other end of a host's pipe, and those of its attempts."""

    host: Host
    control: Connection
    numbers: dict[int, int]
    pipes: dict[int, Connection]
    output: int
    """What the process writes to outside of its lanes."""

    def accept(self) -> None:
        """Take the next attempt."""
        train = self.control.recv()
        assert isinstance(train, Train)
        self.numbers[train.lane] = train.number
        self.pipes[train.lane] = Connection(reduction.recv_handle(self.control))

    def say(self, *told: messages.FromHost) -> list[tuple[int, Any]]:
        for message in told:
            self.control.send_bytes(messages.encode(message))
        return self.host.events()


def start(host: Host, slot: int, **values: Any) -> None:
    host.pool.start(slot, start_message(device=host.pool.devices[slot], **values))


@pytest.fixture
def lanes(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lanes]:
    """Return a host with two attempts."""
    monkeypatch.setattr(pooled_host, "kill_group", host.killed.append, raising=False)
    host.pool.devices = [Device(lane=lane, lanes=LANES) for lane in range(LANES)]
    host.events(DESCRIBED, READY)
    for slot in (0, 1):
        start(host, slot, params={"x": slot + 1}, log=str(tmp_path / f"{slot}.log"))
    (serial,) = host.template.trainers
    assert not host.pool.is_forked(0)
    host.running.add(10)
    assert host.events(Forked(serial, 10)) == []
    control = host.template.trainers[serial]
    assert isinstance(control.recv(), Begin)
    output = reduction.recv_handle(control)
    found = Lanes(host, control, {}, {}, output)
    found.accept()
    found.accept()
    yield found
    for pipe in found.pipes.values():
        pipe.close()
    os.close(output)


def test_attempts_have_their_own_pipes_and_one_process(lanes: Lanes) -> None:
    host = lanes.host
    assert [lanes.pipes[slot].recv().params for slot in (0, 1)] == [{"x": 1}, {"x": 2}]
    assert host.pool.is_forked(0)
    assert host.pool.is_forked(1)
    assert (host.pool.busy, host.pool.free_slots()) == ({0, 1}, [])
    assert host.pool.sharing(0) == {0, 1}
    lanes.pipes[1].send_bytes(encode(Started(10, 0)))
    lanes.pipes[0].send_bytes(encode(EPOCH))
    assert sorted(host.events(), key=str) == [(0, EPOCH), (1, Started(10, 0))]
    host.pool.send(1, Command.PRUNE)
    assert lanes.pipes[1].recv() is Command.PRUNE


def test_output_of_the_process_is_in_the_logs_of_the_attempts_that_train_meanwhile(
    lanes: Lanes, tmp_path: Path
) -> None:
    os.write(lanes.output, b"both")
    lanes.host.events()
    os.write(lanes.output, b"too\n")
    lanes.pipes[0].send_bytes(encode(DONE))
    lanes.host.events()
    os.write(lanes.output, b"x" * (FILE_BYTES + 1))
    for _ in range(2):
        lanes.host.events()
    os.write(lanes.output, b"after\n")
    lanes.host.events()
    both = b"%sboth\n%stoo\n" % (NOTICE, NOTICE)
    assert (tmp_path / "0.log").read_bytes() == both
    cut = b"[hpo: %d bytes before this were cut off]\n" % (FILE_BYTES + 1 - KEPT_BYTES)
    long = b"%s%s%s\n" % (NOTICE, cut, b"x" * KEPT_BYTES)
    assert (tmp_path / "1.log").read_bytes() == both + long + NOTICE + b"after\n"
    assert os.fstat(lanes.output).st_size == len(b"after\n")


def test_lane_of_an_attempt_that_has_finished_gets_the_next_one_at_once(lanes: Lanes) -> None:
    lanes.pipes[0].send_bytes(encode(DONE))
    assert lanes.host.events() == [(0, DONE)]
    assert lanes.host.pool.free_slots() == [0]
    finished = lanes.numbers[0]
    start(lanes.host, 0, number=7)
    lanes.accept()
    assert lanes.pipes[0].recv().number == 7
    assert lanes.say(Freed(finished)) == []
    assert lanes.host.pool.busy == {0, 1}
    assert len(lanes.host.template.trainers) == 1


def test_lane_of_a_killed_attempt_is_free_once_it_has_left_it(lanes: Lanes) -> None:
    pool = lanes.host.pool
    pool.kill(0)
    lanes.pipes[0].recv()
    with pytest.raises(EOFError):
        lanes.pipes[0].recv()
    assert (pool.busy, pool.free_slots()) == ({1}, [])
    assert lanes.say(Freed(lanes.numbers[0])) == []
    assert pool.free_slots() == [0]


def test_host_whose_attempt_does_not_end_is_killed_and_the_others_are_not_blamed(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooled_host, "END_SECONDS", -1.0)
    lanes.host.pool.lanes.hung_seconds = -1.0
    lanes.host.pool.kill(0)
    assert lanes.host.events() == []
    assert lanes.host.killed == [10]
    ((slot, exited),) = lanes.host.events(Exited(10, -9))
    assert (slot, exited.blame) == (1, Blame.NONE)
    assert lanes.host.pool.free_slots() == [0, 1]


def test_attempt_that_is_killed_while_it_compiles_has_as_long_to_leave_as_it_may_be_silent(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooled_host, "END_SECONDS", -1.0)
    lanes.host.pool.lanes.hung_seconds = 60.0
    lanes.host.pool.kill(0)
    assert lanes.host.events() == []
    assert lanes.host.killed == []
    # One that has been silent for as long was killed because of that.
    (host,) = lanes.host.pool.lanes.processes
    host.attempts[1].heard_at -= 60.0
    lanes.host.pool.kill(1)
    assert lanes.host.events() == []
    assert lanes.host.killed == [10]


@pytest.mark.parametrize(("others", "blame"), [(True, Blame.SHARED), (False, Blame.OWN)])
def test_death_of_a_host_ends_all_its_attempts(lanes: Lanes, others: bool, blame: Blame) -> None:
    if not others:
        lanes.pipes[1].send_bytes(encode(DONE))
        lanes.say(Freed(lanes.numbers[1]))
    lanes.pipes[0].send_bytes(encode(EPOCH))
    events = lanes.host.events(Exited(10, -11))
    assert events[0] == (0, EPOCH), "its last message is read"
    assert [slot for slot, _ in events[1:]] == [0, 1][: len(events) - 1]
    assert {event.blame for _, event in events[1:]} == {blame}
    assert all(isinstance(event, TrainerExited) for _, event in events[1:])


def test_outcome_of_an_attempt_is_read_although_its_host_has_died(lanes: Lanes) -> None:
    lanes.pipes[0].send_bytes(encode(DONE))
    events = lanes.host.events(Exited(10, -9))
    assert events[0] == (0, DONE)
    assert [slot for slot, event in events if isinstance(event, TrainerExited)] == [1]


@pytest.mark.parametrize("cause", ["not forked", "template"])
def test_host_that_is_not_forked_fails_to_spawn_all_its_attempts(host: Host, cause: str) -> None:
    host.pool.devices = [Device(lane=lane, lanes=LANES) for lane in range(LANES)]
    host.events(DESCRIBED, READY)
    start(host, 0)
    start(host, 1)
    (serial,) = host.template.trainers
    answers: tuple[FromTemplate, ...] = (NotForked(serial, "no room"),)
    if cause == "template":
        host.template.die()
        answers = ()
        events = [event for _ in range(4) for event in host.pool.wait(0.0)]
    else:
        events = host.events(*answers)
    reason = "no room" if answers else "its template ended"
    assert events == [(0, SpawnFailed(reason)), (1, SpawnFailed(reason))]


def test_refused_attempt_is_trained_by_a_process_of_its_own(
    lanes: Lanes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for number in lanes.numbers:
        assert lanes.say(Refused(number, "a layer of yours")) == []
    assert caplog.messages == ["not in a lane, but in a process of its own: a layer of yours"]
    serial = max(lanes.host.template.trainers)
    assert lanes.host.events(Forked(serial, 11)) == []
    alone = lanes.host.template.trainers[serial].recv()
    assert isinstance(alone, Start)
    assert alone.alone
    assert lanes.host.pool.sharing(1) == {1}


def test_attempt_in_a_process_of_its_own_gets_the_part_of_its_lane(lanes: Lanes) -> None:
    pool, template = lanes.host.pool, lanes.host.template
    pool.devices = [replace(one, host_memory_bytes=2 * 2**30) for one in pool.devices]
    for slot in (0, 1):
        pool.kill(slot)
        lanes.say(Freed(lanes.numbers[slot]))
    start(lanes.host, 0, alone=True)
    start(lanes.host, 1)
    lanes.accept()
    lanes.say(Refused(lanes.numbers[1], "a layer of yours"))
    for serial in sorted(template.trainers)[1:]:
        begun = template.trainers[serial].recv()
        for device in (template.devices[serial], begun.device):
            assert (device.host_memory_bytes, device.lanes) == (2**30, 1)
    assert len(template.trainers) == 3


def test_attempt_that_leaves_its_lane_without_an_outcome_is_lost_alone(lanes: Lanes) -> None:
    ((slot, exited),) = lanes.say(Freed(lanes.numbers[0]))
    assert (slot, exited.blame) == (0, Blame.OWN)
    assert lanes.host.pool.busy == {1}


def test_host_that_retires_ends_with_its_last_attempt(lanes: Lanes) -> None:
    pool = lanes.host.pool
    lanes.pipes[0].send_bytes(encode(DONE))
    assert lanes.say(Freed(lanes.numbers[0], retires=True)) == [(0, DONE)]
    assert pool.free_slots() == []
    assert pool.lanes.retiring == {1}
    lanes.pipes[1].send_bytes(encode(DONE))
    assert lanes.say(Freed(lanes.numbers[1])) == [(1, DONE)]
    assert pool.free_slots() == [0, 1]
    assert lanes.host.killed == [10]
    start(lanes.host, 0)
    assert len(lanes.host.template.trainers) == 2


def test_bytes_of_an_attempt_that_are_no_message_are_its_own_bug(lanes: Lanes) -> None:
    lanes.pipes[0].send(EPOCH)
    lanes.pipes[1].send_bytes(encode(EPOCH))
    events = dict(lanes.host.events())
    assert isinstance(events[0], Finished)
    assert events[0].outcome is Outcome.BUG
    assert events[1] == EPOCH


def test_shapes_are_asked_for_once_and_told_of_attempts_that_train(lanes: Lanes) -> None:
    pool = lanes.host.pool
    device = pool.devices[0]
    for _ in range(2):
        pool.lanes.ask({"x": 3}, 5)
    question = lanes.control.recv()
    assert question == Ask(question.number, {"x": 3}, 5)
    assert not lanes.control.poll(0)
    assert not pool.lanes.joins(0, device, {"x": 3})
    assert lanes.say(Shape(question.number, "small"), Placed(lanes.numbers[0], "small")) == []
    assert pool.lanes.joins(0, device, {"x": 3})
    assert not pool.lanes.shapes.differ
    lanes.say(Placed(lanes.numbers[1], "large"))
    assert pool.lanes.shapes.differ
