"""Plan of `hpo retrain`: its configurations, their source and the folder of their results."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hpo import formatting
from hpo.errors import ConfigFileError, NoResultError, ObjectiveBrokenError, UnknownStudyError, UsageError
from hpo.export.best_config import best_configs, build_config
from hpo.export.config import Config
from hpo.export.config_file import read_config
from hpo.options.retrain_request import RetrainRequest
from hpo.outcomes import Outcome
from hpo.search.space import check_params
from hpo.search.spec import default_params, space_from_json
from hpo.study.catalog import find_study
from hpo.study.definition.selected_metric import kept_metric
from hpo.study.definition.versions import CODE, codes_of_trials
from hpo.study.results.trials import sorted_trials
from objectives.base import DataOptions
from objectives.description import Description
from objectives.spaces.choices import same_params
from storage.engine import Database
from storage.retrains import Source
from storage.studies import StoredStudy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Configurations to retrain, and their context."""

    configs: Sequence[Config]
    """Candidates, best first, and the objective's default configuration; only one if there is no choice."""
    source: Source
    study: StoredStudy | None
    """Study that records the retrain; None if this database has none."""
    folder: Path
    """Folder of the results."""
    default: int | None = None
    """Index of the objective's default configuration among several; None if it does not compete."""


def make_plan(database: Database, request: RetrainRequest, results_dir: Path) -> Plan:
    """Return the plan of a request.

    Raises:
        UnknownStudyError: the study does not exist, and no configuration file is given.
        NoResultError: no trial is complete, or the given one is not.
        ConfigFileError, UsageError: the file is broken, or configures another objective than the study's.
    """
    given = read_config(request.config) if request.config is not None else None
    study: StoredStudy | None = None
    try:
        study = find_study(database, request.study)
    except UnknownStudyError:
        if given is None:
            raise
    folder, source = results_dir / request.study, Source.SEARCH
    default: int | None = None
    if given is None and request.trial is None:
        configs, default = _candidates(database, request.study, request.top)
    elif given is None:
        configs = [build_config(database, request.study, request.trial)]
    else:
        configs = [given]
        if study is not None and given.objective != study.objective:
            raise UsageError(
                f"{request.config} configures objective {given.objective}, but study {study.name} searches"
                f" {study.objective}: give it a study name of its own"
            )
    explicit = given is not None or request.trial is not None
    if study is not None and explicit and not _is_best_trial(database, study, configs[0]):
        # Next to the results of the search's choice, not in their place.
        source = Source.TRIAL if given is None else Source.FILE
        folder /= f"trial-{request.trial}" if request.config is None else f"config-{request.config.stem}"
    if study is None and given is not None:
        study = _origin(database, given)
        if study is None or not _is_best_trial(database, study, given):
            source = Source.FILE
    return Plan([_requested(config, request) for config in configs], source, study, folder, default)


def _requested(config: Config, request: RetrainRequest) -> Config:
    """Return a configuration with the epochs and data of the request, if it names any."""
    return replace(
        config,
        study=config.study or request.study,
        epochs=request.epochs or config.epochs,
        restarts=config.restarts if request.epochs in (None, config.epochs) else (),
        data=dict(config.data) | _limit(request),
    )


def _candidates(database: Database, name: str, top: int) -> tuple[list[Config], int | None]:
    """Return up to `top` best configurations and, if they are to compete, the objective's default one, with its index.

    Only a comparison from fresh seeds shows whether the search has improved on the default.
    """
    configs = best_configs(database, name, top)
    spec = find_study(database, name).spec_json
    default, space = default_params(spec), space_from_json(spec["space"])
    if top == 1 or default is None:
        return configs, None
    among = [same_params(one.params, default, space) for one in configs]
    if any(among):
        return configs, among.index(True)
    tried = [
        row.number
        for row in sorted_trials(database, name, by="value")
        if row.state == Outcome.COMPLETE and same_params(row.params, default, space)
    ]
    if tried:
        return [*configs, build_config(database, name, tried[0])], len(configs)
    if spec.get("constraints"):
        # Whether it fulfils them is not known, or it does not.
        return configs, None
    untried = replace(
        configs[0],
        params=formatting.in_order(default, spec["space"]),
        trial=None,
        value=None,
        value_epoch=None,
    )
    return [*configs, replace(untried, device={}, versions={})], len(configs)


