"""The request of `hpo ablate` as a value: the command line builds it, `hpo.ablation` executes it."""
# ruff: noqa: RUF009 - `option_field` returns a field of a dataclass, not a default

from __future__ import annotations

from dataclasses import dataclass, field

from hpo.options.fields import COUNT, NUMBER, STUDY, Range, option_field, workers_field
from hpo.options.hosts import AgentOptions

_OF_EXPERIMENT = "{} for a new experiment, else the experiment's own"


@dataclass(frozen=True, kw_only=True)
class AblateRequest:
    """Arguments of `hpo ablate`; None: those of the experiment, or the default."""

    study: str = field(metadata=STUDY)
    name: str | None = option_field(
        None,
        "Name of the study that holds the experiment.",
        "--as",
        metavar="NAME",
        show_default="STUDY-ablation",
    )
    trial: int | None = option_field(
        None,
        "Number of the complete trial around which the values vary.",
        kind=NUMBER,
        show_default=_OF_EXPERIMENT.format("the best one"),
    )
    seeds: int | None = option_field(
        None,
        "Runs of each configuration, from the same seeds for all. A larger number adds runs.",
        kind=Range(1, 1000),
        metavar="K",
        show_default=_OF_EXPERIMENT.format(3),
    )
    values: int | None = option_field(
        None,
        "Values of each number: the best one, the ends of its range, and others between them. Choices are tried all. A "
        "larger number adds runs.",
        kind=Range(2, 100),
        metavar="N",
        show_default=_OF_EXPERIMENT.format(5),
    )
    parameter: tuple[str, ...] = option_field(
        (),
        "Parameter to vary. Repeatable.",
        multiple=True,
        metavar="NAME",
        show_default=_OF_EXPERIMENT.format("all"),
    )
    pairs: tuple[str, ...] = option_field(
        (),
        "Pair of parameters to vary together, as in optimizer*learning_rate. Repeatable. none: no pair.",
        multiple=True,
        metavar="A*B|none",
        show_default=_OF_EXPERIMENT.format("optimizer*learning_rate and batch_size*learning_rate"),
    )
    recipe: bool = option_field(
        False,
        "Switch off each part of the objective's recipe too, as far as its class turns it on: augmentation and each of "
        "its changes, label smoothing, class weights, mixing, weight averaging, learning rate factors, schedule.",
        kind="flag",
        show_default="off",
    )
    margin: float | None = option_field(
        None,
        "Smallest difference that matters, in units of the metric: 0.002 is 0.2 points of an accuracy.",
        kind=Range(0.0, 1e9, low_open=True),
        metavar="X",
        show_default="the larger one of 0.2 points, for an accuracy, and the standard deviation over seeds",
    )
    epochs: int | None = option_field(
        None,
        "Epochs of each run.",
        kind=COUNT,
        show_default=_OF_EXPERIMENT.format("those of STUDY"),
    )
    limit: int | None = option_field(
        None,
        "Training examples to use, as for hpo launch.",
        kind=COUNT,
        show_default=_OF_EXPERIMENT.format("those of STUDY"),
    )
    dry_run: bool = option_field(
        False,
        "Print the runs, their epochs and the time that they may take; create and train nothing.",
        kind="flag",
        show_default="off",
    )
    workers: int | None = workers_field("Worker slots: runs that train here at the same time.")
    timeout_seconds: float | None = option_field(
        None,
        "Stop this long after the objective and its data are loaded, e.g. 90s, 15m or 2h; the same command continues.",
        "--timeout",
        kind="time",
        show_default="none",
    )
    agent: AgentOptions = AgentOptions()
