"""Messages of a command that runs for a call from Python: lines, views, trials that ended, and its end, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from hpo.outcomes import Outcome
from hpo.terminal.progress import SlotView, View
from hpo.terminal.trial_lines import TrialEnd
from storage.budget import Counts

INTERRUPT = b"i"
"""Request of the caller: interrupt the command as Ctrl-C does."""


@dataclass(frozen=True)
class Line:
    """A line of the log."""

    text: str


@dataclass(frozen=True)
class Ended:
    """A trial that ended here, and the counts after it."""

    trial: TrialEnd
    counts: Counts | None


@dataclass(frozen=True)
class Closed:
    """The progress is complete."""


@dataclass(frozen=True)
class Failed:
    """The error that ended the command."""

    error: str
    """Name of its class."""
    message: str
    notes: tuple[str, ...] = ()
    """Tracebacks of the objective."""


Message = Line | View | Ended | Closed | Failed


def encode(message: Message) -> bytes:
    """Return a message as one line of bytes."""
    return json.dumps([type(message).__name__, asdict(message)], default=str).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message that `encode` made this line of.

    Raises:
        ValueError: it is not that of a message.
    """
    kind, values = json.loads(line)
    match kind:
        case "Line":
            return Line(**values)
        case "View":
            return _view(values)
        case "Ended":
            trial = TrialEnd(**values["trial"] | {"outcome": Outcome(values["trial"]["outcome"])})
            return Ended(trial, None if values["counts"] is None else Counts(**values["counts"]))
        case "Closed":
            return Closed()
        case "Failed":
            return Failed(values["error"], values["message"], tuple(values["notes"]))
    raise ValueError(f"unknown message {kind!r}")


def _view(values: dict[str, Any]) -> View:
    best = values["best"]
    return View(
        **values
        | {
            "counts": Counts(**values["counts"]),
            "slots": [SlotView(**slot) for slot in values["slots"]],
            "best": None if best is None else tuple(best),
        }
    )
