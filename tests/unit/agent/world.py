"""An agent with all that it deals with, without processes or a database."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from hpo.agent.agent import Agent
from hpo.agent.attempts import AttemptTable
from hpo.agent.cleanup import Cleanup
from hpo.agent.store.testing.study import FakeStudy
from hpo.agent.store.testing.trial_store import FakeTrialStore
from hpo.outcomes import Outcome
from hpo.process.shutdown import ExitCode
from hpo.process.signals import SignalHandler
from hpo.terminal.progress import View
from hpo.terminal.trial_lines import TrialEnd
from hpo.trainer.ends.exits import Event, TrainerExited
from hpo.trainer.messages import Epoch, EpochRecord, Start, Started
from hpo.trainer.supervisor import Supervisor
from hpo.trainer.testing import FakePool, trained
from tests.specs import spec

KILLED = TrainerExited("its process was ended by SIGKILL", -signal.SIGKILL)


CRASHED = TrainerExited("its process was ended by SIGSEGV", -signal.SIGSEGV)


STARVED = TrainerExited("the kernel killed its process", -signal.SIGKILL, out_of_memory=True)


class FakeProgress:
    def __init__(self) -> None:
        self.ended: list[TrialEnd] = []
        self.views: list[View] = []

    def update(self, view: View) -> None:
        self.views.append(view)

    def trial_ended(self, trial: TrialEnd, _counts: object) -> None:
        self.ended.append(trial)


class FakeRenewal:
    lost: frozenset[int] = frozenset()
    last_error: str | None = None

    def heartbeat(self) -> None:
        pass

    def fenced(self) -> frozenset[int]:
        return self.lost


class World:
    """An agent with all that it deals with."""

    def __init__(self, folder: Path, budget: int = 1, slots: int = 1) -> None:
        self.study = FakeStudy(spec=spec(pruner="median"), budget=budget)
        self.pool = FakePool(slots=slots)
        self.signals = SignalHandler()
        self.store = FakeTrialStore(self.study)
        self.progress, self.renewal = FakeProgress(), FakeRenewal()
        self.folder = folder

    def agent(
        self, hung_seconds: float = 60.0, memory_bytes: int | None = None, timeout: float | None = None
    ) -> Agent:
        self.supervisor = Supervisor(
            self.pool, self.signals, hung_seconds=hung_seconds, memory_bytes=memory_bytes
        )
        cleanup = Cleanup("s", self.store, self.folder / "checkpoints", self.folder / "logs", None)
        self.table = AttemptTable(self.study.spec, self.store, self.supervisor, cleanup)
        return Agent(self.store, self.supervisor, self.table, self.renewal, cleanup, self.progress, timeout)

    def run(self, **options: float) -> ExitCode:
        return self.agent(**options).run()

    def after(self, waits: int, act: Callable[[], object]) -> None:
        """Call `act` once, when the agent listens for that many times."""
        count = 0

        def on_wait() -> None:
            nonlocal count
            count += 1
            if count == waits:
                act()

        self.pool.on_wait = on_wait

    def signal(self, waits: int, *numbers: int) -> None:
        self.after(waits, lambda: self.signals.received.extend(numbers))

    def expire(self) -> None:
        """Let another agent end all attempts."""
        self.study.expire_leases()
        FakeTrialStore(self.study).reap_expired()

    def prefetching_agent(self) -> Agent:
        """Return an agent that prefetches: its first trial leaves it a turn without an event."""
        agent = self.agent()
        self.table.prefetcher.record_claim(1.0)
        self.table.prefetcher.record_trial(1.0)
        self.pool.scripts = [events(Started(1, 0))]
        return agent

    def finish_first(self) -> None:
        self.pool._trainers[0].events = trained(self.pool.starts[0])[1:]

    @property
    def outcomes(self) -> list[Outcome | None]:
        return [trial.outcome for trial in self.study.trials]

    @property
    def attempts(self) -> list[Outcome | None]:
        return [attempt.outcome for attempt in self.study.attempts]


def events(*of: Event) -> Callable[[Start], list[Event]]:
    return lambda _start: list(of)


def epoch(number: int, loss: float = 0.5) -> Epoch:
    return Epoch(EpochRecord(number, {"loss": loss}, 0.01))


TERMINATED = TrainerExited("its process was ended by SIGTERM", -signal.SIGTERM)
