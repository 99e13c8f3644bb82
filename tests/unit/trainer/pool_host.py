"""A pool of trainers with the fake processes of its host."""

from __future__ import annotations

from pathlib import Path

from hpo.outcomes import Outcome
from hpo.trainer.messages import Epoch, EpochRecord, Finished
from hpo.trainer.pool import TrainerPool
from hpo.trainer.template.messages import Described, Forked, FromTemplate, Load, Ready
from hpo.trainer.testing import FakeTemplate, start_message
from objectives.base import DataOptions
from objectives.description import Description
from objectives.device import Device

READY = Ready({"keras": "3"})


def described(code: str) -> Described:
    return Described(
        Description(name="o", metric="loss", direction="minimize", epochs=3, space={}, code=code)
    )


DESCRIBED = described("c0de")
EPOCH = Epoch(EpochRecord(1, {"loss": 0.5}, 0.1))
DONE = Finished(Outcome.COMPLETE)


class Host:
    """A pool with the fake processes of its host."""

    def __init__(self, folder: Path, slots: int) -> None:
        self.templates: list[FakeTemplate] = []
        self.killed: list[int] = []
        self.running: set[int] = set()
        self.oom_kills = 0
        self.log = folder / "template.log"
        self.pool = TrainerPool(
            Load("o", DataOptions(), final=False),
            [Device()] * slots,
            self.log,
            self._template,
        )

    def _template(self, *arguments: object) -> FakeTemplate:
        self.templates.append(FakeTemplate(*arguments))
        return self.templates[-1]

    @property
    def template(self) -> FakeTemplate:
        return self.templates[-1]

    def events(self, *messages: FromTemplate) -> list[tuple[int, object]]:
        """Return the events after the template has sent messages."""
        self.template.send(*messages)
        return [event for _ in range(4) for event in self.pool.wait(0.0)]

    def start(self, slot: int = 0, pid: int | None = None) -> int:
        """Request a trainer, which is forked if it has a process id, and return its serial."""
        self.pool.start(slot, start_message())
        serial = max(self.template.trainers)
        if pid is not None:
            self.running.add(pid)
            assert self.events(Forked(serial, pid)) == []
        return serial
