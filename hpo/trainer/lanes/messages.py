"""Messages between an agent and a lane host; those to the agent are JSON.

agent --Begin (+ a file), Train (+ one end of a pipe), Ask--> host --Placed, Freed, Refused, Shape--> agent

Each attempt has a pipe of its own, with the messages of any trainer (`hpo.trainer.messages`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hpo.trainer.ends.failures import MOST_MESSAGE
from hpo.trainer.pipe import UnreadableMessageError, whole
from objectives.base import Params
from objectives.device import Device
from objectives.values import shortened, text

MOST_SHAPE = 1000
"""Largest number of characters of a shape."""


@dataclass(frozen=True)
class Begin:
    """Prepare to train in the lanes of a device; the file of the process's output follows as a descriptor."""

    device: Device


@dataclass(frozen=True)
class Train:
    """Train an attempt in a lane, which is free or about to be; one end of its pipe follows as a file descriptor."""

    lane: int
    number: int
    """Number of the attempt, counted by the agent."""


@dataclass(frozen=True)
class Ask:
    """Say which shape a configuration has."""

    number: int
    params: Params
    epochs: int | None


@dataclass(frozen=True)
class Placed:
    """An attempt trains in the program of a shape."""

    number: int
    shape: str


@dataclass(frozen=True)
class Freed:
    """An attempt has ended and left its lane, also one whose pipe was closed."""

    number: int
    retires: bool = False
    """Whether the host may train no further attempt, because of the memory that it has come to use."""


@dataclass(frozen=True)
class Refused:
    """An attempt has to be trained by a process of its own, and has left its lane."""

    number: int
    reason: str


@dataclass(frozen=True)
class Shape:
    """Trials of one shape are trained by one program."""

    number: int
    """That of the question."""
    shape: str
    """Empty: the configuration is trained in a process of its own."""


ToHost = Begin | Train | Ask
FromHost = Placed | Freed | Refused | Shape


def encode(message: FromHost) -> bytes:
    """Return a message as bytes; its texts are cleaned and bounded here."""
    values = asdict(message)
    for name, most in (("reason", MOST_MESSAGE), ("shape", MOST_SHAPE)):
        if name in values:
            values[name] = text(shortened(values[name], most))
    return json.dumps([type(message).__name__, values]).encode()


def decode(content: bytes) -> FromHost:
    """Return the message that `encode` made these bytes of.

    Raises:
        UnreadableMessageError: they are not those of a message.
    """
    try:
        kind, values = json.loads(content)
        return _message(kind, values)
    # Foreign bytes fail in any way.
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        raise UnreadableMessageError(type(exc).__name__) from exc


def _message(kind: str, values: Mapping[str, Any]) -> FromHost:
    match kind:
        case "Freed":
            return Freed(whole(values["number"]), values["retires"] is True)
        case "Refused":
            return Refused(whole(values["number"]), text(values["reason"]))
        case "Placed":
            return Placed(whole(values["number"]), text(shortened(values["shape"], MOST_SHAPE)))
        case "Shape":
            return Shape(whole(values["number"]), text(shortened(values["shape"], MOST_SHAPE)))
    raise ValueError(f"unknown kind {kind!r:.40}")
