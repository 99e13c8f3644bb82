"""Agents as actors of a Ray cluster: start, monitoring and stop. The `ray` module is injected."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hpo.engines.monitor import AgentStates
from hpo.engines.ray_actor import AgentActor, AgentEnd

PROBE_SECONDS = 5.0
"""Seconds between two queries for the node of an agent."""
EARLY_END_SECONDS = 60.0
MAX_EARLY_RESTARTS = 3
"""Maximum restarts of an agent that signals end within `EARLY_END_SECONDS` of its start."""


@dataclass(frozen=True)
class AgentCommand:
    """Resources of one actor, and the command line of its agent."""

    cpus: float
    gpus: float
    arguments: tuple[str, ...]


@dataclass(kw_only=True)
class _Agent:
    """An actor and the state of its agent."""

    actor: Any
    run: Any
    """Object reference of its `run`, which Ray repeats when it restarts the actor elsewhere."""
    probe: Any = None
    probed_at: float = 0.0
    node: str | None = None
    """Node of the actor; None while Ray looks for one."""
    began_at: float = field(default_factory=time.monotonic)
    early_ends: int = 0
    ended: bool = False


class RayAgents:
    """The `Placement` of the Ray engine."""

    def __init__(self, ray: Any, commands: Sequence[AgentCommand], passed: Mapping[str, str]) -> None:
        self._ray = ray
        self._ending = False
        self._agents: list[_Agent] = []
        remote = ray.remote(AgentActor)
        for command in commands:
            actor = remote.options(
                num_cpus=command.cpus,
                num_gpus=command.gpus,
                max_restarts=-1,
                # `run` blocks while its agent lives; the other methods run meanwhile.
                max_concurrency=4,
            ).remote(command.arguments, passed)
            self._agents.append(_Agent(actor=actor, run=self._run(actor)))

    def poll(self) -> AgentStates:
        """Return the states of the agents."""
        errors = []
        open_agents = [agent for agent in self._agents if not agent.ended]
        runs = {agent.run: agent for agent in open_agents}
        for done in self._done(list(runs)):
            if (error := self._ended(runs[done], done)) is not None:
                errors.append(error)
        for agent in open_agents:
            self._probe(agent)
        nodes = [agent.node for agent in self._agents if agent.node is not None and not agent.ended]
        return AgentStates(
            wanted=len(self._agents),
            placed=len(nodes),
            ended=sum(agent.ended for agent in self._agents),
            errors=errors,
            nodes=nodes,
        )

    def interrupt(self) -> None:
        self._ending = True
        for agent in self._agents:
            agent.actor.interrupt.remote()

    def stop(self) -> None:
        self._ending = True
        for agent in self._agents:
            agent.actor.stop.remote()

    def close(self) -> None:
        """Release all resources; a running agent notices that its guard pipe closed, and ends."""
        for agent in self._agents:
            with suppress(Exception):
                self._ray.kill(agent.actor, no_restart=True)

    def _run(self, actor: Any) -> Any:
        # Without limit: a cluster may lose any number of nodes while a study runs.
        return actor.run.options(max_task_retries=-1).remote()

    def _done(self, references: list[Any]) -> list[Any]:
        if not references:
            return []
        done, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        return list(done)

    def _ended(self, agent: _Agent, run: Any) -> str | None:
        """Handle the end of a run; return its error, if any."""
        try:
            end: AgentEnd = self._ray.get(run)
        except self._ray.exceptions.RayError as exc:
            self._release(agent)
            return f"an agent cannot run: {one_line(exc)} (is hpo-service installed on every node?)"
        if end.code >= 128 and not self._ending and self._may_restart(agent):
            agent.run, agent.began_at = self._run(agent.actor), time.monotonic()
            return f"the agent on {end.node} was ended by a signal (exit code {end.code}): restarting it"
        self._release(agent)
        if end.code == 0 or self._ending:
            return None
        last = end.error.splitlines()[-1].removeprefix("hpo: ") if end.error else f"exit code {end.code}"
        return f"the agent on {end.node} has ended: {last}"

    def _may_restart(self, agent: _Agent) -> bool:
        lasted = time.monotonic() - agent.began_at
        agent.early_ends = agent.early_ends + 1 if lasted < EARLY_END_SECONDS else 0
        return agent.early_ends <= MAX_EARLY_RESTARTS

    def _release(self, agent: _Agent) -> None:
        agent.ended = True
        # Its resources become available to others.
        with suppress(Exception):
            self._ray.kill(agent.actor, no_restart=True)

    def _probe(self, agent: _Agent) -> None:
        """Update the node of the agent; None while Ray looks for one."""
        now = time.monotonic()
        if agent.probe is not None and self._done([agent.probe]):
            try:
                agent.node = self._ray.get(agent.probe)
            except self._ray.exceptions.RayError:
                agent.node = None
            agent.probe = None
        if agent.probe is None and (now - agent.probed_at >= PROBE_SECONDS or agent.node is None):
            agent.probe, agent.probed_at = agent.actor.node.remote(), now


def one_line(exc: BaseException) -> str:
    """Return the first line of an error of Ray, which may be a page long."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(exc).__name__
