"""Uploads of an attempt's log, and the size of its file."""

from __future__ import annotations

import fcntl
import io
import os
from pathlib import Path

import pytest

from hpo.files import bounded_log
from hpo.files.bounded_log import FILE_BYTES, KEPT_BYTES, AttemptLog, BoundedOutput


class Uploads:
    """Records uploads."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __call__(self, tail: str, size: int) -> None:
        self.calls.append((tail, size))


@pytest.fixture
def uploads() -> Uploads:
    return Uploads()


@pytest.fixture
def log(tmp_path: Path, uploads: Uploads) -> AttemptLog:
    return AttemptLog(tmp_path / "log", uploads)


def append(log: AttemptLog, printed: bytes) -> None:
    with log.path.open("ab") as file:
        file.write(printed)


def test_unchanged_log_is_not_uploaded(log: AttemptLog, uploads: Uploads) -> None:
    log.upload()
    append(log, b"said\n")
    log.upload()
    log.upload()
    assert uploads.calls == [("said\n", 5)]
    log.close()
    assert uploads.calls == [("said\n", 5)]
    assert not log.path.exists()


@pytest.mark.parametrize(
    ("printed", "shown"),
    [(b"a\0b", "a?b"), (b"\xff\xfe", "??"), ("é☃".encode(), "é☃"), ("é".encode()[:1], "?")],
)
def test_uploaded_text_has_as_many_bytes_as_were_printed(
    log: AttemptLog, uploads: Uploads, printed: bytes, shown: str
) -> None:
    append(log, printed)
    log.upload()
    assert uploads.calls == [(shown, len(printed))]
    assert len(shown.encode()) == len(printed)


def test_only_the_end_of_a_large_log_is_uploaded(log: AttemptLog, uploads: Uploads) -> None:
    append(log, b"a" * KEPT_BYTES + b"b" * KEPT_BYTES)
    log.upload()
    assert uploads.calls == [("b" * KEPT_BYTES, 2 * KEPT_BYTES)]


def test_large_file_is_truncated_while_it_is_written(log: AttemptLog, uploads: Uploads) -> None:
    with log.path.open("ab", buffering=0) as trainer:
        trainer.write(b"a" * (FILE_BYTES + 1))
        log.upload()
        assert KEPT_BYTES <= log.path.stat().st_size < KEPT_BYTES + 100
        trainer.write(b"end")
        log.upload()
    tail, size = uploads.calls[-1]
    assert tail.endswith("aend")
    assert size == FILE_BYTES + 4


def test_file_is_bounded_while_the_database_is_unreachable(log: AttemptLog, uploads: Uploads) -> None:
    for _ in range(3):
        append(log, b"x" * FILE_BYTES + b"end")
        log.truncate()
        assert KEPT_BYTES <= log.path.stat().st_size < KEPT_BYTES + 100
    assert uploads.calls == []
    log.upload()
    ((tail, size),) = uploads.calls
    assert tail.endswith("xend")
    assert size == 3 * (FILE_BYTES + 3)


@pytest.mark.parametrize("shipped", [True, False])
def test_truncated_file_tells_its_next_owner_the_bytes_printed(
    log: AttemptLog, uploads: Uploads, shipped: bool
) -> None:
    """Its agent was killed, after cutting it twice."""
    for _ in range(2):
        append(log, b"x" * FILE_BYTES)
        log.upload() if shipped else log.truncate()
    append(log, b"last words")
    adopted = AttemptLog(log.path, uploads)
    adopted.close()
    tail, size = uploads.calls[-1]
    assert tail == "x" * (KEPT_BYTES - 10) + "last words"
    assert size == 2 * FILE_BYTES + 10
    assert not log.path.exists()


def test_truncated_file_has_one_note_in_its_first_line(log: AttemptLog, uploads: Uploads) -> None:
    append(log, b"x" * (FILE_BYTES + 1))
    log.upload()
    append(log, b"\n")
    log.upload()
    lost = FILE_BYTES + 1 - KEPT_BYTES
    assert log.path.read_text().splitlines() == [
        f"[hpo: {lost} bytes before this were cut off]",
        "x" * KEPT_BYTES,
    ]
    assert uploads.calls[-1] == ("x" * (KEPT_BYTES - 1) + "\n", FILE_BYTES + 2)


def test_output_during_a_truncation_is_not_lost(
    log: AttemptLog, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, b"x" * FILE_BYTES + b"the end\n")
    real_open, real_write = Path.open, os.pwrite

    def open_late(path: Path, mode: str = "r", *more: int) -> object:
        if mode == "r+b":
            append(log, b"late\n")
        return real_open(path, mode, *more)

    def write_late(descriptor: int, data: bytes, offset: int) -> int:
        if offset == 0:
            append(log, b"later\n")
        return real_write(descriptor, data, offset)

    monkeypatch.setattr(Path, "open", open_late)
    monkeypatch.setattr(os, "pwrite", write_late)
    log.upload()
    monkeypatch.undo()
    assert log.path.stat().st_size < KEPT_BYTES + 100
    append(log, b"last\n")
    log.close()
    tail, size = uploads.calls[-1]
    assert tail.endswith("xthe end\nlate\nlater\nlast\n")
    assert size == FILE_BYTES + len("the end\nlate\nlater\nlast\n")


def test_file_may_disappear_at_any_moment(
    log: AttemptLog, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two agents of one host close the log of a third."""
    append(log, b"said\n")
    other = AttemptLog(log.path, uploads)
    real_open = Path.open

    def opened(path: Path, *mode: str) -> object:
        other.path.unlink(missing_ok=True)
        return real_open(path, *mode)

    monkeypatch.setattr(Path, "open", opened)
    log.close()
    log.truncate()
    log.close()
    assert uploads.calls == []


def test_writer_bounds_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uploads: Uploads
) -> None:
    monkeypatch.setattr(bounded_log, "FILE_BYTES", 200_000)
    monkeypatch.setattr(bounded_log, "CHUNK_BYTES", 50_000)
    log = AttemptLog(tmp_path / "log", uploads)
    with log.path.open("ab", 0) as file:
        stream = io.BufferedWriter(BoundedOutput(file.fileno(), log))
        longest = 0
        for _ in range(100):
            stream.write(b"x" * 39_999 + b"\n")
            longest = max(longest, log.path.stat().st_size)
        stream.write(b"the end")
        stream.flush()
    assert longest <= 250_000
    log.upload()
    tail, size = uploads.calls[-1]
    assert size == 100 * 40_000 + len("the end")
    assert tail.endswith("x\nthe end")


def test_locked_file_is_left_to_its_holder(log: AttemptLog, uploads: Uploads) -> None:
    append(log, b"x" * (FILE_BYTES + 1))
    with log.path.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        log.upload()
        log.truncate()
    assert (uploads.calls, log.path.stat().st_size) == ([], FILE_BYTES + 1)
    log.upload()
    assert log.path.stat().st_size < KEPT_BYTES + 100
