"""Chaos: a study on three agents while a seeded schedule kills, stops and cuts off whatever it is made of.

`make chaos` runs it for as long as asked; `test_chaos.py` runs a short form. A fault is drawn from
the seed, and so is the time between two; what exactly it hits depends on the machine's timing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from storage.embedded import EmbeddedServer
from tests.acceptance.proxy import Proxy
from tests.acceptance.service import Running, Service

AGENTS = 3
SLOTS = 2
EPOCHS = 8
LEASE_SECONDS = 3.0

AUDIT = """
CREATE TABLE audit_tells (trial_id integer, state text);
CREATE FUNCTION audit_tell() RETURNS trigger AS $$
BEGIN
  INSERT INTO audit_tells VALUES (NEW.trial_id, NEW.state::text);
  RETURN NEW;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER audit_tell AFTER UPDATE OF state ON trials FOR EACH ROW
  WHEN (NEW.state::text IN ('COMPLETE', 'PRUNED', 'FAIL')) EXECUTE FUNCTION audit_tell();
"""
"""Every time that a trial is told, by whomever: a trigger sees what the service's own books might hide."""


@dataclass
class Report:
    """What was done to the study, and what it cost."""

    seed: int
    trials: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    attempts: int = 0
    lost: int = 0
    epochs: int = 0
    """Kept, in all trials."""
    retrained: int = 0
    """Epochs trained more than once, because their checkpoint or report was lost."""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "faults": dict(sorted(self.faults.items())), "seconds": round(self.seconds, 1)}


