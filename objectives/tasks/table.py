"""The tasks by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from objectives.data_options import TaskName
from objectives.tasks.binary import Binary
from objectives.tasks.classes import Classes
from objectives.tasks.labels import Labels
from objectives.tasks.regression import Regression
from objectives.tasks.task import Task

if TYPE_CHECKING:
    from objectives.data.splits import Data

TASKS: Mapping[TaskName, type[Task]] = {task.name: task for task in (Classes, Labels, Binary, Regression)}


def task_of(data: Data) -> Task:
    """Return the task of this data."""
    return TASKS[data.task](data)
