"""The estimate that `hpo plan` makes of a search, as a study stores it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Cost of a search, from a probe of its default configuration. Times are in seconds, memory is in bytes."""

    slots: int
    """Worker slots that trained at the same time, and will."""
    trials: int
    """Trials that are left to train."""
    epochs: int | None
    """Epochs of a trial that is not pruned; None: only the objective knows."""
    load_seconds: float
    """Time to load the objective and its data, once."""
    start_seconds: float
    """Time of a trial that is not part of its epochs: its process, its model, the first step."""
    epoch_seconds: float
    measured_epochs: int
    """Epochs of which `epoch_seconds` is the median; 0: it follows from a part of the first one."""
    trial_seconds: float
    """Time of a trial that is not pruned."""
    least_epochs: int | None
    """Epochs of all trials if the pruner ends as many as early as it may; None: only the objective knows."""
    most_epochs: int | None
    least_seconds: float
    most_seconds: float
    trial_bytes: int | None
    """Memory that a trial does not share."""
    shared_bytes: int | None
    """Memory that all trials share, that of the agent included."""
    free_bytes: int
    """Memory that was free before."""
    checkpoint_bytes: int
    """Checkpoints of a trial."""

    @property
    def slots_that_fit(self) -> int | None:
        """Number of slots whose trials fit into the free memory; None if the memory is not known."""
        if self.trial_bytes is None or self.shared_bytes is None:
            return None
        return max(self.free_bytes - self.shared_bytes, 0) // max(self.trial_bytes, 1)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "slots_that_fit": self.slots_that_fit}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Estimate:
        """Invert `to_json`.

        Raises:
            KeyError, TypeError: another version made it.
        """
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def estimate_of(spec_json: Mapping[str, Any]) -> Estimate | None:
    """Return the estimate that is stored with a study, if there is one that this version knows."""
    with suppress(KeyError, TypeError):
        return Estimate.from_json(spec_json["estimate"])
    return None
