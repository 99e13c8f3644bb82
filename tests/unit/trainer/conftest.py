"""A trainer's agent for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.trainer.agent_end import PATIENCE, Agent


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    exits: list[int] = []

    def leave(code: int) -> None:
        exits.append(code)
        raise SystemExit

    monkeypatch.setattr(os, "_exit", leave)
    # Its group with it: here that would be the test itself.
    monkeypatch.setattr("hpo.trainer.run.kill_group", exits.append)
    agent = Agent(tmp_path, exits)
    yield agent
    for connection in agent.connections[::2]:
        connection.close()
    for thread in agent.threads:
        thread.join(PATIENCE)
    for connection in agent.connections[1::2]:
        connection.close()
