"""Chaos: a study on three agents while a seeded schedule kills, stops and cuts off its parts.

`make soak` runs it for as long as asked; `test_chaos.py` runs a short form. Which fault comes when is drawn
from the seed; its exact target depends on the machine's timing. A cut of the network goes on while other
faults are injected, so that agents and trainers die, and new ones begin, while the database is away.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

from hpo.outcomes import COUNTED
from storage.embedded.server import EmbeddedServer
from storage.opening import open_database
from tests.acceptance.faults import cuts
from tests.acceptance.faults.checks import ChaosChecks, left_files
from tests.acceptance.faults.clocks import DatabaseClock, HostClock
from tests.acceptance.faults.cuts import Cuts, Member
from tests.acceptance.faults.disk import SmallDisk
from tests.acceptance.faults.injector import Injector, NothingToHitError
from tests.acceptance.faults.proxy import Proxy
from tests.acceptance.faults.report import HEADER, Report
from tests.acceptance.faults.schedule import DISK_FULL, FAULTS, Schedule
from tests.acceptance.hpo_commands import HpoCommands
from tests.acceptance.service import Service

AGENTS = 3
SLOTS = 2
EPOCHS = 8
EPOCH_SECONDS = 0.05
LEASE_SECONDS = 3.0
HUNG_SECONDS = 5.0
CUT_SECONDS = LEASE_SECONDS + 1.0
"""Seconds of a cut: longer than a lease, whose last renewal may be under way when the cut begins."""
SESSION = f"options=-c idle_in_transaction_session_timeout={round(500 * LEASE_SECONDS)}"
"""Half a lease in milliseconds, the default: the row locks of an agent that was cut off in a transaction last so
long, and no other agent can take its trials before."""
EXTENSION = 30
"""Trials by which the budget grows when it is spent before the faults are."""
SAMPLERS = ("tpe", "random", "qmc")
"""The sampler is chosen by the seed: all assertions hold for any of them."""
PRUNERS = ("none", "median", "freeze-thaw")
"""The pruner, too: without one, each trial has all its epochs to be interrupted in."""
THOROUGH = 100
"""Least trials of a run that must also show that attempts survive a cut of all agents."""
TEMPLATES = 3
"""Templates that may be killed in a row before their agent fails, as it should."""
NO_SPACE = re.compile("no space left|No space left|cannot be written")

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
"""A trigger that records each final state of a trial, independently of the service's own records."""

AUDIT_REOPENED = """
CREATE TABLE audit_reopened (trial_id integer, seed bigint, pid integer, was_paused boolean);
CREATE FUNCTION audit_reopen() RETURNS trigger AS $$
BEGIN
  INSERT INTO audit_reopened SELECT NEW.trial_id, NEW.seed,
    (SELECT pid FROM hpo.attempts a WHERE a.reservation_id = NEW.reservation_id ORDER BY attempt_id DESC LIMIT 1),
    OLD.outcome = 'pruned' AND OLD.paused_epoch IS NOT NULL;
  RETURN NEW;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER audit_reopen AFTER UPDATE OF outcome ON hpo.trials FOR EACH ROW
  WHEN (OLD.outcome IS NOT NULL AND NEW.outcome IS NULL) EXECUTE FUNCTION audit_reopen();
"""
"""A trigger that records each ended trial that is open again, with its last trainer: the budget was raised."""

AUDIT_EPOCHS = """
CREATE TABLE audit_late (attempt_id bigint, epoch integer);
CREATE FUNCTION audit_epoch() RETURNS trigger AS $$
BEGIN
  INSERT INTO audit_late SELECT NEW.attempt_id, NEW.epoch FROM hpo.attempts a
    WHERE a.attempt_id = NEW.attempt_id AND a.ended_at IS NOT NULL;
  RETURN NEW;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER audit_epoch AFTER INSERT OR UPDATE ON hpo.epochs FOR EACH ROW EXECUTE FUNCTION audit_epoch();
"""
"""A trigger that records each epoch of an attempt that has ended, whatever the clock shows."""


