"""The spec of a study, stored with it, from which every agent builds the same search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from optuna.distributions import BaseDistribution

from hpo.options.defaults import FREEZE_THAW, LaunchDefaults
from hpo.search import finite
from hpo.search.starting.design import Design
from hpo.search.starting.learned import EarlierStudy
from objectives.base import DataOptions, Direction, Params
from objectives.description import Description
from objectives.runs.figures import Constraint, parse
from objectives.spaces.space import lies_within, same_space
from objectives.spaces.space import space_from_json as space_from_json
from objectives.spaces.space import space_to_json as space_to_json
from objectives.trial_value import ValueRule


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """Objective, search space and options of a study; its budget is stored separately, because it may grow."""

    objective: str
    """A shipped objective's name, `package.module:Class` or `/absolute/file.py:Class`."""
    metric: str
    direction: Direction
    value: ValueRule = "last"
    """Which report is the value of a trial."""
    epochs: int | None
    """Epochs of a trial that is not pruned; None: the objective alone knows."""
    space: Mapping[str, BaseDistribution]
    """Search space: the objective's, narrowed by `--param`."""
    space_changed: bool = False
    """Whether trials may lie outside `space`, because it was another one when they began."""
    objective_space: Mapping[str, BaseDistribution]
    """Space of the objective when the study began, to detect changes of its code."""
    open_space: bool = False
    """Whether the objective names its parameters while it runs; both spaces are empty then."""
    narrowing: tuple[str, ...] = ()
    """The `--param` of an open space as they were written; a declared one is narrowed in `space`."""
    objective_epochs: int | None = None
    """Epochs that the objective's class declared when the study began; None: not known."""
    objective_value: ValueRule = "last"
    """Rule that the objective's class declared when the study began."""
    objective_metric: str = ""
    """Metric that the objective's class declared when the study began; empty: `metric`."""
    code: str = ""
    """Digest of the objective's code, see `objectives.code`; empty: not known."""
    first: tuple[Params, ...] = ()
    """Known good configurations that are tried first, or their parts inside `space`."""
    learned: tuple[EarlierStudy, ...] = ()
    """Results of earlier studies from which the search starts."""
    sampler: str = LaunchDefaults.sampler
    earlier_samplers: tuple[tuple[str, int], ...] = ()
    """Samplers before a change, each with the number of trials that the study had reserved at its end."""
    pruner: str = LaunchDefaults.pruner_without_pauses
    rungs: tuple[tuple[int, int], ...] = ()
    """Rungs of freeze-thaw when the study began: each an epoch, and the trials of which one goes on."""
    restarts: tuple[int, ...] = ()
    """Earlier numbers of epochs, after which a trial goes on with a new schedule: `--epochs` was raised."""
    takes_restarts: bool = False
    """Whether the objective can do so: the best trials' checkpoints are kept for it."""
    curve_model: bool = False
    """Whether a model of learning curves decides at the rungs, in place of the trials' ranks."""
    backend: str = ""
    """Keras' backend of all trials; empty: not known, in studies of earlier versions."""
    seed: int = LaunchDefaults.seed
    data: DataOptions = field(default_factory=DataOptions)
    startup: int = 10
    """Trials before the sampler builds a model; the pruner starts after as many complete ones, at most 5."""
    max_lost: int = LaunchDefaults.max_lost
    """Lost attempts after which a trial is failed."""
    max_failed: int = LaunchDefaults.max_failed
    """Failed trials after which the study stops; they do not count towards the budget."""
    trial_timeout_seconds: float | None = None
    """Longest time that a trial may train; None: no limit."""
    target: float | None = None
    """Value of the metric that ends the search once a complete trial reaches it."""
    patience: int | None = None
    """Finished trials without a new best one after which the search ends."""
    max_epochs: int | None = None
    """Epochs of all trials together after which the search stops."""
    repeats: int | None = None
    """Last trials of the budget, which repeat the best one with other seeds; None: none."""
    stop_when_flat: bool | None = None
    """Whether the search ends once it gains no more than other seeds would."""
    constraints: tuple[str, ...] = ()
    """Bounds of figures of a trial, as `objectives.runs.figures.parse` reads them."""
    also_minimize: str | None = None
    """Figure that is minimized next to the metric; None: the metric alone decides."""
    checkpoint_quota_bytes: int | None = None
    """Limit of the study's checkpoints in one checkpoint folder; None: no limit."""
    estimate: Mapping[str, Any] | None = None
    """Estimate of `hpo plan` with the same options, see `hpo.study.estimates`."""
    design: Design | None = None
    """Runs of an experiment (`hpo ablate`), which are all that the study trains; None: a search."""

    @property
    def configurations(self) -> int | None:
        """Number of configurations of a finite space, each of which is trained once; None for any other study."""
        return None if self.open_space or self.design is not None else finite.size(self.space)

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Whether a trial's configuration is one of the space."""
        return lies_within(params, self.space)

    @property
    def bounds(self) -> tuple[Constraint, ...]:
        """The constraints on figures of a trial."""
        return tuple(parse(text) for text in self.constraints)

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures that trials are asked for."""
        second = () if self.also_minimize is None else (self.also_minimize,)
        return tuple(dict.fromkeys([*second, *(one.figure for one in self.bounds)]))

    @property
    def can_extend(self) -> bool:
        """Whether complete trials may go on, if `--epochs` is raised."""
        return self.pruner == FREEZE_THAW and self.takes_restarts

    @property
    def narrowed(self) -> bool:
        """Whether `--param` has narrowed the objective's space."""
        return not same_space(self.space, self.objective_space)

    @property
    def selects_metric(self) -> bool:
        """Whether `--metric` has selected another metric than the objective's class declared."""
        return self.objective_metric not in ("", self.metric)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict for `from_json`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["space"] = space_to_json(self.space)
        values["objective_space"] = space_to_json(self.objective_space)
        values["first"] = [dict(params) for params in self.first]
        values["learned"] = [earlier.to_json() for earlier in self.learned]
        values["data"] = self.data.to_json()
        values["configurations"] = self.configurations
        values["design"] = None if self.design is None else self.design.to_json()
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StudySpec:
        """Invert `to_json`; unknown keys of newer versions are ignored."""
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        known["space"] = space_from_json(known["space"])
        known["objective_space"] = space_from_json(known["objective_space"])
        known["narrowing"] = tuple(str(text) for text in known.get("narrowing", ()))
        known["earlier_samplers"] = tuple((str(n), int(end)) for n, end in known.get("earlier_samplers", ()))
        known["rungs"] = tuple((int(epoch), int(one_in)) for epoch, one_in in known.get("rungs", ()))
        known["constraints"] = tuple(str(text) for text in known.get("constraints", ()))
        known["restarts"] = tuple(int(epoch) for epoch in known.get("restarts", ()))
        known["first"] = tuple(dict(params) for params in known.get("first", ()))
        known["learned"] = tuple(EarlierStudy.from_json(one) for one in known.get("learned", ()))
        design = known.get("design")
        known["design"] = None if design is None else Design.from_json(design)
        data_names = {f.name for f in fields(DataOptions)}
        known["data"] = DataOptions(**{k: v for k, v in known.get("data", {}).items() if k in data_names})
        return cls(**known)

    def describe(self, name: str) -> Description:
        """Return a description of the objective with the study's space."""
        return Description(
            name=name,
            metric=self.metric,
            direction=self.direction,
            value=self.value,
            epochs=self.epochs,
            space=self.space,
            open_space=self.open_space,
            first=self.first,
            summary=self.objective,
        )


def default_params(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the objective's first known good configuration if a stored spec's space contains it, else None."""
    first = spec.get("first") or []
    return first[0] if first and lies_within(first[0], space_from_json(spec["space"])) else None
