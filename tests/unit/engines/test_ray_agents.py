"""Ends and restarts of agents in Ray actors, with a fake of Ray."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from hpo.engines.ray_actor import AgentEnd
from hpo.engines.ray_agents import MAX_EARLY_RESTARTS, AgentCommand, RayAgents


class RayError(Exception):
    """Fake of `ray.exceptions.RayError`."""


@dataclass(eq=False)
class Reference:
    """Object reference of a call; references are distinct."""

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
    """Fake of Ray: an actor ends once for each of `ends`, then runs forever."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, *ends: object, nodes: Iterable[object] = ("n1",) * 99) -> None:
        self.run = Method(ends)
        self.node = Method(nodes)
        self.interrupt, self.stop = Method(()), Method(())
        self.killed: list[object] = []
        self.options_used: dict[str, object] = {}

    def remote(self, _: type) -> Any:
        def options(**options_used: object) -> Any:
            self.options_used = options_used
            return SimpleNamespace(remote=lambda *_: self)

        return SimpleNamespace(options=options)

    def wait(self, references: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
        return [reference for reference in references if reference.value is not None], []

    def get(self, reference: Any) -> object:
        if isinstance(reference.value, Exception):
            raise reference.value
        return reference.value

    def kill(self, actor: object, no_restart: bool) -> None:
        assert no_restart
        self.killed.append(actor)


def agents(cluster: Cluster) -> RayAgents:
    return RayAgents(cluster, [AgentCommand(1.5, 0.25, ("worker",))], {})


def test_actor_requests_its_resources_and_unlimited_restarts() -> None:
    cluster = Cluster()
    agents(cluster)
    expected = {"num_cpus": 1.5, "num_gpus": 0.25, "max_restarts": -1}
    assert expected.items() <= cluster.options_used.items()


def test_finished_agent_frees_its_resources() -> None:
    cluster = Cluster(AgentEnd(0, "", "n1"))
    placed = agents(cluster).poll()
    assert (placed.ended, placed.errors, len(cluster.killed)) == (1, [], 1)


def test_error_of_a_failed_agent_is_its_last_message() -> None:
    cluster = Cluster(AgentEnd(1, "Traceback …\nhpo: no space left", "n1"))
    assert agents(cluster).poll().errors == ["the agent on n1 has ended: no space left"]


@pytest.mark.parametrize("code", [130, 137, 143])
def test_agent_ended_by_a_signal_is_restarted_a_limited_number_of_times(code: int) -> None:
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


def test_actor_that_cannot_start_is_an_error() -> None:
    cluster = Cluster(RayError("The actor died because of an error.\n\tModuleNotFoundError: hpo"))
    placed = agents(cluster).poll()
    assert placed.ended == 1
    assert "The actor died because of an error (is hpo-service installed on every node?)" in placed.errors[0]


def test_agent_is_placed_again_after_its_node_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.engines.ray_agents.PROBE_SECONDS", 0.0)
    cluster = Cluster(None, nodes=("n1", RayError("its node died"), "n2", "n2"))
    placement = agents(cluster)
    polls = [placement.poll() for _ in range(4)]
    assert [(states.placed, states.nodes) for states in polls] == [(0, []), (1, ["n1"]), (0, []), (1, ["n2"])]
