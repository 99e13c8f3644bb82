"""Hosts whose clocks and time zones disagree, and signals that reach every process of a host."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import psutil

from tests.acceptance.service import Running, Service

SHIFTED = """
import datetime, os, time
def shift():
    try:
        return float(open(os.environ["TEST_CLOCK_SHIFT"]).read())
    except FileNotFoundError:
        return 0.0
real_time, real_datetime = time.time, datetime.datetime
time.time = lambda: real_time() + shift()
time.time_ns = lambda: int(time.time() * 1e9)
class Shifted(real_datetime):
    @classmethod
    def now(cls, tz=None):
        return real_datetime.now(tz) + datetime.timedelta(seconds=shift())
datetime.datetime = Shifted
"""
"""A `sitecustomize` that shifts the clock of every Python process by the present content of a file."""


def test_hosts_whose_clocks_differ_and_jump_share_a_study(service: Service, tmp_path: Path) -> None:
    """Leases use the database's clock, so neither host takes the other's trials; epochs use a monotonic one."""
    (tmp_path / "sitecustomize.py").write_text(SHIFTED)
    service.set(PYTHONPATH=tmp_path, HPO_LEASE_SECONDS=2, TEST_EPOCH_SECONDS=0.1)
    # An interpreter imports `sitecustomize` when it starts.
    service.before = ["env"]
    agents: list[Running] = []
    clocks = [tmp_path / "clock-0", tmp_path / "clock-1"]
    for clock, zone, hours in zip(clocks, ("Asia/Tokyo", "America/Los_Angeles"), (5, -7), strict=True):
        clock.write_text(str(hours * 3600))
        service.set(TZ=zone, TEST_CLOCK_SHIFT=clock)
        agents.append(
            service.launch("Counted", "--trials", 6, "--workers", 1, "--epochs", 20, "--pruner", "none")
        )
        service.wait_for_epoch(1, trials=len(agents))
    for clock, hours in zip(clocks, (15, -17), strict=True):
        clock.write_text(str(hours * 3600))
        known = service.value("SELECT count(*) FROM hpo.epochs")
        service.wait_for(lambda known=known: service.value("SELECT count(*) FROM hpo.epochs") > known + 15)  # type: ignore[misc]
    assert [agent.wait().code for agent in agents] == [0, 0]
    service.check_records(6, epochs=20)
    # A prefetched trial may have been released, but no lease has expired.
    assert sorted(set(service.outcomes()) - {"released"}) == ["complete"]
    assert service.outcomes().count("complete") == 6
    # It lasted for several leases, and all recorded times are the database's.
    (lasted,) = service.rows(
        "SELECT extract(epoch FROM max(ended_at) - min(started_at)) AS seconds,"
        " clock_timestamp() - max(ended_at) < interval '1 minute' AS now FROM hpo.attempts"
    )
    assert (lasted.seconds > 4, lasted.now) == (True, True)
    seconds = service.value("SELECT max(seconds) FROM hpo.epochs")
    assert 0 < seconds < 60, "an epoch was timed by a clock that can be set"


def test_sigterm_to_every_process_loses_no_trial(service: Service) -> None:
    """Service managers send SIGTERM so; a trainer may get it before or after its agent, and is not lost."""
    for order in (1, -1, 1):
        service.set(TEST_EPOCH_SECONDS=0.2)
        agent = service.launch("Counted", "--trials", 2, "--workers", 2, "--epochs", 30, "--pruner", "none")
        service.wait_for(lambda: len(service.trainers()) == 2)
        for process in service.processes()[::order]:
            # One that has ended meanwhile needs no signal.
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        agent.wait().clean(130)
    assert service.outcomes() == ["released"] * 6
    service.finish(2, 30)


def test_stopped_trainers_end_with_their_agent(service: Service) -> None:
    agent = service.begin(trials=2, workers=2, epochs=100, at=2)
    assert service.hpo("pause", "--study", "s").code == 0
    newest = "SELECT extract(epoch FROM clock_timestamp() - max(created_at)) FROM hpo.epochs"
    service.wait_for(lambda: service.value(newest) > 1.5)
    assert len([p for p in service.processes() if psutil.Process(agent.pid) in p.parents()]) == 3
    agent.send_signal(signal.SIGKILL)
    service.wait_for(lambda: not service.processes())
