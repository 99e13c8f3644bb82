"""`hpo logs -f` reads every changed log and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta

import pytest
from sqlalchemy import text

import hpo.study.monitoring.logs
from hpo.study.monitoring.logs import UnknownTrialError, follow_logs
from storage import attempts
from storage.engine import Database
from tests.integration.rows import StudyRows


class Printing:
    """A study with three attempts that print, and a reader that follows their logs."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database = database
        self.rows = StudyRows(database, budget=3)
        agent = self.rows.agent()
        self.attempts = [self.rows.attempt(self.rows.trial(), agent) for _ in range(3)]
        self.printed = dict.fromkeys(self.attempts, "")
        self.read: list[str] = []
        """Log tails that the current poll has read."""
        self.monkeypatch = monkeypatch
        real = hpo.study.monitoring.logs.AttemptText

        def reading(**fields: object) -> object:
            made = real(**fields)  # type: ignore[arg-type]
            self.read.append(made.tail)
            return made

        monkeypatch.setattr(hpo.study.monitoring.logs, "AttemptText", reading)

    def print(self, attempt: int, text: str) -> None:
        """Append to an attempt's log and store its last 20 characters."""
        attempt_id = self.attempts[attempt]
        printed = self.printed[attempt_id] = self.printed[attempt_id] + text
        self.database.transaction(lambda c: attempts.keep_log(c, attempt_id, printed[-20:], len(printed)))

    def follow(self, steps: Iterable[Callable[[], None]], number: int | None = None) -> list[str]:
        """Take one step between two polls, then end the study; return the pieces that were shown."""
        remaining = iter(steps)

        def step(_seconds: float) -> None:
            next(remaining, self.end)()
            self.read.clear()

        self.monkeypatch.setattr(hpo.study.monitoring.logs.time, "sleep", step)
        pieces = list(follow_logs(self.database, "demo", number))
        return [piece for piece in pieces if not piece.startswith("== ")]

    def end(self) -> None:
        self.rows.set(budget=0)

    def expect(self, *read: str) -> Callable[[], None]:
        """Return a step that checks the tails that the last poll read."""

        def step() -> None:
            assert self.read == list(read)

        return step


@pytest.fixture
def printing(database: Database, monkeypatch: pytest.MonkeyPatch) -> Printing:
    return Printing(database, monkeypatch)


def test_only_changed_logs_are_read(printing: Printing) -> None:
    for attempt in range(2):
        printing.print(attempt, f"begin {attempt}\n")
    shown = printing.follow(
        [
            printing.expect("begin 0\n", "begin 1\n"),
            printing.expect(),
            lambda: printing.print(2, "late\n"),
            printing.expect("late\n"),
            lambda: printing.print(1, "more\n"),
            printing.expect("begin 1\nmore\n"),
            printing.expect(),
        ]
    )
    assert shown == ["begin 0\n", "begin 1\n", "late\n", "more\n"]


def test_log_committed_late_is_shown(printing: Printing) -> None:
    """A log may be written before another one but become visible after it."""
    writer = printing.database.engine.connect()
    shown = printing.follow(
        [
            lambda: attempts.keep_log(writer, printing.attempts[0], "slow\n", 5),
            lambda: printing.print(1, "quick\n"),
            writer.commit,
        ]
    )
    writer.close()
    assert shown == ["quick\n", "slow\n"]


def test_no_log_is_shown_twice_after_the_database_clock_jumps_back(
    printing: Printing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old logs then seem to be new."""

    def set_back() -> None:
        sql = "UPDATE hpo.attempt_logs SET updated_at = clock_timestamp()"
        printing.database.transaction(lambda c: c.execute(text(sql)))

    monkeypatch.setattr(hpo.study.monitoring.logs, "COMMIT_DELAY", timedelta(0))
    printing.print(0, "once\n")
    steps = [printing.expect("once\n"), printing.expect(), set_back, printing.expect("once\n")]
    assert printing.follow(steps) == ["once\n"]


def test_output_beyond_the_stored_tail_is_skipped(printing: Printing) -> None:
    shown = printing.follow([lambda: printing.print(0, "0123456789"), lambda: printing.print(0, "x" * 50)])
    assert shown == ["0123456789", "x" * 20]


def test_log_of_one_trial_is_followed_until_it_ends(printing: Printing) -> None:
    def decide() -> None:
        sql = "UPDATE hpo.trials SET outcome = 'complete' WHERE number = 1"
        printing.database.transaction(lambda c: c.execute(text(sql)))

    printing.print(0, "another's\n")
    assert printing.follow([lambda: printing.print(1, "its own\n"), decide], number=1) == ["its own\n"]
    with pytest.raises(UnknownTrialError):
        printing.follow([], number=3)


@pytest.mark.parametrize("number", [None, 0])
def test_log_that_is_stored_after_the_outcome_is_shown(printing: Printing, number: int | None) -> None:
    def decide() -> None:
        for sql in (
            "UPDATE hpo.trials SET outcome = 'complete'",
            "UPDATE hpo.attempts SET outcome = 'complete', ended_at = clock_timestamp()",
        ):
            printing.database.transaction(lambda c, sql=sql: c.execute(text(sql)))

    def end_agent() -> None:
        sql = "UPDATE hpo.agents SET ended_at = clock_timestamp()"
        printing.database.transaction(lambda c: c.execute(text(sql)))

    steps = [decide, lambda: printing.print(0, "last\n"), end_agent]
    assert printing.follow(steps, number) == ["last\n"]
