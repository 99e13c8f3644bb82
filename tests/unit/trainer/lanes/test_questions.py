"""Questions for shapes, which code of the objective answers: the host listens to its agent whatever the code does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import cast

import pytest

from hpo.trainer.lanes import messages
from hpo.trainer.lanes.host import LaneHost
from hpo.trainer.lanes.messages import Ask, FromHost, Shape
from hpo.trainer.lanes.output import LaneOutput
from hpo.trainer.lanes.places import Threads
from objectives.base import Objective, Params

PATIENCE = 10.0


class Built(Threads):
    """Places whose shape is that of a model which is built, in which anything may happen."""

    def __init__(self) -> None:
        self.building, self.go_on = threading.Event(), threading.Event()

    def shape(self, objective: Objective, params: Params, epochs: int | None) -> str:  # noqa: ARG002
        match params["build"]:
            case "exits":
                raise SystemExit(3)
            case "hangs":
                self.building.set()
                self.go_on.wait()
        return str(params["build"])


@pytest.fixture
def places() -> Iterator[Built]:
    found = Built()
    yield found
    found.go_on.set()


@pytest.fixture
def agent(places: Built) -> Iterator[tuple[Connection, threading.Thread]]:
    """Return the agent's end of a host's pipe, and the thread that listens at the other."""
    ours, theirs = Pipe()
    host = LaneHost(theirs, lambda: (cast(Objective, object()), places), 2, LaneOutput())
    thread = threading.Thread(target=host.serve, daemon=True)
    thread.start()
    yield ours, thread
    places.go_on.set()
    ours.close()
    thread.join(PATIENCE)
    theirs.close()


def answer(connection: Connection) -> FromHost:
    assert connection.poll(PATIENCE)
    return messages.decode(connection.recv_bytes())


def test_build_that_exits_ends_no_host(agent: tuple[Connection, threading.Thread]) -> None:
    connection, _ = agent
    connection.send(Ask(0, {"build": "exits"}, None))
    assert answer(connection) == Shape(0, "")
    connection.send(Ask(1, {"build": "small"}, None))
    assert answer(connection) == Shape(1, "small")


def test_host_notices_that_its_agent_is_gone_while_a_build_hangs(
    agent: tuple[Connection, threading.Thread], places: Built
) -> None:
    connection, thread = agent
    connection.send(Ask(0, {"build": "hangs"}, None))
    assert places.building.wait(PATIENCE)
    connection.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_questions_are_answered_in_order(agent: tuple[Connection, threading.Thread], places: Built) -> None:
    connection, _ = agent
    for number, build in enumerate(["hangs", "small", "large"]):
        connection.send(Ask(number, {"build": build}, 2))
    places.go_on.set()
    assert [answer(connection) for _ in range(3)] == [Shape(0, "hangs"), Shape(1, "small"), Shape(2, "large")]
