"""Agents in actors of a Ray cluster: started, looked after, told to end. Ray itself is handed in."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hpo.engines.monitor import Placed
from hpo.engines.ray_actor import AgentActor, AgentEnd

PROBE_SECONDS = 5.0
"""Between two questions to an agent where it runs."""
SOON_SECONDS = 60.0
MOST_SOON = 3
"""An agent that a signal ends within so long of its start is started again at most so many times."""


@dataclass(frozen=True)
class AgentCommand:
    """One actor: what it asks Ray for, and its agent's command line."""

    cpus: float
    gpus: float
    arguments: tuple[str, ...]


@dataclass
class _Agent:
    """An actor, and what is known of its agent."""

    actor: Any
    run: Any
    """The reference of its `run`, which Ray repeats when the actor is started again elsewhere."""
    probe: Any = None
    probed: float = 0.0
    node: str | None = None
    """Where Ray has placed it; None while it has no place."""
    began: float = field(default_factory=time.monotonic)
    soon: int = 0
    ended: bool = False


class RayAgents:
    """Agents in actors of a cluster: the `Placement` of this engine."""

    def __init__(self, ray: Any, commands: Sequence[AgentCommand], passed: Mapping[str, str]) -> None:
        self._ray = ray
        self._told = False
        self._agents: list[_Agent] = []
        remote = ray.remote(AgentActor)
        for command in commands:
            actor = remote.options(
                num_cpus=command.cpus,
                num_gpus=command.gpus,
                max_restarts=-1,
                # `run` waits as long as its agent lives; the others must be heard meanwhile.
                max_concurrency=4,
            ).remote(command.arguments, passed)
            self._agents.append(_Agent(actor, self._run(actor)))

    def look(self) -> Placed:
        """What has become of the agents."""
        complaints = []
        open_agents = [agent for agent in self._agents if not agent.ended]
        runs = {agent.run: agent for agent in open_agents}
        for done in self._done(list(runs)):
            if (complaint := self._ended(runs[done], done)) is not None:
                complaints.append(complaint)
        for agent in open_agents:
            self._probe(agent)
        nodes = [agent.node for agent in self._agents if agent.node is not None and not agent.ended]
        return Placed(
            wanted=len(self._agents),
            placed=len(nodes),
            ended=sum(agent.ended for agent in self._agents),
            complaints=complaints,
            nodes=nodes,
        )

    def interrupt(self) -> None:
        self._told = True
        for agent in self._agents:
            agent.actor.interrupt.remote()

    def stop(self) -> None:
        self._told = True
        for agent in self._agents:
            agent.actor.stop.remote()

    def close(self) -> None:
        """Give all resources back; an agent that still runs sees its leash end, and goes."""
        for agent in self._agents:
            with suppress(Exception):
                self._ray.kill(agent.actor, no_restart=True)

    def _run(self, actor: Any) -> Any:
        # Again and again: a cluster may lose any number of nodes while a study runs.
        return actor.run.options(max_task_retries=-1).remote()

    def _done(self, references: list[Any]) -> list[Any]:
        if not references:
            return []
        done, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        return list(done)

    def _ended(self, agent: _Agent, run: Any) -> str | None:
        """Note that a run has ended; returns what there is to say of it."""
        try:
            end: AgentEnd = self._ray.get(run)
        except self._ray.exceptions.RayError as exc:
            self._forget(agent)
            return f"an agent cannot run: {one_line(exc)} (is hpo-service installed on every node?)"
        if end.code >= 128 and not self._told and self._may_start_again(agent):
            agent.run, agent.began = self._run(agent.actor), time.monotonic()
            return (
                f"the agent on {end.node} was ended by a signal (exit code {end.code}): it is started again"
            )
        self._forget(agent)
        if end.code == 0 or self._told:
            return None
        last = (
            end.complaint.splitlines()[-1].removeprefix("hpo: ") if end.complaint else f"exit code {end.code}"
        )
        return f"the agent on {end.node} has ended: {last}"

    def _may_start_again(self, agent: _Agent) -> bool:
        lasted = time.monotonic() - agent.began
        agent.soon = agent.soon + 1 if lasted < SOON_SECONDS else 0
        return agent.soon <= MOST_SOON

    def _forget(self, agent: _Agent) -> None:
        agent.ended = True
        # Its resources are another's now.
        with suppress(Exception):
            self._ray.kill(agent.actor, no_restart=True)

    def _probe(self, agent: _Agent) -> None:
        """Keep up where the agent is: nowhere, while Ray looks for a place."""
        now = time.monotonic()
        if agent.probe is not None and self._done([agent.probe]):
            try:
                agent.node = self._ray.get(agent.probe)
            except self._ray.exceptions.RayError:
                agent.node = None
            agent.probe = None
        if agent.probe is None and (now - agent.probed >= PROBE_SECONDS or agent.node is None):
            agent.probe, agent.probed = agent.actor.node.remote(), now


def one_line(exc: BaseException) -> str:
    """The first line of what Ray says, which may be a page."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(exc).__name__
