"""The request of `hpo launch` as a value: the command line builds it, `hpo.agent` executes it."""
# ruff: noqa: RUF009 - `option_field` returns a field of a dataclass, not a default

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hpo.options.defaults import (
    CURVES,
    DIRECTIONS,
    ENGINES,
    GRID,
    PRUNERS,
    SAMPLERS,
    SPACES,
    LaunchDefaults,
)
from hpo.options.fields import (
    ANY_NUMBER,
    COUNT,
    NONE,
    NUMBER,
    STUDY,
    Range,
    code_field,
    option_field,
    workers_field,
)
from hpo.options.hosts import AgentOptions, RayOptions
from hpo.options.images import ImageOptions
from objectives.trial_value import RULES


def _for_new(value: object) -> str:
    return f"{value} for a new study, else the study's own"


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """Arguments of `hpo launch`; None means not given: the study's stored value applies, or the default."""

    study: str = field(metadata=STUDY)
    objective: str | None = option_field(
        None,
        "Objective to tune: a shipped name (see hpo objectives), package.module:Class or path/to/file.py:Class; "
        "an Optuna objective or a KerasTuner model builder, path/to/file.py:function, runs as it is.",
        kind="objective",
        show_default="the study's own, or the objective of the study's name",
    )
    direction: str | None = option_field(
        None,
        "Direction of the value that an Optuna objective returns; other objectives declare theirs.",
        kind=DIRECTIONS,
        show_default=_for_new("minimize"),
    )
    metric: str | None = option_field(
        None,
        "Metric to optimize, by its whole name: val_ and any metric of a KerasObjective's task, such as val_auc. Its "
        "direction follows from it.",
        metavar="NAME",
        show_default=_for_new("the objective's"),
    )
    workers: int | None = workers_field(
        "Worker slots: trials that run at the same time, each on its part of the cores or GPUs."
    )
    engine: str = option_field(
        "local",
        "Where agents run: on this host, or as actors of a Ray cluster (pip install 'hpo-service[ray]').",
        kind=ENGINES,
    )
    ray: RayOptions = RayOptions()
    trials: int | None = option_field(
        None,
        "Finished trials in total, earlier launches included. The same command again continues to this total; "
        "a larger number extends the study.",
        "--trials",
        "-n",
        kind=COUNT,
        show_default=_for_new(LaunchDefaults.trials),
    )
    timeout_seconds: float | None = option_field(
        None,
        "Stop this long after the objective and its data are loaded, e.g. 90s, 15m or 2h. Running trials are "
        "checkpointed and continue at the next launch.",
        "--timeout",
        kind="time",
        show_default="none",
    )
    trial_timeout_seconds: float | Literal["none"] | None = option_field(
        None,
        "End a trial that trains for longer than this as timed out, pauses excluded. It counts, and the sampler gets "
        "its last value. none: remove the study's limit.",
        "--trial-timeout",
        kind="time",
        word=NONE,
        show_default=_for_new("no limit"),
    )
    target: float | Literal["none"] | None = option_field(
        None,
        "Start no further trial once a complete one reaches this value of the metric; running ones finish. none: "
        "remove the study's target.",
        kind=ANY_NUMBER,
        word=NONE,
        metavar="VALUE|none",
        show_default=_for_new("none"),
    )
    patience: int | Literal["none"] | None = option_field(
        None,
        "Start no further trial once this many in a row have finished without a new best one. none: remove the "
        "study's patience.",
        kind=COUNT,
        word=NONE,
        show_default=_for_new("no limit"),
    )
    max_epochs: int | Literal["none"] | None = option_field(
        None,
        "Stop once all trials of the study together have trained this many epochs; each running one ends after its "
        "epoch and is checkpointed, so that a larger number continues it. none: remove the study's limit.",
        "--max-epochs",
        kind=COUNT,
        word=NONE,
        show_default=_for_new("no limit"),
    )
    stop_when_flat: bool | None = option_field(
        None,
        "Start no further trial once the second half of the search has gained no more than other seeds would: the best "
        "configuration is repeated to measure that.",
        "--stop-when-flat/--no-stop-when-flat",
        kind="switch",
        show_default=_for_new("off"),
    )
    repeats: int | Literal["none"] | None = option_field(
        None,
        "Repeat the best trial with this many other seeds as the last trials of --trials, which shows how much of its "
        "value is luck. none: remove them.",
        kind=Range(2, 100),
        word=NONE,
        show_default=_for_new("none, or 3 for --stop-when-flat"),
    )
    value: str | None = option_field(
        None,
        "Value of a trial: the metric after its last epoch, or the best one that it reported.",
        kind=RULES,
        show_default="the objective's, which is last unless it declares another",
    )
    epochs: int | None = option_field(
        None,
        "Epochs of a trial that is not pruned. Larger in a study with --pruner freeze-thaw: its best trials go on.",
        kind=COUNT,
        show_default="the objective's",
    )
    limit: int | None = option_field(
        None,
        "Training examples to use, stratified; validation examples in proportion.",
        kind=COUNT,
        show_default="all",
    )
    folds: int | None = option_field(
        None,
        "Cross-validate each trial: every epoch trains this many folds for one epoch each, and reports the mean over "
        "the rows that each holds out. For few data, and objectives of KerasObjective.",
        kind=Range(2, 100),
        show_default=_for_new("one split"),
    )
    images: ImageOptions = ImageOptions()
    learn_from: str | None = option_field(
        None,
        "Start a new study from the results of earlier ones: STUDY or STUDY,STUDY. Their trials do not count. none: of "
        "no study.",
        metavar="STUDIES|none",
        show_default="earlier studies of the same objective and data, unless --seed is given",
    )
    sampler: str | None = option_field(
        None,
        "Algorithm that proposes the next configuration; a launch may change it for the rest of a study. None is "
        "trained twice, and a study ends when all of a finite space are trained. grid: all of a finite space, in an "
        "order that --seed shuffles. curves: by a model of learning curves, with --pruner freeze-thaw.",
        kind=SAMPLERS,
        show_default=_for_new(
            f"{GRID} if --trials suffice for the whole space, else {LaunchDefaults.sampler}, {CURVES} if trials pause,"
        ),
    )
    pruner: str | None = option_field(
        None,
        "Algorithm that ends unpromising trials early; freeze-thaw pauses them, and resumes those that promise most.",
        kind=PRUNERS,
        show_default=_for_new(
            f"{LaunchDefaults.pruner} for a KerasObjective of {LaunchDefaults.least_epochs} epochs or more without "
            f"--sampler and --constraint, else {LaunchDefaults.pruner_without_pauses}, or "
            f"{LaunchDefaults.pruner_of_many} from {LaunchDefaults.many_trials} trials on,"
        ),
    )
    seed: int | None = option_field(
        None,
        "Seed of the sampler and of every trial. With one worker the same seed gives the same trials, interrupted or "
        "not; with several, what the sampler learns depends on which trial ends first (random and qmc do not learn).",
        kind=NUMBER,
        show_default=_for_new(f"{LaunchDefaults.seed}, or another one if it learns from earlier studies,"),
    )
    params: tuple[str, ...] = option_field(
        (),
        "Fix or narrow a parameter: NAME=VALUE, NAME=A,B or NAME=LOW..HIGH, each value as it is shown or as JSON or "
        "Python write it, e.g. batch_size=64,128, learning_rate=1e-4..1e-2, 'kernel=[3, 3]', augment=true or "
        "c='\"a,b\"'. Repeatable.",
        "--param",
        "-p",
        multiple=True,
        metavar="NAME=VALUES",
        show_default="the objective's whole space",
    )
    constraint: tuple[str, ...] = option_field(
        (),
        "Bound of a figure, as in 'parameters<=500000' or 'val_accuracy>=0.9': a configuration whose model violates it "
        "is not trained and does not count towards --trials; a trained trial that violates it cannot be the best. "
        "Figures: parameters, model_bytes, latency_ms, seconds_per_epoch, and the metrics that trials report. "
        "Repeatable.",
        multiple=True,
        metavar="NAME<=NUMBER",
        show_default=_for_new("none"),
    )
    also_minimize: str | None = option_field(
        None,
        "Minimize this figure too, and search for the trials of which none is better in both: hpo best --front and hpo "
        "report show them. Trials are not pruned.",
        metavar="NAME",
        show_default=_for_new("the metric alone"),
    )
    max_failed: int | None = option_field(
        None,
        "Stop after this many failed trials (bugs, lost or hung ones); they do not count towards --trials.",
        kind=COUNT,
        show_default=_for_new(LaunchDefaults.max_failed),
    )
    max_lost: int | None = option_field(
        None,
        "Fail a trial once it was lost this many times: its process killed or hung, or its machine gone.",
        kind=COUNT,
        show_default=_for_new(LaunchDefaults.max_lost),
    )
    checkpoint_quota_bytes: int | Literal["none"] | None = option_field(
        None,
        "Limit for the study's checkpoints in total, e.g. 10G; spare ones and those of waiting trials are "
        "deleted first. none: remove the study's limit.",
        "--checkpoint-quota",
        kind="size",
        word=NONE,
        envvar="HPO_CHECKPOINT_QUOTA",
        show_default=_for_new("no limit"),
    )
    space: str | None = option_field(
        None,
        "If the search space or --param changed since the study began: keep the stored one, or change to the new one. "
        "All trials stay in the history.",
        kind=SPACES,
        show_default="refuse, and list the changes",
    )
    code: str | None = code_field(
        "If the objective's code changed since trials were interrupted, or differs from that of running agents.",
        "keep, with a warning; refused next to running agents",
    )
    run: bool = option_field(
        True,
        "Only create or extend the study; agents join it with hpo worker. A paused or stopped study stays so.",
        "--no-run",
        kind="flag",
        show_default="off",
    )
    agent: AgentOptions = AgentOptions()
