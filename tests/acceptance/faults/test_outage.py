"""Outages of the database: training continues, and everything is recorded once afterwards."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text

from storage.embedded.server import EmbeddedServer
from storage.opening import open_database
from tests.acceptance.faults.proxy import Proxy
from tests.acceptance.hpo_commands import HpoCommands
from tests.acceptance.service import SOON, Running, Service

EPOCHS = 16


@pytest.fixture
def proxy(postgres_server: EmbeddedServer) -> Iterator[Proxy]:
    proxy = Proxy(postgres_server.place.socket)
    yield proxy
    proxy.close()


@pytest.fixture
def server(open_folder: Path) -> Iterator[EmbeddedServer]:
    """A PostgreSQL server that may be killed."""
    with EmbeddedServer.start(open_folder / "home", root_base=open_folder / "root") as server:
        open_database(server.url, Path("unused")).close()
        yield server


def test_agent_of_a_dropped_database_ends_with_a_line(service: Service, postgres_admin: Engine) -> None:
    agent = service.begin(trials=3, workers=2)
    database = make_url(service.url).database
    with postgres_admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {database} WITH (FORCE)"))
        message = agent.wait().complaint()
        assert (
            f'the database can no longer be used (database "{database}" does not exist): check that it'
            in message
        )
        assert "does not exist): check the user" in service.hpo("ls").complaint()
        # The database of the next user, or the same one restored.
        connection.execute(text(f"CREATE DATABASE {database}"))
    assert service.hpo("ls").clean().out.startswith("no study yet")
    assert not (service.folder / "home" / "crashes").exists()


def begin(service: Service, storage: str, hung: str = "30m", **size: float) -> Running:
    """Start a study with the database `storage`, and return in the midst of its first trial."""
    return service.begin("Counted", "--storage", storage, "--hung-after", hung, **{"epochs": EPOCHS} | size)  # type: ignore[arg-type]


def through(proxy: Proxy, service: Service) -> str:
    database = make_url(service.url).database
    return f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}"


def checkpointed(service: Service) -> int:
    """Return the number of the trial's epochs on disk."""
    files = service.checkpoints.glob("trial-*/epoch-*.npz")
    return max((int(file.stem.partition("-")[2]) for file in files), default=0)


def wait_until_training_continues(service: Service) -> None:
    """Wait until two epochs more are on disk than in the database."""
    known = service.value("SELECT max(epochs) FROM hpo.trials")
    service.wait_for(lambda: checkpointed(service) >= known + 2)


def test_attempt_survives_outage(service: Service, proxy: Proxy) -> None:
    # Longer than --hung-after: an agent that was offline must not treat its trainer as hung.
    agent = begin(service, through(proxy, service), hung="3s")
    proxy.cut()
    wait_until_training_continues(service)
    proxy.heal()
    service.hurry()
    agent.wait().clean()
    service.check_records(1, EPOCHS)
    (attempt,) = service.rows("SELECT outcome, epochs FROM hpo.attempts")
    assert (attempt.outcome, attempt.epochs) == ("complete", EPOCHS)


def outcomes(service: Service) -> list[str]:
    """Return the outcomes of attempts that trained; a prefetched one may have gone to the other agent before."""
    return [row.outcome for row in service.rows("SELECT outcome FROM hpo.attempts WHERE device <> 'next'")]


@pytest.mark.parametrize(
    ("lease", "seconds"),
    [(9, 5.0), pytest.param(None, 61.0, marks=pytest.mark.soak, id="a minute by default")],
)
def test_outage_shorter_than_lease_loses_no_attempt(
    service: Service, proxy: Proxy, lease: int | None, seconds: float
) -> None:
    """Another agent, which reaches the database, looks for expired leases meanwhile."""
    if lease:
        service.set(HPO_LEASE_SECONDS=lease)
    # The first trial must not end before the other agent has joined.
    epochs = 60 if lease is None else 24
    agent = begin(service, through(proxy, service), trials=2, epochs=epochs, epoch_seconds=0.5)
    other = service.start("worker", "--study", "s", "--slots", 1)
    service.wait_for_epoch(1, trials=2)
    proxy.cut()
    began = time.monotonic()
    wait_until_training_continues(service)
    service.wait_for(lambda: time.monotonic() - began > seconds, timeout=90.0)
    proxy.heal()
    service.hurry()
    assert [agent.wait().code, other.wait().code] == [0, 0]
    service.check_records(2, epochs=epochs)
    assert outcomes(service) == ["complete"] * 2


def test_attempts_survive_expired_leases_while_all_agents_are_offline(service: Service, proxy: Proxy) -> None:
    """All agents lose the database at once: the first to reconnect must not take the others' trials."""
    service.set(HPO_LEASE_SECONDS=2)
    agents = [begin(service, through(proxy, service), trials=2, epochs=40)]
    agents.append(service.start("worker", "--study", "s", "--slots", 1, "--storage", through(proxy, service)))
    service.wait_for_epoch(1, trials=2)
    proxy.cut()
    expired = "SELECT count(*) FROM hpo.attempts WHERE ended_at IS NULL AND lease_until < clock_timestamp()"
    service.wait_for(lambda: service.value(expired) == 2)
    proxy.heal()
    service.hurry()
    assert [agent.wait().code for agent in agents] == [0, 0]
    service.check_records(2, epochs=40)
    assert outcomes(service) == ["complete"] * 2


