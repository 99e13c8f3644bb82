"""One training of one configuration from one seed, and the choice of those that are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpo.errors import HpoError
from hpo.export.config import Config
from hpo.files.bounded_log import BoundedLog
from hpo.retrain.results import SeedResult
from hpo.trainer.checkpointing.checkpoints import CheckpointFolder
from hpo.trainer.messages import EpochRecord
from hpo.trainer.workload import SupervisedRun


class RetrainFailedError(HpoError):
    """A final run of the configuration failed, so there is no result to trust."""


@dataclass(kw_only=True)
class SeedRun(SupervisedRun):
    """One seed of one configuration."""

    name: str = ""
    """Subject of error messages."""
    config: Config
    seed: int
    folder: CheckpointFolder
    log: Path
    output: Path | None = None
    history: list[EpochRecord] = field(default_factory=list)
    lost: int = 0
    printed: BoundedLog = field(init=False)
    result: SeedResult | None = None
    failure: str | None = None
    """Reason why it ended without a result, if that ends no other run."""

    def __post_init__(self) -> None:
        self.name = self.name or f"seed {self.seed}"
        self.printed = BoundedLog(self.log)

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left to train."""
        return self.result is not None or self.failure is not None

    @property
    def context(self) -> Mapping[str, object]:
        return {"trial": self.config.trial, "seed": self.seed}


class Needs:
    """The runs that have to be trained: here, all of them."""

    @property
    def note(self) -> str:
        """Line of the live view on runs that are not needed; empty without one."""
        return ""

    def includes(self, run: SeedRun) -> bool:  # noqa: ARG002 - for those who choose
        """Whether a result depends on a run; it is asked again after the end of each."""
        return True