class Chaos:
    """One study under fire."""

    def __init__(self, folder: Path, seed: int, trials: int) -> None:
        self.report = Report(seed, trials)
        self._random = random.Random(seed)
        self._server = EmbeddedServer.start(folder / "server", root_base=folder / "root")
        self._service = Service(folder, self._server.url)
        self._service.set(HPO_LEASE_SECONDS=LEASE_SECONDS, TEST_EPOCH_SECONDS=0.03)
        self._agents: dict[Running, Proxy] = {}
        self._faults: list[tuple[str, Callable[[], bool], int]] = [
            ("trainer killed", self._kill_trainer, 8),
            ("template killed", self._kill_template, 3),
            ("agent killed", self._kill_agent, 4),
            ("agent terminated", self._terminate_agent, 3),
            ("agent cut off the database", self._cut_off, 2),
            ("PostgreSQL crashed and restarted", self._crash_database, 1),
        ]

    def run(self, seconds: float = 0.0) -> Report:
        """Drive the study to its end, injecting faults until then and for at least `seconds`."""
        began = time.monotonic()
        self._launch()
        self._service.await_(self._finished, 60)
        self._service.rows(AUDIT)
        while self._finished() < self.report.trials:
            self._keep_agents()
            self._inject()
            # Between two faults, long enough for a trial to begin and short enough to hit one.
            time.sleep(self._random.uniform(0.1, 0.8))
            if self._finished() >= self.report.trials and time.monotonic() - began < seconds:
                self._extend()
        self._settle()
        self.report.seconds = time.monotonic() - began
        return self.report

    def check(self) -> None:
        """The books balance to the last epoch."""
        service = self._service
        service.check_books(self.report.trials, EPOCHS)
        twice = service.rows("SELECT trial_id FROM audit_tells GROUP BY trial_id HAVING count(*) > 1")
        assert twice == [], "a trial was told twice"
        shares = service.value("SELECT count(*) FROM hpo.trials WHERE trial_id IS NOT NULL")
        known = len(service.study().get_trials())
        strays = service.value(
            "SELECT count(*) FROM trials t WHERE NOT EXISTS (SELECT 1 FROM hpo.trials h WHERE h.trial_id = t.trial_id)"
        )
        assert known == shares + strays
        one = service.rows
        self.report.failed = one("SELECT count(*) FROM hpo.trials WHERE outcome IN ('bug', 'lost', 'hung')")[
            0
        ][0]
        self.report.attempts = one("SELECT count(*) FROM hpo.attempts")[0][0]
        self.report.lost = one("SELECT count(*) FROM hpo.attempts WHERE outcome = 'lost'")[0][0]
        self.report.epochs = one("SELECT count(*) FROM hpo.epochs")[0][0]
        self.report.retrained = (
            one("SELECT coalesce(sum(epochs), 0) FROM hpo.attempts")[0][0] - self.report.epochs
        )

    def close(self) -> list[str]:
        """End everything; returns the processes that outlived their agent."""
        survivors = self._service.close()
        for proxy in self._agents.values():
            proxy.close()
        self._server.close()
        return survivors

    def _finished(self) -> int:
        with suppress(Exception):
            counted: int = self._service.value(
                "SELECT count(*) FROM hpo.trials WHERE outcome IN ('complete', 'pruned', 'diverged', 'oom')"
            )
            return counted
        return 0

    def _launch(self) -> None:
        proxy = Proxy(self._server.place.socket)
        self._service.set(HPO_STORAGE=f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres")
        running = self._service.launch(
            "Counted",
            "--trials", self.report.trials, "--epochs", EPOCHS, "--workers", SLOTS,
            "--max-lost", 1000, "--sampler", "random",
        )  # fmt: skip
        self._agents[running] = proxy

    def _keep_agents(self) -> None:
        for running, proxy in list(self._agents.items()):
            if not running.alive:
                proxy.close()
                del self._agents[running]
        while len(self._agents) < AGENTS:
            self._launch()

    def _inject(self) -> None:
        names = [fault[0] for fault in self._faults]
        weights = [fault[2] for fault in self._faults]
        name = self._random.choices(names, weights)[0]
        fault = next(f for n, f, _ in self._faults if n == name)
        with suppress(psutil.NoSuchProcess, ProcessLookupError, StopIteration):
            if fault():
                self.report.faults[name] += 1

    def _kill_trainer(self) -> bool:
        trainers = [
            trainer
            for running in self._agents
            for template in psutil.Process(running.pid).children()
            for trainer in template.children()
        ]
        if not trainers:
            return False
        self._random.choice(trainers).kill()
        return True

    def _kill_template(self) -> bool:
        self._any_agent().template.kill()
        return True

    def _kill_agent(self) -> bool:
        self._any_agent().kill()
        return True

    def _terminate_agent(self) -> bool:
        running = self._any_agent()
        running.send_signal(signal.SIGTERM)
        began = time.monotonic()
        self._service.await_(lambda: not running.alive, 20)
        assert time.monotonic() - began < 15, "SIGTERM was obeyed too late"
        return True

    def _cut_off(self) -> bool:
        """For longer than a lease: the agent is fenced, and finds out when it is back."""
        proxy = self._agents[self._any_agent()]
        proxy.cut()
        time.sleep(LEASE_SECONDS + 1.5)
        proxy.heal()
        return True

    def _crash_database(self) -> bool:
        pid = int((self._server.place.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        time.sleep(self._random.uniform(0.2, 2.0))
        self._server.ensure_running()
        return True

    def _any_agent(self) -> Running:
        return self._random.choice(list(self._agents))

    def _extend(self) -> None:
        self.report.trials += 50
        self._launch()

    def _settle(self) -> None:
        """Let one more agent see to what the last fault left behind, and all end by themselves."""
        for proxy in self._agents.values():
            proxy.heal()
        for running in self._agents:
            running.wait(120)
        self._launch()
        last = list(self._agents)[-1].wait(120)
        assert last.code == 0, last.err


def main() -> None:
    """`python -m tests.acceptance.chaos`: prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.0, help="go on for at least so long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="hpo-chaos-") as folder:
        Path(folder).chmod(0o755)
        chaos = Chaos(Path(folder), arguments.seed, arguments.trials)
        try:
            report = chaos.run(arguments.seconds)
            chaos.check()
        finally:
            survivors = chaos.close()
    print(json.dumps(report.to_json(), indent=2))
    if survivors:
        sys.exit("processes outlived their agent: " + "; ".join(survivors))


if __name__ == "__main__":
    main()
