"""A tracker, a feed and a lock in memory, for tests of a follower; a conformance suite runs on real trackers too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from hpo.trackers.runs import Logged, News, Run


@dataclass(kw_only=True)
class FakePlace:
    """The runs that trackers have written, which outlive them."""

    logged: dict[str, Logged] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, Mapping[str, float]]]] = field(default_factory=dict)
    """Points of each run, in the order of their writing."""
    ends: dict[str, Run] = field(default_factory=dict)
    down: bool = False
    refused: set[str] = field(default_factory=set)
    """Keys of runs that it does not take."""
    opened: int = 0
    owner: object = None


class FakeTracker:
    """A tracker whose points cannot be replaced."""

    def __init__(self, place: FakePlace) -> None:
        self._place = place
        self.identity = "fake"
        place.opened += 1

    def logged(self) -> dict[str, Logged]:
        self._check()
        return dict(self._place.logged)

    def write(self, news: News) -> None:
        self._check()
        run = news.run
        if run.key in self._place.refused:
            raise ValueError(f"bad run {run.key}")
        curve = self._place.curves.setdefault(run.key, [])
        curve += [(epoch.epoch, epoch.metrics) for epoch in news.unseen]
        if run.ended_at is not None:
            self._place.ends[run.key] = run
        self._place.logged[run.key] = news.after

    def close(self) -> None:
        self._check()

    def _check(self) -> None:
        if self._place.down:
            raise ConnectionError("no answer")


class FakeFeed:
    """Runs of a study that tests change."""

    def __init__(self, runs: dict[str, Run]) -> None:
        self._runs = runs

    def begun(self) -> bool:
        return bool(self._runs)

    def changed(self, is_logged: Callable[[str, str], bool]) -> Iterator[Run]:
        for run in list(self._runs.values()):
            if not (run.outcome and is_logged(run.key, run.outcome)):
                yield run

    def advance(self) -> None:
        """Do nothing: all runs are read each time."""


class FakeLock:
    """The right to write to a place."""

    def __init__(self, place: FakePlace) -> None:
        self._place = place

    def acquire(self) -> bool:
        if self._place.owner is None:
            self._place.owner = self
        return self._place.owner is self

    def release(self) -> None:
        if self._place.owner is self:
            self._place.owner = None