class Chaos:
    """One study under fire."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        trials: int,
        deck: Mapping[str, int] = FAULTS,
        commands: HpoCommands | None = None,
    ) -> None:
        """Draw faults from `deck`; those that this host does not allow are left out.

        `commands` forks the agents, whose clocks cannot be set then.
        """
        sampler, pruner = seed % len(SAMPLERS), seed // len(SAMPLERS) % len(PRUNERS)
        self.report = Report(seed, trials, SAMPLERS[sampler], PRUNERS[pruner])
        self._folder = folder
        self._server = EmbeddedServer.start(folder / "server", root_base=folder / "root")
        self._disk = SmallDisk(folder / "disk", DISK_FULL in deck)
        self._schedule = Schedule(
            seed, {kind: often for kind, often in deck.items() if kind != DISK_FULL or self._disk.small}
        )
        self._clock = DatabaseClock(self._server.url)
        self._service = Service(folder, self._server.url, commands)
        self._service.set(
            HPO_HOME=self._disk.folder / "home",
            HPO_CHECKPOINTS=self._disk.folder / "checkpoints",
            HPO_LEASE_SECONDS=LEASE_SECONDS,
            TEST_EPOCH_SECONDS=EPOCH_SECONDS,
            TEST_TRACE=folder / "trace",
        )
        self._numbers = count()
        self._members: list[Member] = []
        self._gone: list[Member] = []
        self._cuts = Cuts(self._service, self._members, CUT_SECONDS)
        self._injector = Injector(
            self._service,
            self._server,
            self._members,
            cuts=self._cuts,
            disk=self._disk,
            clock=self._clock,
            schedule=self._schedule,
            lease_seconds=LEASE_SECONDS,
            hung_seconds=HUNG_SECONDS,
        )

    @property
    def kinds(self) -> frozenset[str]:
        """The faults that may occur."""
        return self._schedule.kinds

    def run(self, seconds: float = 0.0) -> Report:
        """Drive the study to its end, injecting faults until then and for at least `seconds`.

        On any machine, each kind of fault is injected at least once, one of them during a cut, and one agent is
        fenced; in a long run, an attempt also survives a cut of all agents.
        """
        began = time.monotonic()
        until = began + seconds
        open_database(self._server.url, Path("unused")).close()
        self._service.rows(AUDIT)
        self._service.rows(AUDIT_REOPENED)
        self._service.rows(AUDIT_EPOCHS)
        self._launch()
        self._service.wait_for(self._finished, 60)
        while True:
            if self._finished() >= self.report.trials:
                if self._seen and time.monotonic() >= until:
                    break
                self._extend()
            self._keep_agents()
            if time.monotonic() < until or not self._seen or self._left > AGENTS * SLOTS:
                self._inject()
            # Between two faults, long enough for a trial to begin and short enough to hit one; and rarely enough
            # in a cut that one agent or another is left to see the end of it.
            over = time.monotonic() + (
                self._schedule.pause(0.7, 2.0) if self._cuts.under_way else self._schedule.pause(0.1, 0.7)
            )
            self._injector.wait_for(lambda end=over: time.monotonic() >= end, 60)  # type: ignore[misc]
        self._settle()
        self.report.seconds = time.monotonic() - began
        return self.report

    def check(self) -> None:
        """Assert that the records are consistent to the last epoch, and that no file is left."""
        checks = ChaosChecks(self._service, self._gone + self._members, self._folder / "trace")
        checks.check(self.report.trials, EPOCHS)
        checks.fill_in(self.report)
        self.report.fenced, self.report.outlived = self._cuts.fenced, self._outlived()
        assert self.report.trials < THOROUGH or min(self.report.fenced, self.report.outlived) > 0, self.report
        left = left_files(self._disk.folder, self._gone + self._members)
        assert left == [], f"left files: {left}"

    def close(self) -> list[str]:
        """End everything; returns the processes that outlived their agent or their server."""
        self._disk.free()
        survivors = self._service.close()
        for member in self._members:
            member.door.close()
        self._server.close()
        self._disk.close()
        data = self._folder / "server"
        return survivors + [f"a server of {data}" for _ in data.glob("**/postmaster.pid")]

    # The study continues.

    def _finished(self) -> int:
        with suppress(Exception):
            counted: int = self._service.value(
                "SELECT count(*) FROM hpo.trials WHERE outcome = ANY(:counted)", counted=list(COUNTED)
            )
            return counted
        return 0

    def _launch(self) -> None:
        door, clock = (
            Proxy(self._server.place.socket),
            HostClock(self._folder / f"clock-{next(self._numbers)}"),
        )
        if self._cuts.all_cut:
            door.cut()
        self._service.set(**clock.environment)
        self._service.set(HPO_STORAGE=f"postgresql://postgres@127.0.0.1:{door.port}/postgres?{SESSION}")
        # With the default of --max-lost: another trial replaces a failed one, so the same number finishes.
        running = self._service.launch(
            "Traced",
            "--trials", self.report.trials, "--epochs", EPOCHS, "--workers", SLOTS,
            "--sampler", self.report.sampler, "--pruner", self.report.pruner, "--hung-after", HUNG_SECONDS,
        )  # fmt: skip
        self._members.append(Member(running, door, clock))

    def _keep_agents(self) -> None:
        for member in list(self._members):
            if not member.running.alive:
                self._members.remove(member)
                self._reap(member)
        while len(self._members) < AGENTS and not self._disk.full:
            self._launch()

    def _reap(self, member: Member) -> None:
        member.door.close()
        self._gone.append(member)
        ended = member.running.wait()
        # An agent that is interrupted during an outage reports that.
        wanted = {0, 130, 1} if member.unheard else {0, 130} if member.terminated else {0}
        if member.disk_was_full and NO_SPACE.search(ended.err):
            assert ended.complaint(), ended
        elif not member.killed and member.templates_killed < TEMPLATES:
            assert ended.code in wanted, (
                f"an agent ended by itself: {ended.code} {ended.err}\n{ended.out[-2000:]}"
            )

    @property
    def _left(self) -> int:
        """Trials that may be hit: not the last ones, because each fault would hit the same one again.

        In a short run, none after all kinds of faults have occurred.
        """
        return self.report.trials - self._finished() if self.report.trials >= THOROUGH else 0

    @property
    def _seen(self) -> bool:
        """Whether all kinds of faults and their effects have occurred."""
        report = self.report
        seen = self._schedule.kinds <= set(report.faults) and report.during_cuts > 0 and self._cuts.fenced > 0
        return seen and (report.trials < THOROUGH or self._outlived() > 0)

    def _outlived(self) -> int:
        count: int = self._service.value(
            "SELECT count(*) FROM hpo.attempts WHERE attempt_id = ANY(:a) AND outcome <> 'lost'",
            a=list(self._cuts.outliving),
        )
        return count

    def _extend(self) -> None:
        self.report.trials += EXTENSION
        self._launch()

    def _settle(self) -> None:
        """Let one more agent clean up after the last fault, and wait until all agents end by themselves."""
        self._injector.wait_for(lambda: self._injector.settled, 2 * cuts.SECONDS)
        for member in self._members:
            member.running.wait(120)
            self._reap(member)
        self._members.clear()
        self._launch()
        last = self._members[-1].running.wait(120)
        assert last.code == 0, last.err

    def _inject(self) -> None:
        kind = self._schedule.next()
        cutting = self._cuts.under_way
        # It is retried a little later, before any other fault.
        with suppress(NothingToHitError):
            self._injector.inject(kind)
            self._schedule.done()
            self.report.faults[kind] += 1
            self.report.during_cuts += cutting


def main() -> None:
    """`python -m tests.acceptance.faults.chaos`: prints the figures as JSON, and as a row of a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.0, help="least duration")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="hpo-chaos-") as folder:
        Path(folder).chmod(0o755)
        chaos = Chaos(Path(folder), arguments.seed, arguments.trials)
        if DISK_FULL not in chaos.kinds:
            print("the disk is never full: only root may mount a small one")
        try:
            report = chaos.run(arguments.seconds)
            chaos.check()
        finally:
            survivors = chaos.close()
    print(json.dumps(report.to_json(), indent=2))
    print(HEADER, report.row(), sep="\n")
    if survivors:
        sys.exit("processes outlived their agent: " + "; ".join(survivors))


if __name__ == "__main__":
    main()
