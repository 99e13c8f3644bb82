"""The estimate of `hpo plan` next to what the search took."""

from __future__ import annotations

import statistics
from typing import Any

from hpo import formatting
from hpo.document.document import Block, Paragraph, Table
from hpo.outcomes import Outcome
from hpo.report.cost import Cost, cost_of
from hpo.report.default_comparison import default_trial
from hpo.study.estimates import Estimate, estimate_of
from hpo.study.history import StudyHistory


def estimate_blocks(history: StudyHistory) -> list[Block]:
    """Return the comparison; empty for a study that was not planned."""
    estimate = estimate_of(history.study.spec_json)
    if estimate is None:
        return []
    cost, shown, fine = cost_of(history), formatting.duration, formatting.fine_duration
    slots = _slots(history)
    rows = [("time of an epoch, all trials", fine(estimate.epoch_seconds), fine(_epoch_seconds(history)))]
    if (default := default_trial(history)) is not None and default.number is not None:
        own = fine(_epoch_seconds(history, default.number))
        rows.insert(0, ("time of an epoch, default configuration", fine(estimate.epoch_seconds), own))
    complete = [trial.seconds for trial in history.trials if trial.state == Outcome.COMPLETE]
    rows.append(
        (
            "time of a complete trial",
            shown(estimate.trial_seconds),
            shown(statistics.fmean(complete)) if complete else "-",
        )
    )
    if estimate.most_epochs is not None:
        rows.append(
            ("epochs", _range(f"{estimate.least_epochs:,}", f"{estimate.most_epochs:,}"), f"{cost.epochs:,}")
        )
    summed = (shown(estimate.slots * seconds) for seconds in (estimate.least_seconds, estimate.most_seconds))
    rows.append(("training time, summed over slots", _range(*summed), shown(cost.training_seconds)))
    if slots == {estimate.slots}:
        whole = map(shown, (estimate.least_seconds, estimate.most_seconds))
        rows.append(("wall time, after loading", _range(*whole), shown(cost.wall_seconds)))
    table = Table(("item", "planned", "search"), rows, caption="The estimate of hpo plan and the search.")
    return [table, Paragraph(_verdict(history, estimate, cost))]


def estimate_json(history: StudyHistory) -> dict[str, Any] | None:
    """Return the estimate and what the search took, for programs; None for a study that was not planned."""
    estimate = estimate_of(history.study.spec_json)
    if estimate is None:
        return None
    cost = cost_of(history)
    return {
        "planned": estimate.to_json(),
        "search": {
            "finished_trials": history.status.finished,
            "epochs": cost.epochs,
            "epoch_seconds": _epoch_seconds(history),
            "training_seconds": cost.training_seconds,
            "wall_seconds": cost.wall_seconds,
            "slots": sorted(_slots(history)),
        },
    }


def _verdict(history: StudyHistory, estimate: Estimate, cost: Cost) -> str:
    """Return whether the search took what was planned, for its finished trials, in training time."""
    finished = history.status.finished
    share = finished / estimate.trials if estimate.trials else 0.0
    least, most = (
        share * estimate.slots * seconds for seconds in (estimate.least_seconds, estimate.most_seconds)
    )
    part = "" if finished >= estimate.trials else f" for {finished} of {estimate.trials} trials"
    if not finished:
        found = "No trial has finished, so there is no comparison yet."
    elif cost.training_seconds > most:
        found = f"The search took {cost.training_seconds / most:.2g} times the most that was planned{part}."
    elif cost.training_seconds < least:
        found = f"The search took {cost.training_seconds / least:.2g} of the least that was planned{part}."
    else:
        found = f"The search took a time within the planned range{part}."
    if (slots := _slots(history)) - {estimate.slots}:
        counts = formatting.joined([str(number) for number in sorted(slots)])
        found += f" It was planned for {formatting.counted(estimate.slots, 'slot')}, and agents had {counts}."
    return found


def _slots(history: StudyHistory) -> set[int]:
    return {agent.slots for agent in history.agents}


def _epoch_seconds(history: StudyHistory, number: int | None = None) -> float | None:
    """Return the median time of the epochs after the first one, of a trial or of all; None without any.

    The first one includes the compilation of the model, which is a part of the start in the estimate.
    """
    numbers = history.curves if number is None else [number]
    later = [row.seconds for one in numbers for row in history.curves.get(one, [])[1:]]
    return statistics.median(later) if later else None


def _range(least: str, most: str) -> str:
    return most if least == most else f"{least} to {most}"
