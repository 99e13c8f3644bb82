"""The request of `hpo retrain` as a value: the command line builds it, `hpo.retrain` executes it."""
# ruff: noqa: RUF009 - `option_field` returns a field of a dataclass, not a default

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hpo.options.fields import COUNT, NUMBER, STUDY, option_field, workers_field
from hpo.options.hosts import AgentOptions


@dataclass(frozen=True, kw_only=True)
class RetrainRequest:
    """Arguments of `hpo retrain`; None: those of the configuration."""

    study: str = field(metadata=STUDY)
    seeds: int = option_field(
        3, "Runs with different seeds; their mean and interval are reported.", kind=COUNT, metavar="K"
    )
    top: int = option_field(
        1,
        "Best trials that compete first, with the objective's default configuration: each is trained again with "
        "--seeds new seeds, and the best mean on validation examples wins, so that luck does not. The test set is not "
        "used.",
        kind=COUNT,
        metavar="K",
    )
    racing: bool = option_field(
        True,
        "Train all seeds of all candidates of --top. By default, one that has hardly a chance to win any more is "
        "dropped after two seeds or more; the default configuration never is, so that the winner is compared with it.",
        "--no-racing",
        kind="flag",
        show_default="off",
    )
    epochs: int | None = option_field(
        None,
        "Epochs of each run.",
        kind=COUNT,
        show_default="those of the configuration",
    )
    limit: int | Literal["all"] | None = option_field(
        None,
        "Training examples, as for hpo launch; each run also trains on the validation examples in proportion. all: "
        "a search on part of the data ends with a model of all of them.",
        kind=COUNT,
        word="all",
        show_default="those of the configuration",
    )
    data: Path | None = option_field(
        None,
        "Place of the study's own data on this host: a folder, table or file with the same content.",
        kind="path",
        show_default="the study's own",
    )
    config: Path | None = option_field(
        None,
        "Train this exported configuration (YAML, JSON or TOML) instead.",
        kind="file",
        show_default="the study's best trial",
    )
    trial: int | None = option_field(
        None, "Number of a complete trial, as shown by hpo trials.", kind=NUMBER, show_default="the best one"
    )
    workers: int | None = workers_field("Worker slots: runs that train here at the same time.")
    agent: AgentOptions = AgentOptions()
