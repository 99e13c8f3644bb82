"""Trainers that wait for the next attempt of their slot, as their pool sees them."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing.connection import Connection

import pytest

from hpo.trainer.messages import Command, Continue, Start, Started
from hpo.trainer.pipe import encode
from hpo.trainer.template.messages import Exited, Forked
from hpo.trainer.testing import start_message
from hpo.trainer.waiting import may_stay
from objectives.device import Device
from tests.unit.trainer.pool_host import DESCRIBED, DONE, EPOCH, READY, Host

STAYS = replace(DONE, stays=True)


@pytest.fixture
def trainer(host: Host) -> Connection:
    """Return the end of a trainer's pipe that has trained an attempt and waits."""
    host.events(DESCRIBED, READY)
    connection = host.template.trainers[host.start(pid=10)]
    assert connection.recv().may_stay
    connection.send_bytes(encode(STAYS))
    assert host.events() == [(0, STAYS)]
    assert host.pool.free_slots() == [0, 1]
    return connection


def test_waiting_trainer_gets_the_next_attempt_of_its_slot(host: Host, trainer: Connection) -> None:
    host.pool.send(0, Command.PRUNE)
    host.pool.start(0, start_message(number=7))
    started = trainer.recv()
    assert isinstance(started, Start), "no message of the attempt before"
    assert started.number == 7
    assert host.pool.is_forked(0)
    trainer.send_bytes(encode(Started(10, 0)))
    trainer.send_bytes(encode(EPOCH))
    assert host.events() == [(0, Started(10, 0)), (0, EPOCH)]
    host.pool.send(0, Continue(1))
    assert trainer.recv() == Continue(1)
    assert len(host.template.trainers) == 1


def test_waiting_trainer_serves_no_other_slot(host: Host, trainer: Connection) -> None:
    host.pool.start(1, start_message())
    assert len(host.template.trainers) == 2
    assert not trainer.poll(0)


@pytest.mark.parametrize("ends", ["exit", "closed pipe", "message of no attempt", "template"])
def test_waiting_trainer_that_ends_is_replaced_without_an_event(
    host: Host, trainer: Connection, ends: str
) -> None:
    match ends:
        case "exit":
            assert host.events(Exited(10, -9)) == []
        case "closed pipe":
            trainer.close()
        case "message of no attempt":
            trainer.send_bytes(encode(EPOCH))
        case "template":
            host.template.die()
    assert [host.pool.wait(0.0) for _ in range(3)] == [[], [], []]
    assert host.killed == [10]
    host.start(pid=11)
    assert host.pool.is_forked(0)


@pytest.mark.parametrize("status", [0, -11], ids=["leaves it to another process", "crashes"])
def test_attempt_that_a_waiting_trainer_has_not_begun_gets_a_fresh_process(
    host: Host, trainer: Connection, status: int
) -> None:
    host.pool.start(0, start_message(number=7))
    trainer.close()
    assert host.events(Exited(10, status)) == []
    serial = max(host.template.trainers)
    assert host.events(Forked(serial, 11)) == []
    fresh = host.template.trainers[serial]
    assert fresh.recv().number == 7
    fresh.send_bytes(encode(Started(11, 0)))
    fresh.send_bytes(encode(DONE))
    assert host.events() == [(0, Started(11, 0)), (0, DONE)]


def test_attempt_that_a_waiting_trainer_has_begun_is_lost_with_it(host: Host, trainer: Connection) -> None:
    host.pool.start(0, start_message())
    trainer.send_bytes(encode(Started(10, 0)))
    trainer.close()
    events = host.events(Exited(10, -9))
    assert [type(event).__name__ for _, event in events] == ["Started", "TrainerExited"]


def test_closed_pool_has_killed_waiting_trainers(host: Host, trainer: Connection) -> None:
    assert not trainer.closed
    host.pool.close()
    assert host.killed == [10]


def test_pool_of_fresh_processes_keeps_none(host: Host) -> None:
    host.pool.fresh_processes = True
    connection = host.template.trainers[host.start(pid=10)]
    assert not connection.recv().may_stay
    connection.send_bytes(encode(STAYS))
    host.events()
    host.start(pid=11)
    assert len(host.template.trainers) == 2


@pytest.mark.parametrize(
    ("options", "device", "may"),
    [
        ({}, Device(), True),
        ({"final": True}, Device(), False),
        ({"checks": True}, Device(), False),
        ({"memory_bytes": 2**30}, Device(), False),
        ({}, Device("gpu:0", gpu="0"), False),
    ],
)
def test_attempts_after_which_a_trainer_may_stay(
    options: dict[str, object], device: Device, may: bool
) -> None:
    assert may_stay(start_message(**options), device) is may
