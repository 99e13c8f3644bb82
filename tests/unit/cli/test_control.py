"""Messages of `hpo pause`, `resume` and `stop`, without a database."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hpo.cli.main import run

WITHOUT_AGENTS = {
    "resume": "set to run. No agent is running: `hpo launch --study s` starts one.",
    "pause": "paused. No agent is running: `hpo launch --study s` continues it.",
    "stop": "stopped. No agent is running: `hpo launch --study s` continues it.",
}
WITH_AGENTS = {
    "resume": "set to run. Its agents continue. `hpo launch` adds an agent.",
    "pause": "paused. Its agents hold their trials. `hpo resume` continues it.",
    "stop": "stopped. Its agents checkpoint their trials and end. `hpo launch` continues it.",
}


@pytest.mark.usefixtures("no_database")
@pytest.mark.parametrize("command", WITHOUT_AGENTS)
@pytest.mark.parametrize(("agents", "messages"), [((), WITHOUT_AGENTS), (("agent",), WITH_AGENTS)])
def test_message_depends_on_living_agents(
    command: str, agents: tuple[str, ...], messages: dict[str, str], monkeypatch, capsys
) -> None:
    states = iter(["another", {"resume": "run"}.get(command, command)])
    monkeypatch.setattr("hpo.study.catalog.set_desired_state", lambda *_: next(states))
    monkeypatch.setattr("hpo.study.monitoring.status.study_status", lambda *_: SimpleNamespace(agents=agents))
    assert run([command, "--study", "s"]) == 0
    assert capsys.readouterr().out == f"s is {messages[command]}\n"
    # Without the effect on agents, which the first command had.
    first, _, rest = messages[command].partition(". ")
    rest = rest if not agents else rest[rest.index("`hpo") :]
    assert run([command, "--study", "s"]) == 0
    assert capsys.readouterr().out == f"s is already {first}. {rest}\n"
