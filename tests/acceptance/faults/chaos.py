"""Chaos: a study on three agents while a seeded schedule kills, stops and cuts off its parts.

`make soak` runs it for as long as asked; `test_chaos.py` runs a short form. Which fault comes when is drawn
from the seed; its exact target depends on the machine's timing. A cut of the network goes on while other
faults are injected, so that agents and trainers die, and new ones begin, while the database is away.
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

from storage.embedded.server import EmbeddedServer
from storage.embedded.sockets import answers
from storage.engine import open_database
from tests.acceptance.faults import cuts, trace
from tests.acceptance.faults.cuts import EXPIRED, TRAINING, Cuts, Member
from tests.acceptance.faults.proxy import Proxy
from tests.acceptance.faults.report import HEADER, Report
from tests.acceptance.faults.schedule import FAULTS, Schedule
from tests.acceptance.objectives_for_tests import last_saved
from tests.acceptance.service import Service

T = TypeVar("T")

AGENTS = 3
SLOTS = 2
EPOCHS = 8
EPOCH_SECONDS = 0.05
LEASE_SECONDS = 3.0
CUT_SECONDS = LEASE_SECONDS + 1.0
"""Seconds of a cut: longer than a lease, whose last renewal may be under way when the cut begins."""
SESSION = f"options=-c idle_in_transaction_session_timeout={round(500 * LEASE_SECONDS)}"
"""Half a lease in milliseconds, the default: the row locks of an agent that was cut off in a transaction last so
long, and no other agent can take its trials before."""
EXTENSION = 30
"""Trials by which the budget grows when it is spent before the faults are."""
SAMPLERS = ("tpe", "random", "qmc")
"""The sampler is chosen by the seed: all assertions hold for any of them."""
THOROUGH = 200
"""Least trials of a run that must also show that attempts survive a cut of all agents."""
TEMPLATES = 3
"""Templates that may be killed in a row before their agent fails, as it should."""

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


class NothingToHitError(Exception):
    """The target of a fault is missing, or has just ended."""


class Chaos:
    """One study under fire."""

    def __init__(self, folder: Path, seed: int, trials: int) -> None:
        self.report = Report(seed, trials, SAMPLERS[seed % len(SAMPLERS)])
        self._schedule = Schedule(seed)
        self._targets = random.Random(f"{seed} targets")
        self._server = EmbeddedServer.start(folder / "server", root_base=folder / "root")
        self._service = Service(folder, self._server.url)
        self._trace = folder / "trace"
        self._service.set(
            HPO_LEASE_SECONDS=LEASE_SECONDS, TEST_EPOCH_SECONDS=EPOCH_SECONDS, TEST_TRACE=self._trace
        )
        self._members: list[Member] = []
        self._gone: list[Member] = []
        self._cuts = Cuts(self._service, self._members, CUT_SECONDS)
        self._faults: dict[str, Callable[[], None]] = dict(
            zip(
                FAULTS,
                (
                    self._kill_trainer,
                    self._kill_template,
                    self._kill_agent,
                    self._terminate_agent,
                    self._cut_off_one,
                    self._cut_off_all,
                    self._crash_database,
                ),
                strict=True,
            )
        )

    def run(self, seconds: float = 0.0) -> Report:
        """Drive the study to its end, injecting faults until then and for at least `seconds`.

        On any machine, each kind of fault is injected at least once, one of them during a cut, and one agent is
        fenced; in a long run, an attempt also survives a cut of all agents.
        """
        began = time.monotonic()
        until = began + seconds
        open_database(self._server.url, Path("unused")).close()
        self._service.rows(AUDIT)
        self._launch()
        self._service.wait_for(self._finished, 60)
        while True:
            if self._finished() >= self.report.trials:
                if self._seen and time.monotonic() >= until:
                    break
                self._extend()
            self._cuts.tend()
            self._keep_agents()
            if time.monotonic() < until or not self._seen or self._left > AGENTS * SLOTS:
                self._inject()
            # Between two faults, long enough for a trial to begin and short enough to hit one; and rarely enough
            # in a cut that one agent or another is left to see the end of it.
            time.sleep(
                self._schedule.pause(0.7, 2.0) if self._cuts.under_way else self._schedule.pause(0.1, 0.7)
            )
        self._settle()
        self.report.seconds = time.monotonic() - began
        return self.report

    def check(self) -> None:
        """Assert that the records are consistent to the last epoch."""
        service, one = self._service, self._service.value
        service.check_records(self.report.trials, EPOCHS)
        twice = service.rows("SELECT trial_id FROM audit_tells GROUP BY trial_id HAVING count(*) > 1")
        assert twice == [], "Optuna was told of a trial twice"
        told = one("SELECT count(*) FROM audit_tells")
        assert told == len(service.study().get_trials()), "Optuna was not told of a trial"
        # Created by an agent that was killed before it recorded them: they are never trained.
        strays = service.rows(
            "SELECT t.state::text AS state FROM trials t"
            " WHERE NOT EXISTS (SELECT 1 FROM hpo.trials h WHERE h.trial_id = t.trial_id)"
        )
        assert {stray.state for stray in strays} <= {"FAIL"}, "a trial without a reservation counts"
        assert list((service.folder / "checkpoints" / "s").glob("trial-*")) == [], "left checkpoints"
        late = service.rows(
            "SELECT * FROM hpo.epochs e JOIN hpo.attempts a USING (attempt_id) WHERE e.created_at > a.ended_at"
        )
        assert late == [], "an attempt reported after it had been ended"
        unlike = service.rows(
            "SELECT t.reservation_id, t.outcome, t.lost, count(a.reservation_id) AS n FROM hpo.trials t"
            " JOIN hpo.studies s USING (study_id)"
            " LEFT JOIN hpo.attempts a ON a.reservation_id = t.reservation_id AND a.outcome = 'lost'"
            " GROUP BY t.reservation_id, s.study_id"
            " HAVING t.lost <> count(a.reservation_id)"
            " OR (t.outcome IS NOT DISTINCT FROM 'lost') <> (t.lost >= (s.spec->>'max_lost')::int)"
        )
        assert unlike == [], "a trial is failed when it was lost too often, and only then"
        self._check_leases()
        self._check_resumed()
        report = self.report
        report.failed = one("SELECT count(*) FROM hpo.trials WHERE outcome IN ('bug', 'lost', 'hung')")
        report.attempts = one("SELECT count(*) FROM hpo.attempts")
        lost = service.rows(
            "SELECT error, count(*) AS n FROM hpo.attempts WHERE outcome = 'lost' GROUP BY error"
        )
        report.lost = Counter({row.error: row.n for row in lost})
        report.epochs = one("SELECT count(*) FROM hpo.epochs")
        report.fenced, report.outlived = self._cuts.fenced, self._outlived()
        assert report.trials < THOROUGH or min(report.fenced, report.outlived) > 0, report

    def close(self) -> list[str]:
        """End everything; returns the processes that outlived their agent."""
        survivors = self._service.close()
        for member in self._members:
            member.door.close()
        self._server.close()
        return survivors

    # Assertions.

    def _check_leases(self) -> None:
        """A lease expires if its agent is dead, or was offline while others were not."""
        excused = [
            member.running.pid
            for member in self._gone + self._members
            if member.killed or member.was_cut or member.unheard
        ]
        expired = self._service.rows(
            "SELECT a.attempt_id, a.started_at, a.ended_at, g.pid, g.seen_at FROM hpo.attempts a"
            " JOIN hpo.agents g USING (agent_id)"
            " WHERE a.outcome = 'lost' AND a.error = :e AND NOT g.pid = ANY(:p)",
            e=EXPIRED,
            p=excused,
        )
        assert expired == [], (
            "a lease was taken from a living agent that was offline together with all others"
        )

    def _check_resumed(self) -> None:
        """Every attempt resumed from the last saved epoch, and recorded that: see `trace.costs`."""
        service = self._service
        cut = [member.running.pid for member in self._gone + self._members if member.was_cut]
        taken = service.rows(
            "SELECT a.pid FROM hpo.attempts a JOIN hpo.agents g USING (agent_id)"
            " WHERE a.outcome = 'lost' AND a.error = :e AND g.pid = ANY(:p)",
            e=EXPIRED,
            p=cut,
        )
        costs = trace.costs(trace.read(self._trace), {row.pid for row in taken}, last_saved)
        for begun in service.rows(
            "SELECT seed, a.pid, a.resumed_from, max(e.epoch) AS kept FROM hpo.attempts a"
            " JOIN hpo.trials t USING (reservation_id)"
            " LEFT JOIN hpo.epochs e ON e.reservation_id = a.reservation_id AND e.attempt_id < a.attempt_id"
            " WHERE a.pid IS NOT NULL GROUP BY a.attempt_id, t.reservation_id"
        ):
            # An attempt that was killed before its objective began is in the database alone.
            noted = costs.resumed.get((begun.seed, begun.pid), begun.resumed_from)
            assert begun.resumed_from == noted, begun
            # Later epochs of earlier attempts were trained again, so their rows are deleted.
            assert begun.resumed_from >= (begun.kept or 0), begun
        self.report.again, self.report.late = costs.again, costs.late

    # The study continues.

    def _finished(self) -> int:
        with suppress(Exception):
            counted: int = self._service.value(
                "SELECT count(*) FROM hpo.trials WHERE outcome IN ('complete', 'pruned', 'diverged', 'oom')"
            )
            return counted
        return 0

    def _launch(self) -> None:
        door = Proxy(self._server.place.socket)
        if self._cuts.all_cut:
            door.cut()
        self._service.set(HPO_STORAGE=f"postgresql://postgres@127.0.0.1:{door.port}/postgres?{SESSION}")
        # With the default of --max-lost: another trial replaces a failed one, so the same number finishes.
        running = self._service.launch(
            "Traced",
            "--trials", self.report.trials, "--epochs", EPOCHS, "--workers", SLOTS,
            "--sampler", self.report.sampler,
        )  # fmt: skip
        self._members.append(Member(running, door))

    def _keep_agents(self) -> None:
        for member in list(self._members):
            if not member.running.alive:
                self._members.remove(member)
                self._reap(member)
        while len(self._members) < AGENTS:
            self._launch()

    def _reap(self, member: Member) -> None:
        member.door.close()
        self._gone.append(member)
        ended = member.running.wait()
        # An agent that is interrupted during an outage reports that.
        wanted = {0, 130, 1} if member.unheard else {0, 130} if member.terminated else {0}
        if not member.killed and member.templates_killed < TEMPLATES:
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
        seen = set(FAULTS) <= set(report.faults) and report.during_cuts > 0 and self._cuts.fenced > 0
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
        self._await(lambda: self._cuts.settled, 2 * cuts.SECONDS)
        for member in self._members:
            member.running.wait(120)
            self._reap(member)
        self._members.clear()
        self._launch()
        last = self._members[-1].running.wait(120)
        assert last.code == 0, last.err

    # Faults.

    def _inject(self) -> None:
        kind = self._schedule.next()
        cutting = self._cuts.under_way
        # It is retried a little later, before any other fault.
        with suppress(NothingToHitError, psutil.NoSuchProcess, ProcessLookupError):
            self._faults[kind]()
            self._schedule.done()
            self.report.faults[kind] += 1
            self.report.during_cuts += cutting

    def _kill_trainer(self) -> None:
        self._choose(self._trainers()).kill()

    def _kill_template(self) -> None:
        member = self._any_member()
        try:
            member.running.template.kill()
        except StopIteration:
            raise NothingToHitError from None
        member.templates_killed += 1

    def _kill_agent(self) -> None:
        member = self._any_member()
        member.killed = True
        member.running.kill()

    def _terminate_agent(self) -> None:
        member = self._any_member()
        member.terminated = True
        member.unheard = self._cuts.away(member)
        running = member.running
        running.send_signal(signal.SIGTERM)
        began = time.monotonic()
        self._await(lambda: not running.alive, 20)
        assert time.monotonic() - began < 10, "the agent ended too late after SIGTERM"
        held = self._service.rows(
            "SELECT * FROM hpo.attempts a JOIN hpo.agents g USING (agent_id) WHERE g.pid = :p AND a.ended_at IS NULL",
            p=running.pid,
        )
        ended = running.wait()
        assert held == [] or member.unheard, (
            f"leases were kept: {held}\n{ended.code} {ended.err}\n{ended.out[-2000:]}"
        )

    def _cut_off_one(self) -> None:
        able = [member for member in self._members if member.cut_until is None and self._joined(member)]
        if len(able) < 2:
            # No agent would be left to take its trials.
            raise NothingToHitError
        member = self._choose(each for each in able if self._service.rows(TRAINING, p=each.running.pid))
        self._cuts.cut_one(member)

    def _cut_off_all(self) -> None:
        if self._cuts.all_cut or not any(map(self._joined, self._members)):
            raise NothingToHitError
        self._cuts.cut_all()

    def _crash_database(self) -> None:
        pid = int((self._server.place.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        # A server that is still shutting down answers, and would not be restarted.
        self._service.wait_for(lambda: not answers(self._server.place.socket), 30)
        time.sleep(self._schedule.pause(0.2, 2.0))
        self._server.ensure_running()

    def _await(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait for a condition, and end cuts that are over meanwhile."""
        self._service.wait_for(lambda: self._cuts.tend() or condition(), timeout)

    # Targets.

    def _trainers(self) -> Iterator[psutil.Process]:
        for member in self._members:
            with suppress(psutil.NoSuchProcess):
                for template in psutil.Process(member.running.pid).children():
                    yield from template.children()

    def _any_member(self) -> Member:
        """Return an agent that has joined the study."""
        return self._choose(member for member in self._members if self._joined(member))

    def _choose(self, candidates: Iterable[T]) -> T:
        if not (found := list(candidates)):
            raise NothingToHitError
        return self._targets.choice(found)

    def _joined(self, member: Member) -> bool:
        return member.running.alive and bool(
            self._service.rows(
                "SELECT 1 FROM hpo.agents WHERE pid = :p AND ended_at IS NULL", p=member.running.pid
            )
        )


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