def with_images(plan: Plan, data: DataOptions) -> Plan:
    """Return the plan with the digest of its own images as they are now; log where trials had others."""
    if data.source is None:
        return plan
    earlier = {str(config.data.get("digest") or data.digest) for config in plan.configs} - {data.digest}
    if earlier:
        log.warning(
            f"the content of the data has changed since the search ({', '.join(sorted(earlier))} -> {data.digest}):"
            " the retrain may not repeat its result"
        )
    images = {"source": data.source, "digest": data.digest}
    return replace(
        plan, configs=[replace(config, data=dict(config.data) | images) for config in plan.configs]
    )


def codes_of(
    database: Database, study: StoredStudy | None, configs: Sequence[Config]
) -> dict[int, frozenset[str]]:
    """Return the digests of the code that has trained the configurations' trials, by the trials' numbers."""
    found = {
        config.trial: frozenset({config.versions[CODE]} if CODE in config.versions else ())
        for config in configs
        if config.trial is not None
    }
    ours = [config.trial for config in configs if study is not None and config.study == study.name]
    if study is None or not ours:
        return found
    return found | codes_of_trials(
        database, study.study_id, [number for number in ours if number is not None]
    )


def _is_best_trial(database: Database, study: StoredStudy, config: Config) -> bool:
    """Return whether a configuration is the best of the study's complete trials."""
    with suppress(NoResultError):
        best = best_configs(database, study.name, 1)[0]
        return same_params(best.params, config.params, space_from_json(study.spec_json["space"]))
    return False


def _origin(database: Database, config: Config) -> StoredStudy | None:
    """Return the study of an exported configuration, if it is in this database.

    That study records every opening of its test set, under any name.
    """
    if config.study is None:
        return None
    with suppress(UnknownStudyError):
        study = find_study(database, config.study)
        return study if study.objective == config.objective else None
    return None


def _limit(request: RetrainRequest) -> dict[str, int | None]:
    if request.limit is None:
        return {}
    return {"limit": None if request.limit == "all" else request.limit}


def check_file(given: Path, config: Config, description: Description) -> None:
    """Raise ConfigFileError if the objective cannot be trained with a configuration that was given as a file."""
    if (config.epochs is None) is not (description.epochs is None):
        kind = "decides on its epochs itself" if description.epochs is None else "declares its epochs"
        raise ConfigFileError(
            f"{given} does not fit {config.objective}, which {kind} now: export the configuration again"
        )
    if not description.open_space:
        check_params(config.params, description.space, given)


def check_declarations(config: Config, description: Description) -> None:
    """Check, before the test set is opened, that the objective still has the metric and direction of a configuration.

    Nor may it have begun or ceased to declare its epochs: without their number, a loop over them would not end.

    Raises:
        ObjectiveBrokenError: one of them has changed.
    """
    if config.selects_metric:
        description = kept_metric(description, config.metric)
    # A function has no direction of its own.
    direction = description.direction if description.declares_direction else config.direction
    pairs = (("metric", config.metric, description.metric), ("direction", config.direction, direction))
    changes = [f"{name}: was {before}, is {now}" for name, before, now in pairs if before != now]
    if (config.epochs is None) is not (description.epochs is None):
        own = "the objective's own decision"
        changes.append(f"epochs: was {config.epochs or own}, is {description.epochs or own}")
    if changes:
        raise ObjectiveBrokenError(
            f"{config.objective} has changed since this configuration was found ({'; '.join(changes)}): restore the"
            " objective, or search with the changed one in another study"
        )
