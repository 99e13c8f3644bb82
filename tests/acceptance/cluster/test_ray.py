"""`hpo launch --engine ray` on a real Ray cluster of two nodes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.acceptance.service import Service

if find_spec("ray") is None and not os.environ.get("CI"):
    pytest.skip("Ray is not installed: uv sync --group cluster", allow_module_level=True)

EPOCH_SECONDS = 0.1
START_SECONDS = 240.0
"""Longest time from a launch to its first epochs; 64 s were measured on a busy core while Ray started."""
NEWEST = "SELECT extract(epoch FROM clock_timestamp() - max(created_at)) FROM hpo.epochs"
COUNT = "SELECT count(*) FROM hpo.epochs"
IN_THE_MIDDLE = (
    "SELECT count(*) FROM hpo.attempts a JOIN hpo.trials t USING (reservation_id)"
    " WHERE a.ended_at IS NULL AND t.epochs BETWEEN 2 AND 24"
)


class RayCluster:
    """A head of two CPUs and a node of one, in separate processes."""

    def __init__(self, folder: Path) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HPO_", "TEST_", "RAY_"))
        }
        self._mark = str(folder)
        self._log = folder / "cluster.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.acceptance.cluster.ray_cluster"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=Path(__file__).parents[3],
                env=environment
                | {
                    "RAY_USAGE_STATS_ENABLED": "0",
                    "RAY_TMPDIR": self._mark,
                    # Agents have an environment of their own, so none would run in a worker that was started before.
                    "RAY_enable_worker_prestart": "0",
                    "RAY_prestart_worker_first_driver": "0",
                    # Agents claim cores there.
                    "TMPDIR": self._mark,
                    "TEST_EPOCH_SECONDS": str(EPOCH_SECONDS),
                },
                # A signal to the tests would end it before its nodes.
                start_new_session=True,
            )
        try:
            self.address = self._answer()
        except BaseException:
            self.close()
            raise

    def kill_node(self) -> None:
        """Kill the second node and all its processes."""
        assert self._process.stdin is not None
        print("kill", file=self._process.stdin, flush=True)
        assert self._answer() == "killed"

    def close(self) -> list[str]:
        """End all nodes; returns the processes that outlived them."""
        assert self._process.stdin is not None
        # Not all can be found by their environment: Ray's titles overwrite it.
        started = psutil.Process(self._process.pid).children(recursive=True)
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            started += psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        survivors = {*started, *self._processes()}
        _, alive = psutil.wait_procs(survivors, 10)
        for process in alive:
            with suppress(psutil.Error):
                process.kill()
        return [str(process) for process in alive]

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, self._log.read_text()
        return line

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("RAY_TMPDIR") == self._mark:
                    found.append(process)
        return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    # Not pytest's folder: the paths of Ray's sockets would be too long.
    with tempfile.TemporaryDirectory(prefix="hpo-ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = RayCluster(Path(folder))
        try:
            yield cluster
        finally:
            survivors = cluster.close()
        assert not survivors, "processes outlived the cluster: " + "; ".join(survivors)


def ray(cluster: RayCluster, *arguments: object) -> tuple[object, ...]:
    return ("--engine", "ray", "--address", cluster.address, "--pruner", "none", *arguments)


@pytest.mark.parametrize("how", ["stop", "interrupt", "kill"])
def test_agents_release_their_trials_when_launch_ends(
    service: Service, cluster: RayCluster, how: str
) -> None:
    driver = service.launch("Counted", *ray(cluster, "--workers", 1, "--trials", 1, "--epochs", 500))
    service.wait_for_epoch(2, timeout=START_SECONDS)
    if how == "stop":
        assert service.hpo("stop", "--study", "s").code == 0
    else:
        driver.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
    ended = driver.wait(30)
    assert (ended.code, ended.err) == ({"stop": 0, "interrupt": 130, "kill": -signal.SIGKILL}[how], "")
    assert ("the study was stopped" in ended.out) == (how == "stop")
    service.wait_for(lambda: not service.processes(), timeout=20.0)
    # Not detected by expired leases.
    assert {row.outcome for row in service.rows("SELECT outcome FROM hpo.attempts")} == {"released"}
    assert service.value("SELECT count(*) FROM hpo.agents WHERE ended_at IS NULL") == 0


def test_study_survives_pause_and_dead_ray_node(service: Service, cluster: RayCluster) -> None:
    service.set(HPO_LEASE_SECONDS=4)
    share = ("--gpus-per-worker", 0.5)
    driver = service.launch("Counted", *ray(cluster, "--workers", 3, *share, "--trials", 9, "--epochs", 30))
    # Three agents of one slot, none of which is the process that was started. On a busy machine, the first may begin
    # several trials before the last one runs.
    alive = "SELECT pid, slots FROM hpo.agents WHERE ended_at IS NULL"
    service.wait_for(lambda: len(service.rows(alive)) >= 3, timeout=START_SECONDS)
    service.wait_for_epoch(2, trials=3)
    agents = service.rows(alive)
    assert [agent.slots for agent in agents] == [1, 1, 1]
    assert driver.pid not in {agent.pid for agent in agents}
    assert psutil.Process(driver.pid).children() == []
    # After a slow start, an agent may have finished its first trial; its prefetched trial has no device yet.
    training = service.rows("SELECT device FROM hpo.attempts WHERE device <> 'next'")
    assert {row.device.partition(",")[0] for row in training} == {"gpu 0 (1/2)"}

    assert service.hpo("pause", "--study", "s").code == 0
    service.wait_for(lambda: service.value(NEWEST) > 2.0, timeout=10.0)
    recorded = service.value(COUNT)
    assert recorded < 9 * 30
    assert service.hpo("resume", "--study", "s").code == 0
    service.wait_for(lambda: service.value(COUNT) > recorded, timeout=10.0)

    # Not between two trials: the trial of the node's agent must be lost.
    service.wait_for(lambda: service.value(IN_THE_MIDDLE) == 3)
    cluster.kill_node()
    ended = driver.wait().clean()
    assert len(ended.trial_lines) == 9
    assert "9 of 9 trials finished" in ended.out
    # Ray has no third CPU any more.
    assert "agents: 2 of 3 are placed, 1 waits for a place" in ended.out
    service.check_records(9, epochs=30)
    # The trial of the node's agent, and one that it may have prefetched.
    lost = service.rows("SELECT agent_id, device FROM hpo.attempts WHERE outcome = 'lost'")
    assert len({attempt.agent_id for attempt in lost}) == 1
    assert len([attempt for attempt in lost if attempt.device != "next"]) == 1
    assert service.value("SELECT count(DISTINCT agent_id) FROM hpo.attempts") >= 3


def test_address_without_ray_cluster_is_refused_in_one_line(service: Service) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        refused = service.launched("Counted", "--engine", "ray", "--address", nobody)
    assert f"no Ray cluster answers at {nobody}" in refused.complaint()
