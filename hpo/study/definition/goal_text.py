"""Goals of a study in the terms of the options that set them."""

from __future__ import annotations

from hpo import formatting
from hpo.search.plateau import LEAST_BEFORE, LEAST_WINDOW, Plateau
from storage.goals import Goals
from storage.repeats import Noise


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
    if goals.plateau is not None:
        parts.append(_flat_text(goals, goals.plateau))
    if goals.configurations is not None:
        parts.append(_space_text(goals.begun, goals.configurations, reached=goals.reached == "space"))
    if goals.max_epochs is not None:
        ended = ", so no trial goes on" if goals.reached == "epochs" else ""
        trained = formatting.counted(goals.epochs, "epoch")
        parts.append(f"--max-epochs {goals.max_epochs}: {trained} trained in all{ended}")
    return "; ".join(parts)


def _space_text(begun: int, size: int, *, reached: bool) -> str:
    if not reached:
        return f"{begun} of {formatting.counted(size, 'configuration')} of the space begun"
    if size == 1:
        return "the only configuration of the space is trained"
    return f"all {size} configurations of the space are trained once"


def _flat_text(goals: Goals, plateau: Plateau) -> str:
    if plateau.gain is None:
        return f"--stop-when-flat: judged once {LEAST_BEFORE + LEAST_WINDOW} trials or more have finished"
    gain = f"the last {plateau.window} of {plateau.finished} trials gained {formatting.metric(plateau.gain)}"
    deviation = None if goals.noise is None else goals.noise.deviation
    if goals.noise is None or deviation is None:
        return f"--stop-when-flat: {gain}, and the noise of seeds is not measured yet"
    compared = "no more than" if plateau.is_flat(deviation) else "more than"
    ended = ", so no further trial starts" if goals.reached == "flat" else ""
    return f"--stop-when-flat: {gain}, {compared} seeds differ (±{formatting.metric(deviation)}){ended}"


def noise_text(noise: Noise) -> str:
    """Return the noise of seeds as a phrase."""
    seeds = formatting.counted(len(noise.values), "other seed")
    if noise.mean is None:
        return f"trial {noise.number} is repeated with other seeds, and no repeat is complete yet"
    spread = "" if noise.deviation is None else f", seeds differ by ±{formatting.metric(noise.deviation)}"
    return f"trial {noise.number} with {seeds}: mean {formatting.metric(noise.mean)}{spread} (n = {len(noise.values)})"
