"""Messages of a trainer as JSON, so that nothing of an objective's own classes reaches its agent.

A trainer runs user code, so its agent takes from it nothing but these messages, each of plain values of the right
type: no pickle, which runs code where it is read.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from optuna.distributions import json_to_distribution

from hpo.outcomes import Outcome
from hpo.trainer.ends.failures import MOST_MESSAGE, MOST_TRACEBACK
from hpo.trainer.messages import (
    Annotate,
    Constrain,
    Ending,
    Epoch,
    EpochRecord,
    Finished,
    FromTrainer,
    Held,
    Imported,
    LaneSpeed,
    Loaded,
    Measure,
    Started,
    Suggest,
    Tick,
    ToTrainer,
)
from objectives.runs.records import MOST_RECORDED
from objectives.values import ValueRefusedError, checked_name, shortened, text

MOST_BYTES = 4 * MOST_RECORDED
"""Largest message of a trainer."""

_LENGTH = struct.Struct("!i")
"""Length of a message in the bytes before it, as `multiprocessing.connection` sends it."""

_READ_BYTES = 256 * 1024

MOST_MODULES = 200
"""Number of modules that a message may name, so few that a template's pipe holds them."""
_MODULE = re.compile(r"(?=.{1,100}$)[^\W\d]\w*(\.[^\W\d]\w*)*", re.ASCII)

MOST_EPOCH = 2**31 - 1
"""Largest number of an epoch that the database stores."""


class UnreadableMessageError(Exception):
    """The bytes that a trainer sent are not a message: code of the objective has written to its pipe."""


class MessageReader:
    """The agent's reading end of a pipe: it returns whole messages and never waits for the rest of one.

    Code of an objective may have written half a message, or a trainer may have been stopped in the middle of one.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._read = bytearray()

    def read(self) -> Iterator[bytes]:
        """Yield the messages that are complete, after a single read, which waits for the first byte only.

        Raises:
            EOFError, OSError: the pipe is closed.
            UnreadableMessageError: the next bytes are not a message.
        """
        chunk = os.read(self._connection.fileno(), _READ_BYTES)
        if not chunk:
            raise EOFError
        self._read += chunk
        while (end := self._end()) is not None:
            message = bytes(self._read[_LENGTH.size : end])
            del self._read[:end]
            yield message

    def _end(self) -> int | None:
        """Return where the first message ends; None if it is incomplete."""
        if len(self._read) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._read)
        if not 0 <= length <= MOST_BYTES:
            raise UnreadableMessageError(f"{length} bytes")
        end: int = _LENGTH.size + length
        return end if len(self._read) >= end else None


class TrainerPipe:
    """A trainer's end of the pipe to its agent, which the threads of an objective share."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._ended = False
        self._postponed: FromTrainer | None = None

    @property
    def begun(self) -> bool:
        """Whether no message is postponed."""
        return self._postponed is None

    def postpone(self, message: FromTrainer) -> None:
        """Send a message in front of the next one, or when `begin` is called."""
        self._postponed = message

    def begin(self) -> None:
        """Send the message that was postponed, if there is one."""
        message, self._postponed = self._postponed, None
        if message is not None:
            self.send(message)

    @property
    def owned(self) -> bool:
        """Whether this process is the trainer, and not a process that its objective has forked."""
        return os.getpid() == self._pid

    def check_owned(self) -> None:
        """Raise ValueRefusedError in a process that the objective has forked."""
        if not self.owned:
            raise ValueRefusedError(
                "run was used in a process that the objective has started: report, tick and record in the process that"
                " called train()"
            )

    def send(self, message: FromTrainer) -> None:
        """Send a message as a whole; raise OSError if the agent is gone."""
        self.check_owned()
        self.begin()
        content = encode(message)
        with self._lock:
            if self._ended:
                # A thread that it has left: the next messages are those of another attempt.
                raise ValueRefusedError(
                    "run was used after its trial had ended: report, tick and record in train()"
                )
            self._connection.send_bytes(content)
            self._ended = isinstance(message, Finished) and message.stays

    def receive(self) -> ToTrainer:
        """Wait for the agent's next message; raise EOFError or OSError if the agent is gone."""
        message: ToTrainer = self._connection.recv()
        return message


