"""Sizes of the studies that are measured."""

from __future__ import annotations

from dataclasses import dataclass

Way = tuple[str, int]
"""`lanes` or `processes`, and how many of them."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the studies."""

    # The informative ones first: a part may be cut off.
    ways: tuple[Way, ...] = (
        *(("processes", 1), ("lanes", 16), ("processes", 4), ("lanes", 64), ("lanes", 4), ("lanes", 32)),
        *(("processes", 8), ("lanes", 8), ("processes", 2), ("lanes", 2), ("lanes", 1)),
    )
    steady_seconds: float = 4.0
    """Time for which all trials train before their rate is taken."""
    limit: int | None = None
    """Training images; None: all."""
    trials: int = 64
    alone_seconds: float = 40.0
    """Time for trials one at a time, from which trials an hour are taken."""
    processes: int = 8
    """Slots of a search where there are no lanes."""
    lanes: int = 16
    """Lanes of a search where no rate of lanes is known."""
    seeds: int = 5
    searched: str = "cifar-resnet"
    search_epochs: int | None = None
    """Epochs of a trial in the search and the retrain; None: those of the objective."""

    @classmethod
    def small(cls) -> Sizes:
        """Return those of a rehearsal."""
        ways: tuple[Way, ...] = (("processes", 1), ("lanes", 2), ("processes", 2))
        return cls(
            ways=ways,
            steady_seconds=1.0,
            limit=128,
            trials=4,
            alone_seconds=20,
            processes=2,
            lanes=2,
            seeds=2,
            searched="mnist-cnn",
            search_epochs=2,
        )
