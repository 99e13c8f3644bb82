"""Trainers that have ended an attempt and wait for the next one in their slot."""

from __future__ import annotations

from collections.abc import Collection
from multiprocessing.connection import Connection

from hpo.trainer.messages import Start
from hpo.trainer.pooled_trainer import PooledTrainer
from objectives.device import Device


def may_stay(start: Start, device: Device) -> bool:
    """Return whether the trainer of an attempt may wait for another one after it."""
    # A limit of memory is one of an attempt, and a GPU is not known to repeat results.
    limited = start.memory_bytes is not None or device.gpu is not None
    return not (start.final or start.checks or start.most_lanes or limited)


class WaitingTrainers:
    """The waiting trainers of a pool by their slots; one that ends or sends anything is dropped."""

    def __init__(self) -> None:
        self._kept: dict[int, PooledTrainer] = {}

    @property
    def connections(self) -> list[Connection]:
        return [trainer.connection for trainer in self._kept.values()]

    def keep(self, slot: int, trainer: PooledTrainer) -> None:
        """Keep the trainer of a slot, which has none."""
        self._kept[slot] = trainer

    def take(self, slot: int, start: Start) -> PooledTrainer | None:
        """Return the trainer that has got the next attempt of a slot; None if none waits there."""
        trainer = self._kept.pop(slot, None)
        if trainer is not None and not trainer.restart(start):
            _end(trainer)
            return None
        return trainer

    def drop_ready(self, ready: Collection[object]) -> None:
        """Drop trainers whose pipes are ready to be read: they have ended, or write what no attempt has sent."""
        self._drop({slot for slot, trainer in self._kept.items() if trainer.connection in ready})

    def drop_process(self, pid: int) -> None:
        """Drop the trainer of a process that has ended."""
        self._drop({slot for slot, trainer in self._kept.items() if trainer.pid == pid})

    def close(self) -> None:
        self._drop(set(self._kept))

    def _drop(self, slots: Collection[int]) -> None:
        for slot in slots:
            _end(self._kept.pop(slot))


def _end(trainer: PooledTrainer) -> None:
    trainer.kill()
    trainer.close()
