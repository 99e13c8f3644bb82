"""An agent for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.agent import agent as agent_module
from hpo.trainer import supervisor as supervisor_module
from tests.unit.agent.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(agent_module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(supervisor_module, "SPAWN_RETRY_SECONDS", 0.0)
    monkeypatch.setattr("hpo.agent.attempts.CLAIM_RETRY_SECONDS", 0.0)
    return World(tmp_path)
