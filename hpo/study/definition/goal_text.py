"""Goals of a study in the terms of the options that set them."""

from __future__ import annotations

from hpo import formatting
from storage.goals import Goals


def goal_text(goals: Goals) -> str:
    """Return the goals and the progress towards them as one line."""
    parts = []
    if goals.target is not None:
        best = (
            "none is complete" if goals.best_value is None else f"best {formatting.metric(goals.best_value)}"
        )
        reached = (
            f"reached in trial {goals.best_number}" if goals.reached == "target" else f"not reached ({best})"
        )
        parts.append(f"--target {goals.target:g} {reached}")
    if goals.patience is not None:
        ended = ", so no further trial starts" if goals.reached == "patience" else ""
        since = formatting.counted(goals.trials_since_best, "trial")
        parts.append(f"--patience {goals.patience}: {since} without a new best one{ended}")
    if goals.configurations is not None:
        parts.append(
            f"all {goals.configurations} configurations of the space are trained once"
            if goals.reached == "space"
            else f"{goals.begun} of {goals.configurations} configurations of the space are begun"
        )
    if goals.max_epochs is not None:
        ended = ", so no trial goes on" if goals.reached == "epochs" else ""
        trained = formatting.counted(goals.epochs, "epoch")
        parts.append(f"--max-epochs {goals.max_epochs}: {trained} trained in all{ended}")
    return "; ".join(parts)