def test_agent_that_reconnects_after_its_lease_is_fenced(service: Service, proxy: Proxy) -> None:
    service.set(HPO_LEASE_SECONDS=2, TEST_HOLD="4 8")
    late = begin(service, through(proxy, service), epoch_seconds=0)
    proxy.cut()
    service.allow(4)
    service.wait_for(lambda: checkpointed(service) == 7)
    service.set(TEST_HOLD="")
    # The cut may have left a transaction open, whose locks the server keeps for a minute.
    other = service.start("worker", "--study", "s", "--slots", 1)
    assert len(other.wait(180.0).trial_lines) == 1
    assert service.value("SELECT max(resumed_from) FROM hpo.attempts") == 7
    assert checkpointed(service) == 0
    service.allow(8)
    service.wait_for(lambda: checkpointed(service) == EPOCHS)
    proxy.heal()
    ended = late.wait()
    assert (ended.code, ended.trial_lines) == (0, [])
    assert "another agent has taken the trial over" in ended.out
    service.check_records(1, EPOCHS)
    assert service.outcomes() == ["lost", "complete"]
    # Although its trainer wrote there after the trial had ended.
    assert list(service.checkpoints.glob("trial-*")) == []


def test_attempts_survive_database_crash(
    tmp_path: Path, server: EmbeddedServer, commands: HpoCommands
) -> None:
    service = Service(tmp_path, server.url, commands)
    try:
        agent = begin(service, server.url, trials=2)
        postmaster = int((server.place.data / "postmaster.pid").read_text().split()[0])
        before = checkpointed(service)
        os.kill(postmaster, signal.SIGQUIT)
        service.wait_for(lambda: checkpointed(service) >= before + 2)
        server.ensure_running()
        service.hurry()
        agent.wait().clean()
        service.check_records(2, EPOCHS)
        assert {row.outcome for row in service.rows("SELECT outcome FROM hpo.attempts")} == {"complete"}
    finally:
        assert service.close() == []


def test_sigterm_ends_agent_while_database_is_silent(service: Service, proxy: Proxy) -> None:
    agent = begin(service, through(proxy, service))
    proxy.cut()
    wait_until_training_continues(service)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(SOON).code == 130
    service.wait_for(lambda: not service.processes())
    reached = checkpointed(service)
    known = service.value("SELECT epochs FROM hpo.trials")
    assert reached > known
    service.finish(1, EPOCHS)
    resumed = service.value("SELECT resumed_from FROM hpo.attempts WHERE outcome = 'complete'")
    # Epochs that were only on disk are not trained again.
    assert resumed == reached


def test_sigterm_ends_agent_while_database_is_down(
    tmp_path: Path, server: EmbeddedServer, commands: HpoCommands
) -> None:
    """Connections are refused at once, so the signal comes between two retries: the trainer still ends its epoch."""
    service = Service(tmp_path, server.url, commands)
    try:
        agent = begin(service, server.url)
        before = checkpointed(service)
        os.kill(int((server.place.data / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
        service.wait_for(lambda: checkpointed(service) >= before + 2)
        agent.send_signal(signal.SIGTERM)
        ended = agent.wait(SOON)
        assert ended.code == 130
        assert "does not answer" in ended.out
        assert ended.err == ""
        server.ensure_running()
        service.finish(1, EPOCHS)
    finally:
        assert service.close() == []


def test_retrain_survives_outage(searched: Service, proxy: Proxy) -> None:
    """Retrain records that it opened the test set, although the outage is longer than other commands would wait."""
    service = searched
    service.set(TEST_EPOCH_SECONDS=0.5)
    retrain = service.start(
        "retrain", "--study", "s", "--seeds", 1, "--workers", 1, "--storage", through(proxy, service)
    )
    service.wait_for(lambda: list(service.checkpoints.glob("retrain-*/seed-*/epoch-000001.npz")))
    proxy.cut()
    service.wait_for(lambda: list(service.checkpoints.glob("retrain-*/seed-*/epoch-000004.npz")))
    began = time.monotonic()
    service.wait_for(lambda: time.monotonic() - began > 35.0)
    assert retrain.alive
    proxy.heal()
    retrain.wait().clean()
    assert service.value("SELECT count(*) FROM hpo.retrains WHERE ended_at IS NOT NULL") == 1


def test_second_ctrl_c_ends_at_once_while_database_is_silent(service: Service, proxy: Proxy) -> None:
    agent = begin(service, through(proxy, service))
    proxy.cut()
    wait_until_training_continues(service)
    agent.send_signal(signal.SIGINT)
    # Two pending signals of one kind count as one.
    service.wait_for(lambda: not pending(agent.pid, signal.SIGINT))
    agent.send_signal(signal.SIGINT)
    assert agent.wait(SOON).code == 130
    service.wait_for(lambda: not service.processes())


def pending(pid: int, number: int) -> bool:
    """Return whether a signal is pending."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = [int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:")]
    return bool(mask >> (number - 1) & 1)


def test_sigterm_while_objective_loads_stops_embedded_server(service: Service, open_folder: Path) -> None:
    slow = service.folder / "slow.py"
    slow.write_text("import time\ntime.sleep(300)\n")
    del service.environment["HPO_STORAGE"]
    service.set(HPO_HOME=open_folder / "home")
    agent = service.start("launch", "--study", "s", "--objective", f"{slow}:Slow")
    # The template starts before the database is opened.
    service.wait_for(lambda: service.runs("hpo.trainer.template") and service.runs("postgres"))
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(SOON).code == 130
    service.wait_for(lambda: not service.processes())
