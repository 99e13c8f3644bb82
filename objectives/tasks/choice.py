"""The metrics that an objective chooses: names of metrics, and functions of its own."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Literal

from objectives.data_options import TASKS as TASK_NAMES
from objectives.data_options import TaskName
from objectives.tasks.metrics import METRICS, names_of
from objectives.tasks.table import TASKS
from objectives.tasks.task import MetricFunction, Task

PREFIX = "val_"
"""Beginning of the names of metrics of the validation examples."""
OF_TRAINING = ("loss", "learning_rate", "images_per_second")
"""Names of the reported numbers that are not of the validation examples."""

Chosen = Sequence[str | MetricFunction] | None
"""Metrics of an objective; None: those of its task."""


def own_functions(chosen: Chosen) -> dict[str, MetricFunction]:
    """Return the functions among the chosen metrics by their names."""
    return {_name(metric): metric for metric in chosen or () if not isinstance(metric, str)}


def reported(
    chosen: Chosen, task: Task, metric: str, output_size: int, figures: Sequence[str] = ()
) -> list[str]:
    """Return the names, without the prefix, of the metrics that each epoch reports; `metric` is one of them.

    So is each of the `figures` that is a metric.
    """
    names = list(task.reported) if chosen is None else [_name(one) for one in chosen]
    for asked in (metric, *figures):
        wanted = asked.removeprefix(PREFIX)
        if asked.startswith(PREFIX) and wanted in METRICS and wanted not in names:
            names.append(wanted)
    own = own_functions(chosen)
    return [name for name in names if name in own or METRICS[name].applies(task.name, output_size)]


def names(task: TaskName, chosen: Chosen) -> list[str]:
    """Return the names of all numbers that a trial can report, each of which may be the objective's metric."""
    validation = ["loss", *names_of(task), *own_functions(chosen)]
    accuracy = ["accuracy"] if TASKS[task].reports_accuracy else []
    return [f"{PREFIX}{name}" for name in validation] + accuracy + list(OF_TRAINING)


def offered(task: TaskName, chosen: Chosen) -> dict[str, Literal["minimize", "maximize"]]:
    """Return the metrics of validation examples that a study may optimize, with their directions.

    The direction of an objective's own function is not known.
    """
    found = {name: direction(name) for name in names(task, chosen) if name.startswith(PREFIX)}
    return {name: known for name, known in found.items() if known is not None}


def default(task: TaskName) -> str:
    """Return the metric of an objective that sets none."""
    return TASKS[task].default_metric


def direction(metric: str) -> Literal["minimize", "maximize"] | None:
    """Return the direction of a known metric; None for one of the objective's own."""
    if metric in ("loss", f"{PREFIX}loss"):
        return "minimize"
    found = METRICS.get("accuracy" if metric == "accuracy" else metric.removeprefix(PREFIX))
    known = found is not None and (metric == "accuracy" or metric.startswith(PREFIX))
    return None if not known or found is None else "maximize" if found.maximize else "minimize"


def problem(task: Any, chosen: Any, metric: str) -> str | None:
    """Return the first mistake of a declaration as the end of a sentence; None if it is valid."""
    if task not in TASK_NAMES:
        return f"task must be one of {', '.join(map(repr, TASK_NAMES))}, not {task!r:.60}"
    if chosen is not None and (isinstance(chosen, str) or not isinstance(chosen, Sequence)):
        return "metrics must be a list of names of metrics and functions of targets and outputs"
    for one in chosen or ():
        if isinstance(one, str):
            if task not in getattr(METRICS.get(one), "tasks", ()):
                return f"metrics names {one!r}, which is not a metric of task {task!r}: {_nearest(one, names_of(task))}"
        elif not callable(one) or not getattr(one, "__name__", "").isidentifier():
            return f"metrics has {one!r:.60}, which is not a name or a function with one"
        elif one.__name__ in METRICS or one.__name__ == "loss":
            return f"metrics has a function {one.__name__}, the name of another metric: give it another name"
    known = names(task, chosen)
    if metric not in known:
        return f"metric {metric!r} is not reported by task {task!r}: {_nearest(metric, known)}"
    return None


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 3, 0.7)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"use one of {', '.join(known)}, or write train()"


def _name(metric: str | MetricFunction) -> str:
    return metric if isinstance(metric, str) else metric.__name__
