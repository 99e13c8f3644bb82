"""A pool and a template without processes, for tests of all that supervises trainers, and of the pool itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hpo.outcomes import Outcome
from hpo.trainer.ends.exits import Event, SpawnFailed, TrainerExited
from hpo.trainer.lanes.shapes import Shapes
from hpo.trainer.messages import Command, Epoch, EpochRecord, Finished, Held, Start, Started, ToTrainer
from hpo.trainer.pipe import MessageReader
from hpo.trainer.template import pipe
from hpo.trainer.template.loading import ObjectiveLoader
from hpo.trainer.template.messages import Fork, Forked, FromTemplate, Import, Load
from objectives.base import DataOptions, Objective, Params
from objectives.device import Device

Script = Callable[[Start], Iterable[Event]]
"""Events of a trainer, one for each `wait`; a script that ends without a `Finished` hangs."""


def trained(start: Start, **metrics: float) -> list[Event]:
    """Return the events of a run that trains all its epochs, by default with a metric of 1 / epoch."""
    epochs: list[Event] = [
        Epoch(EpochRecord(epoch, metrics or {start.metric: 1.0 / epoch}, 0.01))
        for epoch in range(1, (start.epochs or 1) + 1)
    ]
    return [Started(1, 0), *epochs, Finished(Outcome.COMPLETE)]


def start_message(**values: Any) -> Start:
    """Return the message that starts an attempt of three epochs."""
    defaults: dict[str, Any] = {
        "params": {},
        "seed": 1,
        "epochs": 3,
        "metric": "loss",
        "device": Device(),
        "checkpoints": "",
        "log": "",
    }
    return Start(**defaults | values)


def prepared(objective: Objective) -> ObjectiveLoader:
    """Return an objective as trainers get it."""
    return ObjectiveLoader(Load("o", DataOptions(), final=False), objective)


@dataclass
class _Trainer:
    events: list[Event]
    paused: bool = False
    holds: bool = False
    """Whether it has yet to report that it waits."""
    forked: bool = True


@dataclass(kw_only=True)
class FakePool:
    """A `TrainerPool` whose trainers play scripts: the next one of `scripts`, or `default`."""

    slots: int = 1
    default: Script = trained
    scripts: list[Script] = field(default_factory=list)
    ready: bool = True
    stage: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)
    """Attempts that were started, in order."""
    sent: list[tuple[int, ToTrainer]] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    shared: frozenset[int] = frozenset()
    """Slots that one process serves."""
    templates_replaced: int = 0
    endings: dict[Command, list[Event]] = field(
        default_factory=lambda: {
            Command.PRUNE: [Finished(Outcome.PRUNED)],
            Command.PREEMPT: [Finished(Outcome.PREEMPTED)],
        }
    )
    """Events of a trainer that is asked to end."""
    burst: int = 1
    """Number of events that one `wait` returns of each trainer."""
    on_wait: Callable[[], None] = lambda: None
    """Called by each `wait`, to change the world while an agent runs."""

    def __post_init__(self) -> None:
        self.devices = [Device() for _ in range(self.slots)]
        self.lanes = FakeLanes()
        self._trainers: dict[int, _Trainer] = {}

    @property
    def busy(self) -> frozenset[int]:
        return frozenset(self._trainers)

    def free_slots(self) -> list[int]:
        return [slot for slot in range(self.slots) if slot not in self._trainers]

    def start(self, slot: int, start: Start) -> None:
        script = self.scripts.pop(0) if self.scripts else self.default
        events = list(script(start))
        self.starts.append(start)
        self._trainers[slot] = _Trainer(events, forked=bool(events))

    def is_forked(self, slot: int) -> bool:
        return slot in self._trainers and self._trainers[slot].forked

    def wait(self, timeout: float) -> list[tuple[int, Event]]:  # noqa: ARG002 - the pool's signature
        self.on_wait()
        events: list[tuple[int, Event]] = []
        for slot, trainer in list(self._trainers.items()):
            if trainer.holds:
                trainer.holds = False
                events.append((slot, Held()))
            if trainer.paused or not trainer.events:
                continue
            found, trainer.events = trainer.events[: self.burst], trainer.events[self.burst :]
            events += [(slot, event) for event in found]
            if any(isinstance(event, Finished | TrainerExited | SpawnFailed) for event in found):
                del self._trainers[slot]
        return events

    def send(self, slot: int, message: ToTrainer) -> None:
        self.sent.append((slot, message))
        trainer = self._trainers.get(slot)
        if trainer is None:
            return
        match message:
            case Command.PRUNE | Command.PREEMPT:
                trainer.events = list(self.endings[message])
            case Command.PAUSE | Command.RESUME:
                trainer.paused = trainer.holds = message is Command.PAUSE

    def kill(self, slot: int) -> None:
        if self._trainers.pop(slot, None) is not None:
            self.killed.append(slot)

    def sharing(self, slot: int) -> frozenset[int]:
        return frozenset({slot, *(self.shared if slot in self.shared else ())})

    def kill_all(self) -> None:
        for slot in list(self._trainers):
            self.kill(slot)

    def check_loading(self, hung_seconds: float) -> None:
        """Do nothing: the fake template has loaded everything."""

    def replace_template(self) -> None:
        self.templates_replaced += 1

    def truncate_log(self) -> None:
        """Do nothing: there is no log."""


class FakeLanes:
    """Lanes whose trials have the shape that a parameter names, of one process."""

    def __init__(self) -> None:
        self.shapes = Shapes()
        self.running: list[Params] = []
        self.retiring: frozenset[int] = frozenset()
        self.hung_seconds = 0.0

    def ask(self, params: Params, epochs: int | None) -> None:  # noqa: ARG002 - the signature of the real ones
        self.shapes.note_placed(params, str(params.get("shape", "")))

    def joins(self, slot: int, device: Device, params: Params) -> bool:  # noqa: ARG002
        return self.shapes.is_among(params, self.running)


class FakeTemplate:
    """A `TemplateProcess` whose messages, trainers and end a test chooses."""

    def __init__(self, load: Load, log: Path, guard: int) -> None:  # noqa: ARG002 - the signature of the real one
        self.load = load
        self.connection, self._process = Pipe()
        self._messages = MessageReader(self.connection)
        self.status = 0
        self.trainers: dict[int, Connection] = {}
        """Trainers' ends of their pipes by the serial of the request."""
        self.devices: dict[int, Device] = {}
        """Their devices."""
        self.imports: list[tuple[str, ...]] = []
        """Modules of each request to import some."""
        self._forked: set[int] = set()
        log.touch()

    def send(self, *messages: FromTemplate) -> None:
        for message in messages:
            if isinstance(message, Forked):
                self._forked.add(message.serial)
            pipe.send(self._process, message)

    def die(self, status: int = -9) -> None:
        self.status = status
        self._process.close()
        for serial in self.trainers.keys() - self._forked:
            self.trainers[serial].close()

    def receive(self) -> Iterator[FromTemplate]:
        return map(pipe.decode, self._messages.read())

    def request(self, fork: Fork, pipe_end: Connection) -> None:
        if self._process.closed:
            raise BrokenPipeError
        self.trainers[fork.serial] = Connection(os.dup(pipe_end.fileno()))
        self.devices[fork.serial] = fork.device

    def import_modules(self, modules: Import) -> None:
        self.imports.append(modules.modules)

    def kill(self) -> None:
        self.die()

    def close(self) -> int:
        self.connection.close()
        self._process.close()
        return self.status
