"""What is made of the ways in which agents end in their actors; Ray is made up here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from hpo.engines.ray_actor import AgentEnd
from hpo.engines.ray_agents import MAX_EARLY_RESTARTS, AgentCommand, RayAgents


class RayError(Exception):
    """Stands for `ray.exceptions.RayError`."""


@dataclass(eq=False)
class Reference:
    """Object reference of a call; all are distinct."""

    value: object


class Method:
    """A method of an actor; each call returns a reference to its result."""

    def __init__(self, answers: Iterable[object]) -> None:
        self.answers = iter(answers)
        self.calls = 0

    def options(self, **_: object) -> Method:
        return self

    def remote(self) -> object:
        self.calls += 1
        return Reference(next(self.answers, None))


class Cluster:
    """Fake of the used part of Ray: every actor runs once per end in `ends`, the last time without end."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, *ends: object, nodes: Iterable[object] = ("n1",) * 99) -> None:
        self.run = Method(ends)
        self.node = Method(nodes)
        self.interrupt, self.stop = Method(()), Method(())
        self.killed: list[object] = []
        self.asked: dict[str, object] = {}

    def remote(self, _: type) -> Any:
        def options(**asked: object) -> Any:
            self.asked = asked
            return SimpleNamespace(remote=lambda *_: self)

        return SimpleNamespace(options=options)

    def wait(self, references: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
        return [one for one in references if one.value is not None], []

    def get(self, reference: Any) -> object:
        if isinstance(reference.value, Exception):
            raise reference.value
        return reference.value

    def kill(self, actor: object, no_restart: bool) -> None:
        assert no_restart
        self.killed.append(actor)


def agents(cluster: Cluster) -> RayAgents:
    return RayAgents(cluster, [AgentCommand(1.5, 0.25, ("worker",))], {})


def test_an_actor_asks_for_its_share_and_is_restarted_for_ever() -> None:
    cluster = Cluster()
    agents(cluster)
    wanted = {"num_cpus": 1.5, "num_gpus": 0.25, "max_restarts": -1}
    assert wanted.items() <= cluster.asked.items()


def test_one_that_is_done_gives_its_resources_back() -> None:
    cluster = Cluster(AgentEnd(0, "", "n1"))
    placed = agents(cluster).poll()
    assert (placed.ended, placed.errors, len(cluster.killed)) == (1, [], 1)


def test_what_an_agent_complained_of_last() -> None:
    cluster = Cluster(AgentEnd(1, "Traceback …\nhpo: no space left", "n1"))
    assert agents(cluster).poll().errors == ["the agent on n1 has ended: no space left"]


@pytest.mark.parametrize("code", [130, 137, 143])
def test_one_that_a_signal_ends_is_started_again_but_not_for_ever(code: int) -> None:
    cluster = Cluster(*[AgentEnd(code, "", "n1")] * 99)
    placement = agents(cluster)
    for number in range(MAX_EARLY_RESTARTS):
        placed = placement.poll()
        assert (placed.ended, cluster.run.calls) == (0, number + 2)
        assert f"exit code {code}): restarting it" in placed.errors[0]
    assert (placement.poll().ended, cluster.run.calls) == (1, MAX_EARLY_RESTARTS + 1)


def test_stopped_agent_is_not_restarted() -> None:
    cluster = Cluster(AgentEnd(130, "", "n1"))
    placement = agents(cluster)
    placement.stop()
    assert cluster.stop.calls == 1
    placed = placement.poll()
    assert (placed.ended, placed.errors, cluster.run.calls) == (1, [], 1)


def test_an_actor_that_ray_cannot_make() -> None:
    cluster = Cluster(RayError("The actor died because of an error.\n\tModuleNotFoundError: hpo"))
    placed = agents(cluster).poll()
    assert placed.ended == 1
    assert "The actor died because of an error (is hpo-service installed on every node?)" in placed.errors[0]


def test_a_place_is_found_lost_and_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.engines.ray_agents.PROBE_SECONDS", 0.0)
    cluster = Cluster(None, nodes=("n1", RayError("its node died"), "n2", "n2"))
    placement = agents(cluster)
    looks = [placement.poll() for _ in range(4)]
    assert [(look.placed, look.nodes) for look in looks] == [(0, []), (1, ["n1"]), (0, []), (1, ["n2"])]
