"""The process that the user started where agents run elsewhere: it trains nothing, watches and tells.

It shows the study as a local launch does, from the database; pause and stop reach the agents through the
database too. What it adds is Ctrl-C, `--timeout` and the end of the agents when the budget is spent.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from types import FrameType
from typing import Protocol

from hpo.engines.progress_feed import Feed, News
from hpo.errors import HpoError
from hpo.outcomes import Outcome
from hpo.process.shutdown import INTERRUPT_GRACE_SECONDS, INTERRUPTED_MESSAGE, ExitCode
from hpo.study.create import Enrolled
from hpo.terminal.progress import Progress, TrialEnd, View
from storage.budget import Counts

log = logging.getLogger(__name__)


class AgentsFailedError(HpoError):
    """No agent is left, and the study is not done; the message holds what the last one complained of."""


@dataclass(frozen=True)
class Placed:
    """What has become of the agents that were asked for."""

    wanted: int
    placed: int
    """That have a place and run; those that wait for one, or for another, are not among them."""
    ended: int
    """That will not run again."""
    complaints: Sequence[str] = field(default_factory=tuple)
    """New ones, a line each."""
    nodes: Sequence[str] = field(default_factory=tuple)
    """Where those are that have a place, one for each."""


class Placement(Protocol):
    """Agents that an engine has placed."""

    def look(self) -> Placed:
        """What has become of them since the last look."""

    def interrupt(self) -> None:
        """Have them end after their running epochs; does not wait."""

    def stop(self) -> None:
        """Have them end within 10 s; does not wait."""


class Why(Enum):
    """Why the agents are being ended."""

    SPENT = "the budget is spent"
    STOPPED = "the study is stopped"
    TIMEOUT = "the time is up"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class WatchTimes:
    """How patient the watcher is."""

    poll_seconds: float = 1.0
    idle_seconds: float = 30.0
    """While no placed agent trains, before that is told of; twice as long before it is told of again."""
    settle_seconds: float = 15.0
    """For agents to end by themselves once the budget is spent or the study stopped."""
    stop_seconds: float = 20.0
    """For agents to end that were told to at once."""


class Watch:
    """One study's agents, watched until they are done."""

    def __init__(
        self,
        study: Enrolled,
        feed: Feed,
        placement: Placement,
        progress: Progress,
        interrupted: threading.Event,
        timeout_seconds: float | None = None,
        times: WatchTimes | None = None,
    ) -> None:
        self._study = study
        self._feed = feed
        self._placement = placement
        self._progress = progress
        self._interrupted = interrupted
        self._times = times or WatchTimes()
        self._began = time.monotonic()
        self._timeout_at = None if timeout_seconds is None else self._began + timeout_seconds
        self._finished_before: int | None = None
        self._wake = threading.Event()
        self._signals: list[int] = []
        self._heeded = 0
        self._why: Why | None = None
        self._stop_at = self._leave_at = float("inf")
        self._waiting: int | None = None
        self._idle_since: float | None = None
        self._tell_idle_after = self._times.idle_seconds
        self._complaint = ""
        self._said: set[str] = set()

    def handle_signal(self, number: int, _frame: FrameType | None = None) -> None:
        """Ctrl-C once: agents end after their epochs; twice, or SIGTERM: within 10 s."""
        self._signals.append(number)
        self._interrupted.set()
        self._wake.set()

    def run(self) -> tuple[ExitCode, News]:
        """Watch until the agents have ended.

        Raises:
            AgentsFailedError: all of them have, and there is work left.
            HpoError: the database stays away.
        """
        while True:
            self._heed_signals()
            # Agents first: whatever they did before they ended is in the books by then.
            placed = self._placement.look()
            news = self._feed.news()
            self._tell(news, placed)
            self._consider(news, placed)
            # Those that wait for a place have nothing to end.
            over = self._why is not None and placed.placed == 0
            if over or time.monotonic() >= self._leave_at:
                return self._conclude(), news
            if time.monotonic() >= self._stop_at:
                self._stop()
            self._wake.wait(self._times.poll_seconds)
            self._wake.clear()

    def _heed_signals(self) -> None:
        told, self._heeded = self._signals[self._heeded :], len(self._signals)
        if not told:
            return
        if signal.SIGTERM in told or len(self._signals) > 1:
            self._end(Why.INTERRUPTED, 0.0)
            return
        self._placement.interrupt()
        self._end(Why.INTERRUPTED, INTERRUPT_GRACE_SECONDS)
        # Whoever reads our output may have ended of the same Ctrl-C.
        with suppress(BrokenPipeError):
            log.info(INTERRUPTED_MESSAGE)

    def _consider(self, news: News, placed: Placed) -> None:
        """Whether it is time for the agents to end, or all have without having been told."""
        settle = self._times.settle_seconds
        if self._why is not None:
            return
        if news.snapshot.counts.left == 0:
            self._end(Why.SPENT, settle)
        elif news.snapshot.control == "stop":
            log.info("the study was stopped: hpo launch continues it")
            self._end(Why.STOPPED, settle)
        elif self._timeout_at is not None and time.monotonic() >= self._timeout_at:
            log.info("the time is up: the same command continues")
            self._end(Why.TIMEOUT, 0.0)
        elif placed.ended == placed.wanted:
            raise AgentsFailedError(self._complaint or "every agent has ended, and the study is not done")

    def _end(self, why: Why, grace_seconds: float) -> None:
        self._why = why
        self._stop_at = min(self._stop_at, time.monotonic() + grace_seconds)
        if grace_seconds == 0.0:
            self._stop()

    def _stop(self) -> None:
        if self._leave_at == float("inf"):
            self._leave_at = time.monotonic() + self._times.stop_seconds
            self._placement.stop()

    def _conclude(self) -> ExitCode:
        return ExitCode.INTERRUPTED if self._why is Why.INTERRUPTED else ExitCode.DONE

    # What is shown.

    def _tell(self, news: News, placed: Placed) -> None:
        counts = news.snapshot.counts
        for end, then in _one_by_one(news.ended, counts):
            self._progress.trial_ended(end, then)
        for complaint in placed.complaints:
            self._complaint = complaint
            # The last agent's is what this process fails with.
            if placed.ended < placed.wanted and complaint not in self._said:
                self._said.add(complaint)
                log.info(complaint)
        waiting = placed.wanted - placed.placed - placed.ended
        if waiting != self._waiting and self._why is None:
            self._waiting = waiting
            log.info(f"agents: {placed.placed} of {placed.wanted} are placed{_waiting(waiting)}")
        self._tell_idle(news, placed)
        if self._finished_before is None:
            self._finished_before = counts.finished
        elapsed = time.monotonic() - self._began
        done = counts.finished - self._finished_before
        eta = elapsed / done * counts.left if done > 0 else None
        self._progress.update(
            View(
                self._study.name,
                self._study.spec.metric,
                counts,
                news.snapshot.best,
                news.slots,
                elapsed,
                eta,
                self._note(news, waiting),
            )
        )

    def _tell_idle(self, news: News, placed: Placed) -> None:
        """Agents that have a place and train nothing look like ones that train: say how far they have come."""
        now = time.monotonic()
        has_work = self._why is None and news.snapshot.control == "run" and news.snapshot.counts.left > 0
        if not has_work or not placed.placed or news.slots:
            self._idle_since, self._tell_idle_after = None, self._times.idle_seconds
            return
        if self._idle_since is None:
            self._idle_since = now
        if (seconds := now - self._idle_since) < self._tell_idle_after:
            return
        self._tell_idle_after = 2 * max(seconds, self._tell_idle_after)
        log.info(f"no trial is being trained, for {seconds:.0f} s: {_how_far(news, placed)}")

    def _note(self, news: News, waiting: int) -> str:
        if self._why is not None:
            return "ending the agents"
        if news.snapshot.control == "pause":
            return "paused: hpo resume goes on"
        agents = len(news.hosts)
        return f"{agents} agent{'' if agents == 1 else 's'}{_waiting(waiting)}"


