"""A trainer's agent, and a pool's host, for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo.trainer import pool as pool_module
from hpo.trainer import pooled_process
from hpo.trainer.template import current as current_template
from hpo.trainer.template import requests
from tests.unit.trainer.agent_end import PATIENCE, Agent
from tests.unit.trainer.pool_host import Host


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    exits: list[int] = []

    def leave(code: int) -> None:
        exits.append(code)
        raise SystemExit

    monkeypatch.setattr(os, "_exit", leave)
    # Its group with it: here that would be the test itself.
    monkeypatch.setattr("hpo.process.process_groups.kill_group", exits.append)
    agent = Agent(tmp_path, exits)
    yield agent
    for connection in agent.connections[::2]:
        connection.close()
    for thread in agent.threads:
        thread.join(PATIENCE)
    for connection in agent.connections[1::2]:
        connection.close()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host(tmp_path, 2)
    monkeypatch.setattr(pool_module, "POLL_SECONDS", 0.0)
    for module in (requests, pooled_process):
        monkeypatch.setattr(module, "kill_group", host.killed.append)
    monkeypatch.setattr(pooled_process, "oom_kills", lambda: host.oom_kills)
    for module in (current_template, pooled_process):
        monkeypatch.setattr(module, "STATUS_SECONDS", 0.0)
    monkeypatch.setattr(pooled_process, "is_running", lambda pid: pid in host.running)
    with host.pool:
        yield host
    for template in host.templates:
        for connection in template.trainers.values():
            connection.close()
