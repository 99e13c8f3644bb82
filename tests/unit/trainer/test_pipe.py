"""Messages of trainers as bytes: read back as they were, whatever threads, forks and foreign code write."""

from __future__ import annotations

import json
import math
import os
import pickle
import threading
from multiprocessing import Pipe
from typing import Any

import pytest

from hpo.outcomes import Outcome
from hpo.trainer.messages import Epoch, EpochRecord, Finished, FromTrainer, LaneSpeed, Started, Tick
from hpo.trainer.pipe import MessageReader, TrainerPipe, UnreadableMessageError, decode, encode
from objectives.values import ValueRefusedError

RECORD = EpochRecord(2, {"loss": 0.1, "val/auc %": 1e308, "tiny": 5e-324}, 0.25)


@pytest.mark.parametrize(
    "message",
    [
        Started(10, 2, (EpochRecord(1, {}, 0.0), RECORD)),
        Tick(3, 0.5, 100.0),
        Epoch(RECORD),
        Epoch(EpochRecord(1, {"loss": math.inf}, 0.0)),
        Finished(Outcome.COMPLETE, results={"test": [1, None, {"a": "ü"}], "whole": 2**70}),
        Finished(Outcome.BUG, "ValueError: bad", "Traceback …"),
        LaneSpeed(4, 12_345.5),
    ],
)
def test_message_is_read_back(message: FromTrainer) -> None:
    assert decode(encode(message)) == message


def test_nan_is_read_back() -> None:
    read = decode(encode(Epoch(EpochRecord(1, {"loss": math.nan}, 0.0))))
    assert isinstance(read, Epoch)
    assert math.isnan(read.record.metrics["loss"])


def test_texts_of_errors_are_cleaned_and_bounded() -> None:
    read = decode(encode(Finished(Outcome.BUG, "a\0\udcff" + "e" * 10**6, "t" * 10**6)))
    assert isinstance(read, Finished)
    assert read.error.startswith("a\\x00\\udcffee")
    assert len(read.error) < 2_000
    assert len(read.traceback) < 100_000


def forged(kind: str, **values: Any) -> bytes:
    return json.dumps([kind, values]).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"null",
        b"[" * 100_000,
        pickle.dumps(Tick(1, 0.5, 1.0)),
        forged("Nothing"),
        forged("Tick", epoch=1, fraction=math.nan, images_per_second=1.0),
        forged("Started", pid="10", resumed_from=0, history=[]),
        forged("Epoch", record={"epoch": 0, "metrics": {}, "seconds": 0.0}),
        forged("Epoch", record={"epoch": 10**12, "metrics": {}, "seconds": 0.0}),
        forged("Epoch", record={"epoch": 1, "metrics": {"a\0": 1.0}, "seconds": 0.0}),
        forged("Epoch", record={"epoch": 1, "metrics": {"a": "text"}, "seconds": 0.0}),
        forged("Epoch", record={"epoch": 1, "metrics": {}, "seconds": math.inf}),
        forged("Finished", outcome="sure", error="", traceback="", results={}),
        forged("Finished", outcome="bug", error=1, traceback="", results={}),
        forged("Finished", outcome="bug", error="", traceback="", results=[]),
    ],
)
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(UnreadableMessageError):
        decode(content)


def test_reader_does_not_wait_for_the_rest_of_a_message() -> None:
    ours, theirs = Pipe()
    reader = MessageReader(ours)
    whole = b"\0\0\0\3one" + b"\0\0\0\3two"
    for part in (whole[:2], whole[2:12]):
        os.write(theirs.fileno(), part)
        read = list(reader.read())
    assert read == [b"one"]
    os.write(theirs.fileno(), whole[12:])
    assert list(reader.read()) == [b"two"]
    theirs.close()
    with pytest.raises(EOFError):
        list(reader.read())
    ours.close()


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"])
def test_message_of_any_other_length_is_refused(length: bytes) -> None:
    ours, theirs = Pipe()
    os.write(theirs.fileno(), b"\0\0\0\1a" + length + b"rest")
    found = MessageReader(ours).read()
    assert next(found) == b"a"
    with pytest.raises(UnreadableMessageError):
        next(found)
    ours.close(), theirs.close()


def test_messages_of_several_threads_do_not_mix() -> None:
    ours, theirs = Pipe()
    pipe = TrainerPipe(theirs)
    long = Finished(Outcome.COMPLETE, results={"text": "a" * 300_000})
    threads = [threading.Thread(target=lambda: [pipe.send(long) for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert [decode(ours.recv_bytes()) for _ in range(20)] == [long] * 20
    for thread in threads:
        thread.join()
    ours.close(), theirs.close()


def test_process_that_an_objective_forks_cannot_report(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = Pipe()
    pipe = TrainerPipe(theirs)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ValueRefusedError, match="in the process that called train"):
        pipe.send(Tick(1, 0.5, 1.0))
    assert not ours.poll()
    ours.close(), theirs.close()
