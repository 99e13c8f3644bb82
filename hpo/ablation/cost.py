"""The cost of an experiment before it trains, from the time that earlier epochs took."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo import formatting
from hpo.ablation.experiment import Experiment
from hpo.search.space import describe_parameter
from storage import trials

if TYPE_CHECKING:
    from storage.engine import Database


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Runs, epochs and time of an experiment."""

    runs: int
    """Runs in all."""
    left: int
    """Runs that have not finished."""
    epochs: int
    """Epochs that are left."""
    epoch_seconds: float | None
    """Median time of an epoch in a slot; None: none was trained."""
    start_seconds: float
    """Median time of a run that is not part of its epochs."""
    slots: int
    limit_differs: bool
    """Whether the epochs that were timed had another number of examples."""

    @property
    def seconds(self) -> float | None:
        """Time that the runs which are left take, if those of all slots end together."""
        if self.epoch_seconds is None:
            return None
        of_run = self.start_seconds + self.epochs / max(self.left, 1) * self.epoch_seconds
        return math.ceil(self.left / self.slots) * of_run


def cost_of(database: Database, experiment: Experiment, slots: int) -> Cost:
    """Return the cost of the runs of an experiment that are left, in so many slots.

    The time of an epoch is that of the experiment's own ones, else of those of the study that it varies.
    """
    spec, existing = experiment.spec, experiment.existing
    finished = 0 if existing is None else existing.finished
    left = max(0, experiment.design.size - finished)
    timed = experiment.source.study_id
    own = False
    if existing is not None:
        study_id = existing.study_id
        own = database.transaction(lambda c: trials.median_epoch_seconds(c, study_id)) is not None
        timed = study_id if own else timed
    epoch, start = database.transaction(
        lambda c: (trials.median_epoch_seconds(c, timed), trials.median_start_seconds(c, timed))
    )
    return Cost(
        runs=experiment.design.size,
        left=left,
        epochs=left * int(spec.epochs or 1),
        epoch_seconds=epoch,
        start_seconds=start,
        slots=slots,
        limit_differs=not own and spec.data.limit != experiment.source.spec.data.limit,
    )


def lines_of(experiment: Experiment, cost: Cost) -> list[str]:
    """Return the design and its cost for people."""
    design, counted = experiment.design, formatting.counted
    base = formatting.parameters(design.base)
    metric = experiment.spec.metric
    varied = [name for name in experiment.spec.space if any(p.changed == (name,) for p in design.points)]
    pairs = {point.changed for point in design.points if len(point.changed) == 2}
    lines = [
        f"base: trial {design.trial} of {design.study}, {metric} {formatting.metric(experiment.base_value)}: {base}",
        *(_varied_line(experiment, name) for name in varied),
        *(f"{one} with {other}: all combinations" for one, other in sorted(pairs)),
        f"runs: {cost.runs} = {counted(len(design.points), 'configuration')} x"
        f" {counted(len(design.seeds), 'seed')}, of {counted(experiment.spec.epochs, 'epoch')} each",
    ]
    time = formatting.duration(cost.seconds)
    at = (
        ""
        if cost.epoch_seconds is None
        else f" ({formatting.fine_duration(cost.epoch_seconds)} an epoch,"
        f" {formatting.fine_duration(cost.start_seconds)} to start a run)"
    )
    note = (
        ", if an epoch takes as long as in the study, which has another --limit" if cost.limit_differs else ""
    )
    left = "left" if cost.left < cost.runs else "in all"
    lines.append(
        f"{left}: {counted(cost.left, 'run')}, {counted(cost.epochs, 'epoch')}, about {time} on"
        f" {counted(cost.slots, 'slot')}{at}{note}"
    )
    return lines


def _varied_line(experiment: Experiment, name: str) -> str:
    design, space = experiment.design, experiment.spec.space
    if name in design.recipe:
        return f"{name}: off, instead of {design.recipe[name]}"
    values = [point.params[name] for point in design.points if point.changed == (name,)]
    shown = ", ".join(formatting.parameter(value) for value in values)
    base = formatting.parameter(design.base.get(name))
    return f"{name}: {shown}, instead of {base} ({describe_parameter(space, name)})"
