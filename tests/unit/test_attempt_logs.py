"""The log of a running attempt: what is kept of it, and how large its file becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.attempt_logs import FILE_BYTES, KEPT_BYTES, AttemptLog


class Kept:
    """The last that was kept."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __call__(self, tail: str, size: int) -> None:
        self.calls.append((tail, size))


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def log(tmp_path: Path, kept: Kept) -> AttemptLog:
    return AttemptLog(tmp_path / "log", kept)


def append(log: AttemptLog, printed: bytes) -> None:
    with log.path.open("ab") as file:
        file.write(printed)


def test_nothing_is_kept_of_silence(log: AttemptLog, kept: Kept) -> None:
    log.ship()
    append(log, b"said\n")
    log.ship()
    log.ship()
    assert kept.calls == [("said\n", 5)]
    log.close()
    assert kept.calls == [("said\n", 5)]
    assert not log.path.exists()


@pytest.mark.parametrize(
    ("printed", "shown"),
    [(b"a\0b", "a?b"), (b"\xff\xfe", "??"), ("é☃".encode(), "é☃"), ("é".encode()[:1], "?")],
)
def test_as_many_bytes_are_kept_as_were_printed(
    log: AttemptLog, kept: Kept, printed: bytes, shown: str
) -> None:
    append(log, printed)
    log.ship()
    assert kept.calls == [(shown, len(printed))]
    assert len(shown.encode()) == len(printed)


def test_the_end_is_kept_of_much(log: AttemptLog, kept: Kept) -> None:
    append(log, b"a" * KEPT_BYTES + b"b" * KEPT_BYTES)
    log.ship()
    assert kept.calls == [("b" * KEPT_BYTES, 2 * KEPT_BYTES)]


def test_a_file_too_large_is_cut_while_it_is_written(log: AttemptLog, kept: Kept) -> None:
    with log.path.open("ab", buffering=0) as trainer:
        trainer.write(b"a" * (FILE_BYTES + 1))
        log.ship()
        assert log.path.stat().st_size == KEPT_BYTES
        trainer.write(b"end")
        log.ship()
    tail, size = kept.calls[-1]
    assert tail.endswith("aend")
    assert size == FILE_BYTES + 4


def test_a_file_is_bounded_while_the_database_cannot_take_its_tail(log: AttemptLog, kept: Kept) -> None:
    for _ in range(3):
        append(log, b"x" * FILE_BYTES + b"end")
        log.bound()
        assert log.path.stat().st_size == KEPT_BYTES
    assert kept.calls == []
    log.ship()
    ((tail, size),) = kept.calls
    assert tail.endswith("xend")
    assert size == 3 * (FILE_BYTES + 3)