def encode(message: FromTrainer) -> bytes:
    """Return a message as bytes; its texts are cleaned and bounded here."""
    if isinstance(message, Finished):
        message = Finished(
            message.outcome,
            text(shortened(message.error, 3 * MOST_MESSAGE)),
            text(shortened(message.traceback, 2 * MOST_TRACEBACK)),
            message.results,
            message.value,
            message.stays,
            message.shared,
        )
    return json.dumps([type(message).__name__, asdict(message)]).encode()


def decode(content: bytes) -> FromTrainer:
    """Return the message that `encode` made these bytes of.

    Raises:
        UnreadableMessageError: they are not those of a message.
    """
    try:
        kind, values = json.loads(content)
        match kind:
            case "Started":
                history = tuple(map(epoch_record, values["history"]))
                return Started(whole(values["pid"]), whole(values["resumed_from"]), history)
            case "Loaded":
                return Loaded(text(values["data"]))
            case "Tick":
                return Tick(
                    whole(values["epoch"]), _real(values["fraction"]), _real(values["images_per_second"])
                )
            case "Held":
                return Held()
            case "Ending":
                return Ending()
            case "Epoch":
                return Epoch(epoch_record(values["record"]))
            case "Imported":
                return Imported(
                    _modules(values["modules"]), text(shortened(values["obstacle"], MOST_MESSAGE))
                )
            case "Finished":
                error, traceback = text(values["error"]), text(values["traceback"])
                value = None if values["value"] is None else _real(values["value"])
                results, stays = mapping(values["results"]), values.get("stays") is True
                shared = values.get("shared") is True
                return Finished(Outcome(values["outcome"]), error, traceback, results, value, stays, shared)
            case "Suggest":
                json_to_distribution(values["distribution"])
                return Suggest(_text(values["name"]), values["distribution"])
            case "Annotate":
                return Annotate(checked_name("attribute", values["name"]), values["value"])
            case "Measure":
                return Measure(
                    {
                        checked_name("figure", name): _real(value)
                        for name, value in mapping(values["figures"]).items()
                    }
                )
            case "LaneSpeed":
                return LaneSpeed(whole(values["lanes"]), _real(values["images_per_second"]))
            case "Constrain":
                return Constrain(checked_name("constraint", values["name"]), _real(values["value"]))
        raise ValueError(f"unknown kind {kind!r}")
    # Foreign bytes fail in any way.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise UnreadableMessageError(type(exc).__name__) from exc


def epoch_record(values: Any) -> EpochRecord:
    """Return the epoch of these values.

    Raises:
        ValueError, TypeError, KeyError: they are not those of an epoch.
    """
    epoch, seconds = whole(values["epoch"]), _real(values["seconds"])
    if epoch < 1:
        raise ValueError(f"epoch {epoch}")
    metrics = {
        checked_name("metric", name): _float(value) for name, value in mapping(values["metrics"]).items()
    }
    return EpochRecord(epoch, metrics, seconds)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return the value if it is a JSON object, else raise TypeError."""
    if not isinstance(value, dict):
        raise TypeError(type(value).__name__)
    return value


def _modules(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_MODULES:
        raise ValueError(f"{value!r:.40} are not modules")
    for name in value:
        if not _MODULE.fullmatch(name):
            raise ValueError(f"{name!r:.40} is not a module")
    return tuple(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value


def whole(value: Any) -> int:
    """Return the value if it is a whole number from 0 that fits into 31 bits, else raise ValueError."""
    if type(value) is not int or not 0 <= value <= MOST_EPOCH:
        raise ValueError(f"{value!r:.40} is not a count")
    return value


def _float(value: Any) -> float:
    if type(value) not in (float, int):
        raise TypeError(type(value).__name__)
    return float(value)


def _real(value: Any) -> float:
    found = _float(value)
    if not math.isfinite(found):
        raise ValueError(f"{found} is not finite")
    return found
