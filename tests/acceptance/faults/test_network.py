"""Agents on several hosts: one is cut off longer than its lease, and joins again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from storage.embedded.server import EmbeddedServer
from storage.opening import open_database
from tests.acceptance.faults import network
from tests.acceptance.faults.chaos import AUDIT
from tests.acceptance.faults.network import PASSWORD, Network
from tests.acceptance.hpo_commands import HpoCommands
from tests.acceptance.service import Running, Service

HOSTS = ("alpha", "beta", "gamma")
EPOCHS = 20
TRIALS = 18


@pytest.fixture
def hosts(open_folder: Path, postgres_server: EmbeddedServer) -> Iterator[Network]:
    """A switch with PostgreSQL; its programs are those of the suite's server."""
    if reason := network.missing():
        pytest.skip(reason)
    from storage.embedded import paths

    made = Network(open_folder)
    try:
        made.start(paths.programs(postgres_server._root_base))
        admin = made.local_url.replace("/hpo?", "/postgres?")
        engine = create_engine(admin, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE ROLE hpo LOGIN PASSWORD '{PASSWORD}'"))
            connection.execute(text("CREATE DATABASE hpo OWNER hpo"))
        yield made
    finally:
        made.close()


@pytest.fixture
def network_service(tmp_path: Path, hosts: Network, commands: HpoCommands) -> Iterator[Service]:
    service = Service(tmp_path, hosts.local_url, commands)
    try:
        yield service
    finally:
        survivors = service.close()
    assert survivors == []


def test_host_cut_off_longer_than_its_lease_is_fenced(network_service: Service, hosts: Network) -> None:
    service = network_service
    open_database(hosts.local_url, Path("unused")).close()
    service.rows(AUDIT)
    # Created by the owner of the tables, so that agents with the role `hpo` may write.
    for schema in ("public", "hpo"):
        service.rows(f"GRANT ALL ON SCHEMA {schema} TO hpo")
        service.rows(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO hpo")
        service.rows(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO hpo")
    service.set(HPO_STORAGE=hosts.url, HPO_LEASE_SECONDS=3, TEST_EPOCH_SECONDS=0.15, TEST_HOLD=2)
    agents: dict[str, Running] = {}
    for name in HOSTS:
        service.before = hosts.host(name)
        service.set(HPO_HOME=service.folder / name)
        agents[name] = service.launch(
            "Counted", "--trials", TRIALS, "--workers", 1, "--epochs", EPOCHS, "--pruner", "none"
        )
    service.before = []
    training = (
        "SELECT DISTINCT host FROM hpo.attempts JOIN hpo.epochs USING (attempt_id) WHERE ended_at IS NULL"
    )
    # However late the last host begins, the others have trials left then.
    service.wait_for(lambda: {row.host for row in service.rows(training)} == set(HOSTS), 120)
    service.allow(2)
    assert socket.gethostname() not in HOSTS
    addresses = "SELECT count(DISTINCT client_addr) FROM pg_stat_activity WHERE usename = 'hpo'"
    assert service.value(addresses) == len(HOSTS)

    hosts.cut("alpha")
    (cut,) = service.rows(
        "SELECT attempt_id, reservation_id FROM hpo.attempts WHERE host = 'alpha' AND ended_at IS NULL"
        " AND device <> 'next'"
    )
    taken = (
        "SELECT b.attempt_id FROM hpo.attempts a JOIN hpo.attempts b USING (reservation_id)"
        " JOIN hpo.epochs e ON e.attempt_id = b.attempt_id"
        " WHERE a.attempt_id = :a AND a.outcome = 'lost' AND b.host <> 'alpha'"
    )
    service.wait_for(lambda: service.value(taken, a=cut.attempt_id))
    assert agents["alpha"].alive
    hosts.join("alpha")

    service.wait_for(lambda: "another agent has taken the trial over" in agents["alpha"].output(), 60)
    ended = {name: agent.wait() for name, agent in agents.items()}
    assert {name: (done.code, done.err) for name, done in ended.items()} == dict.fromkeys(HOSTS, (0, ""))
    service.check_records(TRIALS, EPOCHS)
    # The attempt that was cut off reported nothing more.
    (late,) = service.rows(
        "SELECT a.outcome, max(e.created_at) <= a.ended_at AS silent FROM hpo.attempts a LEFT JOIN hpo.epochs e"
        " USING (attempt_id) WHERE a.attempt_id = :a GROUP BY a.attempt_id",
        a=cut.attempt_id,
    )
    assert (late.outcome, late.silent) == ("lost", True)
    tells = service.rows("SELECT count(*) AS n, count(DISTINCT trial_id) AS trials FROM audit_tells")
    assert [(row.n, row.trials) for row in tells] == [(TRIALS, TRIALS)]
    # It took part again afterwards.
    assert service.value(
        "SELECT count(*) FROM hpo.attempts WHERE host = 'alpha' AND outcome = 'complete' AND attempt_id > :a",
        a=cut.attempt_id,
    )
