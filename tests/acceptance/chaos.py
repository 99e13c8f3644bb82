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
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from storage.embedded import EmbeddedServer, answers
from storage.engine import open_database
from tests.acceptance.proxy import Proxy
from tests.acceptance.service import Running, Service

AGENTS = 3
SLOTS = 2
EPOCHS = 8
EPOCH_SECONDS = 0.05
LEASE_SECONDS = 3.0
EXTENSION = 30
"""Trials by which the budget grows when it is spent before the faults are."""

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
    """Epochs trained more than once, because neither a checkpoint nor a report of them was left."""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "faults": dict(sorted(self.faults.items())), "seconds": round(self.seconds, 1)}


class Chaos:
    """One study under fire."""

    def __init__(self, folder: Path, seed: int, trials: int) -> None:
        self.report = Report(seed, trials)
        self._random = random.Random(seed)
        self._server = EmbeddedServer.start(folder / "server", root_base=folder / "root")
        self._service = Service(folder, self._server.url)
        self._tally = folder / "tally"
        self._service.set(
            HPO_LEASE_SECONDS=LEASE_SECONDS, TEST_EPOCH_SECONDS=EPOCH_SECONDS, TEST_TALLY=self._tally
        )
        self._agents: dict[Running, Proxy] = {}
        # How often each comes in a deck, from which they are drawn: so every kind occurs soon and often.
        self._faults: dict[Callable[[], None], tuple[str, int]] = {
            self._kill_trainer: ("trainer killed", 4),
            self._kill_template: ("template killed", 2),
            self._kill_agent: ("agent killed", 2),
            self._terminate_agent: ("agent terminated", 2),
            self._cut_off: ("agent cut off the database", 1),
            self._crash_database: ("PostgreSQL crashed and restarted", 1),
        }
        self._deck: list[Callable[[], None]] = []

    def run(self, seconds: float = 0.0) -> Report:
        """Drive the study to its end, injecting faults until then and for at least `seconds`.

        However fast the machine is, each kind of fault is injected at least once.
        """
        began = time.monotonic()
        open_database(self._server.url, Path("unused")).close()
        self._service.rows(AUDIT)
        self._launch()
        self._service.await_(self._finished, 60)
        while True:
            if self._finished() >= self.report.trials:
                if not self._wants_more(began, seconds):
                    break
                self._extend()
            self._keep_agents()
            self._inject()
            # Between two faults, long enough for a trial to begin and short enough to hit one.
            time.sleep(self._random.uniform(0.05, 0.4))
        self._settle()
        self.report.seconds = time.monotonic() - began
        return self.report

    def check(self) -> None:
        """The books balance to the last epoch."""
        service = self._service
        service.check_books(self.report.trials, EPOCHS)
        twice = service.rows("SELECT trial_id FROM audit_tells GROUP BY trial_id HAVING count(*) > 1")
        assert twice == [], "a trial was told twice"
        told = service.value("SELECT count(*) FROM audit_tells")
        assert told == len(service.study().get_trials()), "a trial was not told"
        # Made by an agent that was killed before it could say so; nobody ever trains them.
        strays = service.rows(
            "SELECT t.state::text AS state FROM trials t"
            " WHERE NOT EXISTS (SELECT 1 FROM hpo.trials h WHERE h.trial_id = t.trial_id)"
        )
        assert {stray.state for stray in strays} <= {"FAIL"}, "a trial that no share knows counts"
        assert list((service.folder / "checkpoints" / "s").glob("trial-*")) == [], "left checkpoints"
        one, report = service.value, self.report
        report.failed = one("SELECT count(*) FROM hpo.trials WHERE outcome IN ('bug', 'lost', 'hung')")
        report.attempts = one("SELECT count(*) FROM hpo.attempts")
        report.lost = one("SELECT count(*) FROM hpo.attempts WHERE outcome = 'lost'")
        report.epochs = one("SELECT count(*) FROM hpo.epochs")
        report.retrained = len(self._tally.read_text().splitlines()) - report.epochs

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
            "Tallied",
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
        if not self._deck:
            self._deck = [fault for fault, (_, often) in self._faults.items() for _ in range(often)]
            self._random.shuffle(self._deck)
        fault = self._deck.pop()
        try:
            fault()
            self.report.faults[self._faults[fault][0]] += 1
        except (psutil.NoSuchProcess, ProcessLookupError, LookupError, StopIteration):
            # What it would have hit had just ended: it is drawn again, later.
            self._deck.insert(0, fault)

    def _kill_trainer(self) -> None:
        self._random.choice(list(self._trainers())).kill()

    def _kill_template(self) -> None:
        self._any_agent().template.kill()

    def _kill_agent(self) -> None:
        self._any_agent().kill()

    def _terminate_agent(self) -> None:
        running = self._any_agent()
        running.send_signal(signal.SIGTERM)
        began = time.monotonic()
        self._service.await_(lambda: not running.alive, 20)
        assert time.monotonic() - began < 10, "SIGTERM was obeyed too late"
        held = self._service.rows(
            "SELECT * FROM hpo.attempts a JOIN hpo.agents g USING (agent_id) WHERE g.pid = :p AND a.ended_at IS NULL",
            p=running.pid,
        )
        ended = running.wait()
        assert held == [], f"leases were kept: {held}\n{ended.code} {ended.err}\n{ended.out[-2000:]}"

    def _cut_off(self) -> None:
        """For longer than a lease: the agent is fenced, and finds out when it is back."""
        proxy = self._agents[self._any_agent()]
        proxy.cut()
        time.sleep(LEASE_SECONDS + 1.5)
        proxy.heal()

    def _crash_database(self) -> None:
        pid = int((self._server.place.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        # One that is only dying still answers, and would not be started again.
        self._service.await_(lambda: not answers(self._server.place.socket), 30)
        time.sleep(self._random.uniform(0.2, 2.0))
        self._server.ensure_running()

    def _trainers(self) -> Iterator[psutil.Process]:
        for running in self._agents:
            with suppress(psutil.NoSuchProcess):
                for template in psutil.Process(running.pid).children():
                    yield from template.children()

    def _any_agent(self) -> Running:
        """One that trains: another would only begin later."""
        return self._random.choice([running for running in self._agents if self._joined(running)])

    def _joined(self, running: Running) -> bool:
        return bool(
            self._service.rows("SELECT 1 FROM hpo.agents WHERE pid = :p AND ended_at IS NULL", p=running.pid)
        )

    def _wants_more(self, began: float, seconds: float) -> bool:
        kinds = {name for name, _ in self._faults.values()}
        return time.monotonic() - began < seconds or not kinds <= set(self.report.faults)

    def _extend(self) -> None:
        self.report.trials += EXTENSION
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
