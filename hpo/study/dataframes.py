"""Records of a study as pandas data frames: `hpo.load_study(name).results()`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from hpo import formatting
from hpo.study.history import AttemptRow, StudyHistory
from objectives.values import is_number

if TYPE_CHECKING:
    import pandas as pd

_TRIAL_COLUMNS = ["state", "value", "epochs", "seconds", "attempts", "created_at", "why"]
_EPOCH_COLUMNS = ["seconds", "attempt_id", "created_at"]
_RUN_COLUMNS = ("retrain_id", "seed", "trial", "test_opened_at")
_FINAL_EPOCH_COLUMNS = ("retrain_id", "seed", "epoch", "seconds")
_NUMBERS = ("value", "seconds")
"""Columns of numbers also where all are missing, so that frames can be sorted by them."""


@dataclass(frozen=True)
class Results:
    """One data frame per kind of record; times are in UTC."""

    trials: pd.DataFrame
    """Index `number`: state, value, epochs, seconds, attempts, created_at, why, one column `figure_…` per
    figure that the study asks for, and one column `param_…` per parameter."""
    epochs: pd.DataFrame
    """Index `number`, `epoch`: seconds, attempt_id, created_at, and one column per metric, with
    `metric_` before the name of a metric that is called like one of these."""
    attempts: pd.DataFrame
    """Index `attempt_id`: number, host, device, slot, resumed_from, epochs, outcome, error, started_at,
    ended_at, seconds, pid, process (its agent's), versions (a dict)."""
    retrains: pd.DataFrame
    """Index `retrain_id`, `seed`, one row per final run of a finished retrain: trial, test_opened_at,
    seconds, and every recorded number, e.g. `test_accuracy`, with `recorded_` before the name of a record that is
    called like one of these."""
    retrain_epochs: pd.DataFrame
    """Index `retrain_id`, `seed`, `epoch`: seconds, and one column per metric of the final runs."""


def frames_of(history: StudyHistory) -> Results:
    """Convert a history to data frames."""
    trials = [
        {
            **{column: getattr(trial, column) for column in ("number", *_TRIAL_COLUMNS)},
            **{f"figure_{name}": value for name, value in trial.figures.items()},
            **{f"param_{name}": formatting.named(value) for name, value in trial.params.items()},
        }
        for trial in history.trials
        if trial.number is not None
    ]
    known = ("number", "epoch", *_EPOCH_COLUMNS)
    names = formatting.apart((name for row in history.epochs for name in row.metrics), known, "metric_")
    epochs = [
        {
            **{column: getattr(row, column) for column in known},
            **{names[name]: value for name, value in row.metrics.items()},
        }
        for row in history.epochs
    ]
    attempts = [vars(row) for row in history.attempts]
    runs, final_epochs = [], []
    for retrain in history.finished_retrains:
        metrics = retrain.metrics or {}
        # The configuration in a file may come from a trial of another study.
        own = retrain.config.get("study") in (None, history.study.name)
        recorded = (
            name for run in metrics["runs"] for name in run if is_number(run[name]) and name != "seed"
        )
        columns = formatting.apart(recorded, _RUN_COLUMNS, "recorded_")
        for run in metrics["runs"]:
            runs.append(
                {
                    "retrain_id": retrain.retrain_id,
                    "seed": run["seed"],
                    "trial": retrain.config.get("trial") if own else None,
                    "test_opened_at": retrain.test_opened_at,
                    **{
                        columns[name]: value
                        for name, value in run.items()
                        if is_number(value) and name != "seed"
                    },
                }
            )
        rows = metrics.get("detail", {}).get("history", [])
        names = formatting.apart(
            (name for row in rows for name in row["metrics"]), _FINAL_EPOCH_COLUMNS, "metric_"
        )
        final_epochs += [
            {
                "retrain_id": retrain.retrain_id,
                "seed": row["seed"],
                "epoch": row["epoch"],
                "seconds": row["seconds"],
                **{names[name]: float(value) for name, value in row["metrics"].items()},
            }
            for row in rows
        ]
    return Results(
        _frame(trials, ["number"], _TRIAL_COLUMNS),
        _frame(epochs, ["number", "epoch"], _EPOCH_COLUMNS),
        _frame(
            attempts,
            ["attempt_id"],
            [field.name for field in fields(AttemptRow) if field.name != "attempt_id"],
        ),
        _frame(runs, ["retrain_id", "seed"], ["trial", "test_opened_at", "seconds"]),
        _frame(final_epochs, ["retrain_id", "seed", "epoch"], ["seconds"]),
    )


def _frame(rows: list[dict[str, Any]], index: list[str], columns: list[str]) -> pd.DataFrame:
    """Return the rows as a data frame that has its columns even without rows."""
    import pandas as pd

    own = dict.fromkeys([*index, *columns, *(name for row in rows for name in row)])
    numbers = {name: float for name in _NUMBERS if name in columns}
    return pd.DataFrame(rows, columns=list(own)).astype(numbers).set_index(index)
