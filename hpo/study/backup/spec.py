"""The rule for the spec of a backup's study: the values that a launch stores, and no others."""

from __future__ import annotations

import math
from typing import Any

from hpo.errors import UsageError
from hpo.options.defaults import PRUNERS, SAMPLERS
from hpo.options.fields import COUNT, NUMBER
from hpo.options.hosts import BACKENDS
from hpo.search.spec import StudySpec
from hpo.search.starting.design import Design
from hpo.study.backup.values import is_id, is_text, whole
from objectives.data_options import FITS, TASKS, DataOptions
from objectives.runs.figures import parse
from objectives.trial_value import RULES


def is_spec(value: Any) -> bool:
    spec = StudySpec.from_json(value)
    data = spec.data
    return (
        is_text(spec.objective)
        and is_text(spec.metric)
        and isinstance(spec.objective_metric, str)
        and spec.direction in ("minimize", "maximize")
        and {spec.value, spec.objective_value} <= set(RULES)
        and all(is_text(name) for name in (*spec.space, *spec.objective_space))
        and all(set(params) <= set(spec.space) for params in spec.first)
        and all(earlier.is_valid for earlier in spec.learned)
        and all(_is_constraint(bound) for bound in spec.constraints)
        and (spec.also_minimize is None or is_text(spec.also_minimize))
        and spec.backend in ("", *BACKENDS)
        and _is_size(value.get("configurations"))
        and spec.sampler in SAMPLERS
        and spec.pruner in PRUNERS
        and whole(spec.seed, NUMBER)
        and all(whole(count, COUNT) for count in (spec.max_lost, spec.max_failed))
        and ((spec.open_space is True and spec.epochs is None) or whole(spec.epochs, COUNT))
        and all(whole(epoch, COUNT) and whole(one_in, COUNT) for epoch, one_in in spec.rungs)
        and all(whole(epoch, COUNT) for epoch in spec.restarts)
        and type(spec.takes_restarts) is bool
        and isinstance(spec.curve_model, bool)
        and whole(spec.startup, NUMBER)
        and (spec.checkpoint_quota_bytes is None or is_id(spec.checkpoint_quota_bytes))
        and all(
            limit is None or whole(limit, COUNT) for limit in (spec.patience, spec.max_epochs, spec.repeats)
        )
        and (spec.stop_when_flat is None or type(spec.stop_when_flat) is bool)
        and _is_estimate(spec.estimate)
        and (spec.design is None or _is_design(spec.design, set(spec.space)))
        and all(
            value is None or (type(value) in (int, float) and math.isfinite(value))
            for value in (spec.target, spec.trial_timeout_seconds)
        )
        and (data.data_dir is None or isinstance(data.data_dir, str))
        and (data.limit is None or whole(data.limit, COUNT))
        and (data.folds is None or (whole(data.folds, COUNT) and data.folds > 1))
        and 0 < data.validation_fraction < 1
        and whole(data.split_seed, NUMBER)
        and _is_images(data)
    )


def _is_size(value: Any) -> bool:
    """Whether it is the number of configurations of a finite space, or None."""
    return value is None or (type(value) is int and value > 0)


def _is_design(design: Design, names: set[str]) -> bool:
    return (
        is_text(design.study)
        and len(design.points) > 0
        and all(set(point.params) <= names for point in design.points)
        and len(design.seeds) > 0
        and all(type(seed) is int and seed >= 0 for seed in design.seeds)
    )


def _is_estimate(value: Any) -> bool:
    """Whether an estimate has numbers alone, if there is one; those of another version have other names."""
    return value is None or all(
        number is None or (type(number) in (int, float) and math.isfinite(number))
        for number in value.values()
    )


def _is_images(data: DataOptions) -> bool:
    """Whether the options of a study's own images are such as a launch stores."""
    return (
        (data.source is None or is_text(data.source))
        and data.task in (None, *TASKS)
        and (data.image_size is None or whole(data.image_size, COUNT))
        and data.image_fit in FITS
        and (data.test_fraction is None or 0 < data.test_fraction < 1)
        and type(data.skip_unreadable) is bool
        and (data.digest == "" or data.digest.isalnum())
        and data.cache_dir is None
    )


def _is_constraint(value: str) -> bool:
    try:
        return is_text(value) and str(parse(value)) == value
    except UsageError:
        return False
