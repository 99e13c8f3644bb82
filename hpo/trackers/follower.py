"""Copies a study's trials from its database to a tracker, which gets later all that it misses while it is down.

The database has every epoch, and the tracker knows which of them it has. So nothing is queued, and it does not matter
which process copies, nor when it dies. Of several followers of one place, on any hosts, one at a time does the work.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum, auto
from typing import Literal, Protocol

from hpo.errors import StorageUnreachableError
from hpo.trackers.runs import Logged, Run, news_of
from hpo.trackers.tracker import Tracker
from hpo.trainer.ends.failures import one_line
from storage.redaction import passwords_given, redacted

POLL_SECONDS = 2.0
"""Seconds between two reads of the database."""

OWNER_SECONDS = 5.0
"""Seconds that an ending follower waits for the one that does the work: if that lives, it has read all by then."""

LONGEST_WAIT_SECONDS = 30.0
"""Longest time between two tries to reach a tracker that is down."""

MOST_TRIES = 3
REST_SECONDS = 60.0
"""Seconds for which a run rests after so many failures, so that the others are not kept waiting."""

LONGEST_REASON = 200
"""Characters of a tracker's error in a message."""

Report = Callable[[Literal["info", "warning"], str], None]


class Feed(Protocol):
    """The runs of a study, as `hpo.trackers.feed.TrialFeed` reads them."""

    def begun(self) -> bool: ...

    def changed(self, is_logged: Callable[[str, str], bool]) -> Iterator[Run]: ...

    def advance(self) -> None: ...


class Lock(Protocol):
    """The right to write to one place."""

    def acquire(self) -> bool: ...

    def release(self) -> None: ...


class Round(Enum):
    """Result of one look at the database."""

    CURRENT = auto()
    """The tracker has everything."""
    BEHIND = auto()
    ELSEWHERE = auto()
    """Another follower does the work."""


def reason_of(error: BaseException) -> str:
    """Return an error on a line that is not too long to read, without the passwords of tracking URIs."""
    line = redacted(one_line(error), passwords_given((), os.environ))
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…"


class Follower:
    """Keeps one tracker up to date with one study."""

    def __init__(
        self,
        label: str,
        open_feed: Callable[[], Feed],
        open_tracker: Callable[[], Tracker],
        open_lock: Callable[[str], Lock],
        report: Report,
    ) -> None:
        """`open_lock` gets the identity of the tracker."""
        self._label = label
        self._open_feed, self._open_tracker, self._open_lock = open_feed, open_tracker, open_lock
        self._report = report
        self._tracker: Tracker | None = None
        self._lock: Lock | None = None
        self._feed: Feed | None = None
        self._logged: dict[str, Logged] | None = None
        """The part of each run that the tracker has; None unless this follower does the work."""
        self._tries: Counter[str] = Counter()
        self._rest_until: dict[str, float] = {}
        self.warned = False
        """Whether the user knows that the tracker lacks something."""
        self._failures = 0
        """Failures since the last look that reached the end."""
        self.progress_at = time.monotonic()
        """When the tracker took something last."""
        self._wait_until = 0.0

    def run(self, closing: threading.Event, poll_seconds: float = POLL_SECONDS) -> bool:
        """Follow the study until `closing` is set; then return whether everything is logged."""
        while not closing.is_set():
            if time.monotonic() >= self._wait_until:
                self.look()
            closing.wait(poll_seconds)
        # Whatever has failed before gets one more try.
        self._rest_until.clear()
        self._tries = Counter(dict.fromkeys(self._tries, MOST_TRIES - 1))
        self._failures, overdue_at = 0, time.monotonic() + OWNER_SECONDS
        while (result := self.look()) is not Round.CURRENT:
            overdue = result is Round.ELSEWHERE and time.monotonic() >= overdue_at
            only_resting = result is Round.BEHIND and self._failures == 0
            if overdue or only_resting or self._failures >= MOST_TRIES:
                break
            time.sleep(poll_seconds / 4)
        self.close()
        return result is not Round.BEHIND

    def look(self) -> Round:
        """Log everything that is new."""
        try:
            return self._look()
        except StorageUnreachableError:
            # The agent reports it. Another follower may get the lock meanwhile.
            self._logged = None
            return Round.BEHIND
        except Exception as exc:  # noqa: BLE001 - a tracker's library may raise anything, and no trial depends on it
            self._fail(exc)
            return Round.BEHIND

    def close(self) -> None:
        """Flush the tracker, and let another follower do the work."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            with suppress(Exception):
                tracker.close()
        if self._lock is not None:
            self._lock.release()
        self._lock = self._feed = self._logged = None

    def _look(self) -> Round:
        if self._feed is None:
            self._feed = self._open_feed()
        if self._tracker is None:
            # Nothing is created for a study that is refused in its first moments.
            if not self._feed.begun():
                return Round.CURRENT
            self._tracker = self._open_tracker()
            self.progress_at = time.monotonic()
            self._lock = self._open_lock(self._tracker.identity)
        assert self._lock is not None
        if not self._lock.acquire():
            self._logged = None
            return Round.ELSEWHERE
        if self._logged is None:
            self._logged, self._feed = self._tracker.logged(), self._open_feed()
            self.progress_at = time.monotonic()
        complete = True
        for run in self._feed.changed(self._is_logged):
            complete = self._log(run) and complete
        self._failures = 0
        if complete:
            self._feed.advance()
            if self.warned:
                self._report("info", f"{self._label} takes all runs again")
                self.warned = False
        return Round.CURRENT if complete else Round.BEHIND

    def _is_logged(self, key: str, outcome: str) -> bool:
        assert self._logged is not None
        return self._logged.get(key, Logged()).outcome == outcome

    def _log(self, run: Run) -> bool:
        """Log the news of a run; return False if it rests.

        Raises:
            Exception: any that the tracker raises.
        """
        assert self._logged is not None
        assert self._tracker is not None
        news = news_of(run, self._logged.get(run.key, Logged()))
        if news is None:
            return True
        if time.monotonic() < self._rest_until.get(run.key, 0.0):
            return False
        self._tries[run.key] += 1
        if self._tries[run.key] >= MOST_TRIES:
            self._rest_until[run.key] = time.monotonic() + REST_SECONDS
        self._tracker.write(news)
        self._logged[run.key] = news.after
        self.progress_at = time.monotonic()
        del self._tries[run.key]
        self._rest_until.pop(run.key, None)
        return True

    def _fail(self, error: Exception) -> None:
        if not self.warned:
            self.warned = True
            self._report(
                "warning",
                f"{self._label} does not take all runs ({reason_of(error)}): no trial is affected, and missing epochs"
                " are logged when it takes them again, or by the next launch",
            )
        self._failures += 1
        self._wait_until = time.monotonic() + min(
            LONGEST_WAIT_SECONDS, POLL_SECONDS * 2.0 ** min(self._failures, 9)
        )
        # Its state is not known, so it is read again.
        self.close()
