"""What a study cost, and what pruning saved of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo import formatting
from hpo.document.document import Block, Paragraph, Section, Table
from hpo.study.history import StudyHistory


@dataclass(frozen=True)
class Cost:
    """Of the search and of the retrains."""

    trials: Mapping[str, int]
    """Each outcome to its number of trials."""
    epochs: int
    """Different epochs of trials."""
    repeated_epochs: int
    """Trained more than once, after a process or a machine was lost."""
    wall_seconds: float
    """While at least one agent was alive."""
    training_seconds: float
    """Of all attempts together: two that train at the same time count twice."""
    pruned_epochs: int
    """That pruned trials did not train."""
    pruned_seconds: float
    """What these would have taken, at the mean time of the epochs that were trained."""
    retrain_seconds: float
    """Of final runs and of candidates, those at the same time counted each."""

    @property
    def saved_share(self) -> float | None:
        """Of all epochs that the finished trials would have had."""
        total = self.epochs + self.pruned_epochs
        return self.pruned_epochs / total if total else None


def cost_of(history: StudyHistory) -> Cost:
    """Summed over the whole study."""
    per_trial = int(history.study.spec["epochs"])
    pruned = sum(per_trial - trial.epochs for trial in history.trials if trial.state == "pruned")
    measured = [row.seconds for row in history.epochs]
    mean = sum(measured) / len(measured) if measured else 0.0
    retrains = sum(_retrain_seconds(row.metrics or {}) for row in history.finished_retrains)
    trained = sum(attempt.epochs for attempt in history.attempts)
    return Cost(
        dict(history.status.outcomes),
        len(history.epochs),
        max(0, trained - len(history.epochs)),
        history.status.elapsed_seconds,
        sum(attempt.seconds for attempt in history.attempts),
        pruned,
        pruned * mean,
        retrains,
    )


def _retrain_seconds(metrics: Mapping[str, Any]) -> float:
    candidates = metrics.get("selection", {}).get("candidates", [])
    return float(sum(run["seconds"] for run in [*metrics.get("runs", []), *candidates]))


def cost_section(history: StudyHistory) -> Section:
    """The costs as a table, and pruning in a sentence."""
    cost = cost_of(history)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in cost.trials.items()) or "none finished"
    rows = [
        ("trials", f"{sum(cost.trials.values())} ({outcomes})"),
        (
            "epochs",
            str(cost.epochs) + (f", {cost.repeated_epochs} of them repeated" if cost.repeated_epochs else ""),
        ),
        ("wall time of the search", formatting.duration(cost.wall_seconds)),
        ("training time of the search, summed over slots", formatting.duration(cost.training_seconds)),
    ]
    if cost.retrain_seconds:
        rows.append(
            ("training time of retrains, summed over runs", formatting.duration(cost.retrain_seconds))
        )
    blocks: list[Block] = [Table(("what", "how much"), rows)]
    if cost.pruned_epochs and cost.saved_share is not None:
        blocks.append(
            Paragraph(
                f"Pruning saved {cost.pruned_epochs} of {cost.epochs + cost.pruned_epochs} epochs "
                f"({100 * cost.saved_share:.0f} %), about {formatting.duration(cost.pruned_seconds)} of training."
            )
        )
    else:
        blocks.append(Paragraph("Pruning saved nothing: no trial was pruned."))
    return Section("Cost", blocks)