def _one_by_one(ended: Sequence[TrialEnd], counts: Counts) -> list[tuple[TrialEnd, Counts]]:
    """Each trial with the study's counts when it ended, of which the last are known."""
    steps = []
    for end in reversed(ended):
        steps.append((end, counts))
        if end.outcome is Outcome.COMPLETE:
            counts = replace(counts, complete=counts.complete - 1)
        elif end.outcome.counts:
            counts = replace(counts, pruned=counts.pruned - 1)
    return steps[::-1]


def _how_far(news: News, placed: Placed) -> str:
    """What keeps placed agents from training, as far as the database shows it."""
    missing = Counter(placed.nodes) - Counter(news.hosts)
    if not missing:
        return f"of {placed.placed} placed agents all have joined the study: they load its data"
    where = ", ".join(f"{node} ({number})" for node, number in sorted(missing.items()))
    return (
        f"{missing.total()} of {placed.placed} placed agents have not joined the study yet: {where}; they start"
        " or load the objective, and nodes that are busy keep them from it"
    )


def _waiting(number: int) -> str:
    return f", {number} wait{'s' if number == 1 else ''} for a place" if number else ""


@contextmanager
def signals(watch: Watch) -> Iterator[None]:
    """Hand Ctrl-C and SIGTERM to the watcher within this block."""
    before = {
        number: signal.signal(number, watch.handle_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
