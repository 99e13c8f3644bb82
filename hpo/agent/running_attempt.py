"""An attempt in a slot: its trial, its progress and its value so far."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpo.files.bounded_log import AttemptLog
from hpo.search.spec import StudySpec
from hpo.terminal.progress import SlotView
from hpo.trainer.messages import EpochRecord
from hpo.trainer.workload import SupervisedRun
from objectives.base import Params
from objectives.trial_value import Reported, chosen
from storage.claiming.claims import Claim


@dataclass(kw_only=True)
class RunningAttempt(SupervisedRun):
    """An attempt in a slot."""

    claim: Claim
    trial_id: int
    number: int
    params: Params
    log: AttemptLog
    began_at: float = field(default_factory=time.monotonic)
    value: float | None = None
    """Value of the objective's metric after the last epoch, or the one that the objective returned."""
    judged: Reported | None = None
    """Report whose value is the trial's so far."""
    reports: list[Reported] = field(default_factory=list)
    """Values of the objective's metric by epoch, those of earlier attempts included."""
    figures: dict[str, float] = field(default_factory=dict)
    """Figures of the configuration that the study asks for, as far as they are known."""
    violated: str = ""
    """How the trial violates a constraint that its objective has set; empty if it does not."""
    paused: bool = False
    """Whether freeze-thaw has paused the trial, so that its trainer ends."""
    earlier_seconds: float = 0.0
    """Time of the epochs that earlier attempts have trained and this one does not train again."""
    trained_seconds: float = 0.0
    """Time of its epochs, those of earlier attempts included."""
    limit_at: float = math.inf
    """Time when the trial will have trained for too long, by the supervisor's clock."""

    @property
    def attempt_id(self) -> int:
        return self.claim.attempt_id

    @property
    def context(self) -> Mapping[str, object]:
        return {"trial": self.number, "attempt": self.attempt_id}

    def record(self, last: EpochRecord, reports: Sequence[Reported], spec: StudySpec) -> None:
        """Note the last epoch, and the objective's metric by epoch as far as it is known."""
        self.epoch, self.fraction = last.epoch, 0.0
        self.images_per_second = last.metrics.get("images_per_second", self.images_per_second)
        if reports:
            self.reports += reports
            self.value = reports[-1].value
            known = [self.judged] if self.judged is not None else []
            self.judged = chosen([*known, *reports], spec.value, maximize=spec.direction == "maximize")

    def exclude(self, seconds: float) -> None:
        """Leave a pause out of the time that the trial takes."""
        self.began_at += seconds
        self.limit_at += seconds

    def view(self, device: str, epochs: int | None) -> SlotView:
        return SlotView(
            device=device,
            run=str(self.number),
            epoch=self.epoch,
            epochs=epochs,
            fraction=self.fraction,
            value=self.value,
            images_per_second=self.images_per_second,
            note=self.note,
        )
