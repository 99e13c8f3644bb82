"""The cost of a study in epochs and time, and the part that pruning saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo import formatting
from hpo.analysis.records import drawable
from hpo.document.document import Block, Paragraph, Table
from hpo.outcomes import Outcome
from hpo.study.history import StudyHistory


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of the search and of the retrains."""

    trials: Mapping[str, int]
    """Number of trials of each outcome."""
    epochs: int
    """Distinct epochs of trials."""
    repeated_epochs: int
    """Epochs trained again after a process or a machine was lost."""
    wall_seconds: float
    """Seconds during which at least one agent was alive."""
    training_seconds: float
    """Seconds of all attempts, summed over slots."""
    pruned_epochs: int
    """Epochs that pruned trials did not train."""
    pruned_seconds: float
    """Estimated seconds of these epochs, from the mean time of the trained ones."""
    retrain_seconds: float
    """Seconds of all final runs and candidates, summed over runs."""

    @property
    def saved_share(self) -> float | None:
        """Share of the epochs that the finished trials would have had without pruning."""
        total = self.epochs + self.pruned_epochs
        return self.pruned_epochs / total if total else None


def cost_of(history: StudyHistory) -> Cost:
    """Return the cost of the whole study."""
    per_trial = int(history.study.spec_json["epochs"])
    pruned = sum(per_trial - trial.epochs for trial in history.trials if trial.state == Outcome.PRUNED)
    measured = [row.seconds for row in history.epochs]
    mean = sum(measured) / len(measured) if measured else 0.0
    retrains = sum(_retrain_seconds(row.metrics or {}) for row in history.finished_retrains)
    trained = sum(attempt.epochs for attempt in history.attempts)
    return Cost(
        trials=dict(history.status.outcomes),
        epochs=len(history.epochs),
        repeated_epochs=max(0, trained - len(history.epochs)),
        wall_seconds=history.status.elapsed_seconds,
        training_seconds=sum(attempt.seconds for attempt in history.attempts),
        pruned_epochs=pruned,
        pruned_seconds=pruned * mean,
        retrain_seconds=retrains,
    )


def _retrain_seconds(metrics: Mapping[str, Any]) -> float:
    candidates = metrics.get("selection", {}).get("candidates", [])
    return float(sum(run["seconds"] or 0.0 for run in [*drawable(metrics.get("runs", [])), *candidates]))


def cost_blocks(history: StudyHistory) -> list[Block]:
    """Return the costs as a table, and the effect of pruning as a sentence."""
    cost = cost_of(history)
    outcomes = (
        ", ".join(f"{count} {outcome}" for outcome, count in cost.trials.items()) or "no trial has finished"
    )
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
    blocks: list[Block] = [Table(("item", "value"), rows)]
    if cost.pruned_epochs and cost.saved_share is not None:
        blocks.append(
            Paragraph(
                f"Pruning saved {cost.pruned_epochs} of {cost.epochs + cost.pruned_epochs} epochs "
                f"({100 * cost.saved_share:.0f} %), about {formatting.duration(cost.pruned_seconds)} of training time."
            )
        )
    else:
        blocks.append(Paragraph("Pruning saved nothing: no trial was pruned."))
    return blocks
