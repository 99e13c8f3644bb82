"""The agent's end of a trainer's pipes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hpo.trainer.messages import ToTrainer
from hpo.trainer.pipe import TrainerPipe, decode
from hpo.trainer.run import TrainerRun
from hpo.trainer.testing import start_message

PATIENCE = 30.0


@dataclass
class Agent:
    """The other end of the pipe."""

    folder: Path
    exits: list[int]
    threads: list[threading.Thread] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    def run(self, epochs: int | None = 3, reply_seconds: float = PATIENCE, **more: Any) -> TrainerRun:
        ours, theirs = Pipe()
        self.connections += [ours, theirs]
        more = {"epochs": epochs, "reply_seconds": reply_seconds, "saves_outcome": True, **more}
        run = TrainerRun(
            TrainerPipe(theirs), start_message(**{"checkpoints": str(self.folder / "trial"), **more})
        )
        thread = threading.Thread(target=_until_exit(run), daemon=True)
        thread.start()
        self.threads.append(thread)
        return run

    def say(self, *messages: ToTrainer) -> None:
        for message in messages:
            self.connections[-2].send(message)

    def hear(self) -> Any:
        assert self.connections[-2].poll(PATIENCE)
        return decode(self.connections[-2].recv_bytes())

    def received(self) -> list[Any]:
        """Return all messages so far."""
        messages = []
        while self.connections[-2].poll():
            messages.append(decode(self.connections[-2].recv_bytes()))
        return messages

    def leave(self) -> None:
        """Close the pipe, as a killed agent does."""
        self.connections[-2].close()
        self.threads[-1].join(PATIENCE)


def _until_exit(run: TrainerRun) -> Callable[[], None]:
    def listen() -> None:
        with suppress(SystemExit):
            run.listen()

    return listen
