"""Monitor of a study whose agents run elsewhere: it shows progress and stops the agents.

The progress of the study comes from the database, through which pause and stop reach the agents too. The
monitor adds Ctrl-C, `--timeout` and the end of the agents once the budget is spent.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from hpo.engines.progress_feed import ProgressFeed, Update
from hpo.errors import HpoError
from hpo.process.shutdown import INTERRUPT_GRACE_SECONDS, INTERRUPTED_MESSAGE, ExitCode
from hpo.study.definition.launched_study import LaunchedStudy
from hpo.study.monitoring.study_status import StudyStatus
from hpo.terminal.pace import Pace
from hpo.terminal.progress import Progress, SlotView, View
from hpo.terminal.trial_lines import TrialEnd
from storage.budget import Counts

log = logging.getLogger(__name__)


class AgentsFailedError(HpoError):
    """All agents have ended before the study is finished; the message is the error of the last one."""


@dataclass(frozen=True)
class AgentStates:
    """States of the requested agents."""

    wanted: int
    placed: int
    """Agents that run; agents waiting for a node are not included."""
    ended: int
    """Agents that will not run again."""
    errors: Sequence[str] = field(default_factory=tuple)
    """New errors of agents, one line each."""
    nodes: Sequence[str] = field(default_factory=tuple)
    """Node of each placed agent."""


class Placement(Protocol):
    """The agents that an engine has placed."""

    def poll(self) -> AgentStates:
        """Return the states of the agents, with the errors since the last call."""

    def interrupt(self) -> None:
        """Request that they end after their running epochs, without waiting."""

    def stop(self) -> None:
        """Request that they end within 10 s, without waiting."""


@dataclass(frozen=True)
class MonitorTimes:
    """Intervals and grace periods of a monitor."""

    poll_seconds: float = 1.0
    idle_seconds: float = 30.0
    """Time without a running trial before that is reported; doubled for each further report."""
    settle_seconds: float = 15.0
    """Grace period for agents to end by themselves once the budget is spent or the study is stopped."""
    stop_seconds: float = 20.0
    """Grace period for agents to end after a stop request."""


class Monitor:
    """Monitors the agents of one study until they have ended."""

    def __init__(
        self,
        study: LaunchedStudy,
        feed: ProgressFeed,
        placement: Placement,
        progress: Progress,
        interrupted: threading.Event,
        timeout_seconds: float | None = None,
        times: MonitorTimes | None = None,
    ) -> None:
        self._study = study
        self._feed = feed
        self._placement = placement
        self._progress = progress
        self._interrupted = interrupted
        self._times = times or MonitorTimes()
        self._began_at = time.monotonic()
        self._pace = Pace()
        self._timeout_seconds = timeout_seconds
        self._timeout_at = float("inf")
        self._finished_before: int | None = None
        self._wake = threading.Event()
        self._signals: list[int] = []
        self._handled = 0
        self._ending: ExitCode | None = None
        """Exit code, once the agents are asked to end."""
        self._stop_at = self._leave_at = float("inf")
        self._waiting: int | None = None
        self._idle_since: float | None = None
        self._report_idle_after = self._times.idle_seconds
        self._last_error = ""
        self._reported: set[str] = set()

    def handle_signal(self, number: int, _frame: FrameType | None = None) -> None:
        """Ctrl-C once ends the agents after their epochs; twice, or SIGTERM, within 10 s."""
        self._signals.append(number)
        self._interrupted.set()
        self._wake.set()

    def run(self) -> tuple[ExitCode, StudyStatus]:
        """Monitor until the agents have ended; return the exit code and the last status.

        Raises:
            AgentsFailedError: all agents have ended before the study is finished.
            HpoError: the database stays unreachable.
        """
        while True:
            self._handle_signals()
            # Agents first: all that they recorded before they ended is in the database by then.
            agents = self._placement.poll()
            update = self._feed.poll()
            self._report(update, agents)
            self._check_end(update.status, agents)
            # Agents that wait for a node have nothing to end.
            if self._ending is not None and (agents.placed == 0 or time.monotonic() >= self._leave_at):
                return self._ending, update.status
            if time.monotonic() >= self._stop_at:
                self._stop()
            self._wake.wait(self._times.poll_seconds)
            self._wake.clear()

    def _handle_signals(self) -> None:
        received, self._handled = self._signals[self._handled :], len(self._signals)
        if not received:
            return
        if signal.SIGTERM in received or len(self._signals) > 1:
            self._end(ExitCode.INTERRUPTED, 0.0)
            return
        self._placement.interrupt()
        self._end(ExitCode.INTERRUPTED, INTERRUPT_GRACE_SECONDS)
        # The reader of our output may have been ended by the same Ctrl-C.
        with suppress(BrokenPipeError):
            log.info(INTERRUPTED_MESSAGE)

    def _check_end(self, status: StudyStatus, agents: AgentStates) -> None:
        """End the agents if it is time, or fail if all have ended on their own."""
        settle = self._times.settle_seconds
        if self._ending is not None:
            return
        # Loading does not count: an agent claims its first trial when it has loaded the objective.
        counts = status.counts
        has_begun = counts.running or counts.finished > (self._finished_before or 0)
        if self._timeout_seconds is not None and has_begun:
            self._timeout_at = min(self._timeout_at, time.monotonic() + self._timeout_seconds)
        if counts.left == 0:
            self._end(ExitCode.DONE, settle)
        elif status.desired_state == "stop":
            log.info("the study was stopped: hpo launch continues it")
            self._end(ExitCode.DONE, settle)
        elif time.monotonic() >= self._timeout_at:
            log.info("the time is up: the same command continues")
            self._end(ExitCode.DONE, 0.0)
        elif agents.ended == agents.wanted:
            raise AgentsFailedError(self._last_error or "all agents have ended before the study is finished")

    def _end(self, exit_code: ExitCode, grace_seconds: float) -> None:
        self._ending = exit_code
        self._stop_at = min(self._stop_at, time.monotonic() + grace_seconds)
        if grace_seconds == 0.0:
            self._stop()

    def _stop(self) -> None:
        if self._leave_at == float("inf"):
            self._leave_at = time.monotonic() + self._times.stop_seconds
            self._placement.stop()

    def _report(self, update: Update, agents: AgentStates) -> None:
        status, counts = update.status, update.status.counts
        for end, counts_then in _with_counts(update.ended, counts):
            self._progress.trial_ended(end, counts_then)
        for error in agents.errors:
            self._last_error = error
            # The error of the last agent is raised instead.
            if agents.ended < agents.wanted and error not in self._reported:
                self._reported.add(error)
                log.warning(error)
        waiting = agents.wanted - agents.placed - agents.ended
        if waiting != self._waiting and self._ending is None:
            self._waiting = waiting
            log.info(f"agents: {agents.placed} of {agents.wanted} are placed{_waiting(waiting)}")
        self._report_idle(status, agents)
        if self._finished_before is None:
            self._finished_before = counts.finished
        if status.slots:
            self._pace.begin()
        self._progress.update(
            View(
                study=self._study.name,
                metric=self._study.spec.metric,
                counts=counts,
                best=status.best,
                slots=_slot_views(status),
                elapsed_seconds=time.monotonic() - self._began_at,
                eta_seconds=self._pace.seconds_left(counts.finished - self._finished_before, counts.left),
                note=self._note(status, waiting),
            )
        )

    def _report_idle(self, status: StudyStatus, agents: AgentStates) -> None:
        """Report placed agents that do not train, which otherwise look like agents that do."""
        now = time.monotonic()
        has_work = self._ending is None and status.desired_state == "run" and status.counts.left > 0
        if not has_work or not agents.placed or status.slots:
            self._idle_since, self._report_idle_after = None, self._times.idle_seconds
            return
        if self._idle_since is None:
            self._idle_since = now
        if (seconds := now - self._idle_since) < self._report_idle_after:
            return
        self._report_idle_after = 2 * max(seconds, self._report_idle_after)
        log.info(f"no trial has been running for {seconds:.0f} s: {_startup_state(status, agents)}")

    def _note(self, status: StudyStatus, waiting: int) -> str:
        if self._ending is not None:
            return "ending the agents"
        if status.desired_state == "pause":
            return "paused: hpo resume continues it"
        agents = len(status.agents)
        return f"{agents} agent{'' if agents == 1 else 's'}{_waiting(waiting)}"


def _slot_views(status: StudyStatus) -> list[SlotView]:
    return [
        SlotView(
            device=f"{slot.host} {slot.device}",
            run=str(slot.number),
            epoch=slot.epoch,
            epochs=status.epochs_per_trial,
            value=slot.metric,
        )
        for slot in status.slots
    ]


def _with_counts(ended: Sequence[TrialEnd], counts: Counts) -> list[tuple[TrialEnd, Counts]]:
    """Return each trial with the study's counts at its end, computed back from the current counts."""
    steps = []
    for end in reversed(ended):
        steps.append((end, counts))
        if end.outcome.counts:
            counts = counts.plus(end.outcome, -1)
    return steps[::-1]


def _startup_state(status: StudyStatus, agents: AgentStates) -> str:
    """Explain why placed agents do not train yet, as far as the database shows it."""
    missing = Counter(agents.nodes) - Counter(agent.host for agent in status.agents)
    if not missing:
        return f"all {agents.placed} placed agents have joined the study and load its data"
    where = ", ".join(f"{node} ({number})" for node, number in sorted(missing.items()))
    return (
        f"{missing.total()} of {agents.placed} placed agents have not joined the study yet: {where}; they are"
        " starting or loading the objective, which takes longer on busy nodes"
    )


def _waiting(number: int) -> str:
    return f", {number} wait{'s' if number == 1 else ''} for a place" if number else ""


@contextmanager
def signals(monitor: Monitor) -> Iterator[None]:
    """Pass Ctrl-C and SIGTERM to the monitor within this block."""
    before = {
        number: signal.signal(number, monitor.handle_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
