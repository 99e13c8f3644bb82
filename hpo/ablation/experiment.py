"""An experiment as a study: it is created next to the study whose configuration it varies, or extended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpo.ablation.points import points_of
from hpo.errors import StudyConflictError, UsageError
from hpo.options.ablate_request import AblateRequest
from hpo.options.fields import NONE
from hpo.options.study_name import check_study_name
from hpo.search.spec import StudySpec
from hpo.search.starting.design import Design, Settings, seeds_of
from hpo.study.catalog import check_name_is_free, find_study
from hpo.study.definition.launched_study import LaunchedStudy, find
from hpo.study.results.best_trials import BestTrial, best_trial, complete_trial
from objectives.runs.switches import CHOICES
from objectives.spaces.space import Space, conditions_of
from storage import budget, studies
from storage.engine import Connection
from storage.optuna import studies as optuna_studies

if TYPE_CHECKING:
    from storage.engine import Database


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment as a command asks for it."""

    name: str
    source: LaunchedStudy
    """Study whose configuration is varied."""
    existing: LaunchedStudy | None
    """Study of the experiment, if it was created before."""
    spec: StudySpec
    """Spec that the study of the experiment gets."""
    base_value: float
    """Value of the trial whose configuration is varied."""

    @property
    def design(self) -> Design:
        assert self.spec.design is not None
        return self.spec.design

    @property
    def is_new(self) -> bool:
        return self.existing is None

    @property
    def added(self) -> int:
        """Number of runs that an experiment which exists gets."""
        return 0 if self.existing is None else self.design.size - self.existing.budget


def settings_of(request: AblateRequest, kept: Settings | None) -> Settings:
    """Return the settings that a request asks for; those left out are kept.

    Raises:
        UsageError: a pair is malformed.
    """
    kept = kept or Settings()
    return Settings(
        seeds=request.seeds or kept.seeds,
        values=request.values or kept.values,
        parameters=tuple(dict.fromkeys(request.parameter)) or kept.parameters,
        pairs=_pairs(request.pairs) if request.pairs else kept.pairs,
        recipe=request.recipe or kept.recipe,
        margin=request.margin or kept.margin,
    )


def _pairs(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    if texts == (NONE,):
        return ()
    found = []
    for text in texts:
        one, star, other = (part.strip() for part in text.partition("*"))
        if not star or not one or not other or one == other:
            raise UsageError(f"--pairs {text}: write two parameters, as in optimizer*learning_rate, or none")
        found.append((one, other))
    return tuple(dict.fromkeys(found))


def read_experiment(
    database: Database, request: AblateRequest, recipe: Mapping[str, str] | None = None
) -> Experiment:
    """Return the experiment that a request asks for, around the best trial so far; nothing is written.

    `recipe` are the switches of the objective's recipe, where they are known.

    Raises:
        UnknownStudyError, NoResultError: there is no such study, or no complete trial.
        UsageError, UnknownParameterError: the study or the settings do not make an experiment.
        StudyConflictError: the experiment was created around another configuration, or with other epochs or data.
    """
    check_study_name(name := request.name or f"{request.study}-ablation")
    find_study(database, request.study)
    source = find(database, request.study)
    assert source is not None
    _check_source(source)
    existing = find(database, name)
    design = None if existing is None else existing.spec.design
    if existing is not None:
        _check_existing(existing, request)
    trial = request.trial if design is None else design.trial
    best = (
        best_trial(database, request.study)
        if trial is None
        else complete_trial(database, request.study, trial)
    )
    settings = settings_of(request, None if design is None else design.settings)
    recipe = recipe if recipe is not None else {} if design is None else design.recipe
    spec = source.spec if existing is None else existing.spec
    new = _spec(spec, request, _design(source.spec, best, settings, recipe))
    if design is not None and new.design is not None:
        extended = design.extended(new.design)
        new = replace(new, design=extended)
    return Experiment(name=name, source=source, existing=existing, spec=new, base_value=best.value)


def _design(spec: StudySpec, best: BestTrial, settings: Settings, recipe: Mapping[str, str]) -> Design:
    default = dict(spec.first[0]) if spec.first else None
    points = points_of(spec.space, dict(best.params), settings, recipe, default)
    return Design(
        study=best.study,
        trial=best.number,
        points=tuple(points),
        seeds=tuple(seeds_of(settings.seeds)),
        settings=settings,
        recipe=dict(recipe),
    )


def _spec(spec: StudySpec, request: AblateRequest, design: Design) -> StudySpec:
    """Return the spec of a study that trains a design, on the data and with the objective of another spec."""
    limit = spec.data.limit if request.limit is None else request.limit
    switches = dict.fromkeys(design.recipe if design.settings.recipe else (), CHOICES)
    return replace(
        spec,
        space=Space({**spec.space, **switches}, conditions_of(spec.space)),
        epochs=request.epochs or spec.epochs,
        data=replace(spec.data, limit=limit),
        design=design,
        # A search alone has these.
        first=(),
        learned=(),
        sampler="random",
        earlier_samplers=(),
        pruner="none",
        rungs=(),
        restarts=(),
        curve_model=False,
        space_changed=False,
        trial_timeout_seconds=None,
        target=None,
        patience=None,
        max_epochs=None,
        repeats=None,
        stop_when_flat=None,
        constraints=(),
        also_minimize=None,
        estimate=None,
    )


def _check_source(source: LaunchedStudy) -> None:
    if source.spec.design is not None:
        raise UsageError(
            f"study {source.name!r} is an experiment itself: name the study {source.spec.design.study}"
        )
    if source.spec.open_space:
        raise UsageError(
            f"study {source.name!r} has an open space, whose parameters the objective names while it runs: declare a"
            " space to vary them"
        )


def _check_existing(existing: LaunchedStudy, request: AblateRequest) -> None:
    design, spec = existing.spec.design, existing.spec
    if design is None:
        raise StudyConflictError(
            f"study {existing.name!r} exists and is not an experiment: give the experiment another name with --as"
        )
    for option, wanted, stored in (
        ("--study", request.study, design.study),
        ("--trial", request.trial, design.trial),
        ("--epochs", request.epochs, spec.epochs),
        ("--limit", request.limit, spec.data.limit),
    ):
        if wanted is not None and wanted != stored:
            raise StudyConflictError(
                f"experiment {existing.name!r} was created with {option} {stored if stored is not None else 'all'}, not"
                f" {wanted}, and its runs must stay comparable: leave {option} out to continue it, or create another"
                " one with --as"
            )


def store(database: Database, experiment: Experiment) -> None:
    """Create the study of an experiment, or extend it, completely or not at all.

    Raises:
        StudyConflictError: the name is taken, or another command has changed the experiment meanwhile.
    """
    spec_json, size, existing = experiment.spec.to_json(), experiment.design.size, experiment.existing
    made: set[int] = set()

    def create(connection: Connection) -> None:
        if made & studies.ids_of(connection, experiment.name):
            # Committed before; only the confirmation was lost.
            return
        check_name_is_free(connection, experiment.name, database)
        optuna_studies.create(connection, experiment.name, experiment.spec.direction)
        new = optuna_studies.find(connection, experiment.name)
        assert new is not None
        made.add(new.study_id)
        studies.insert(connection, new.study_id, experiment.name, spec_json, size)

    def extend(connection: Connection) -> None:
        assert existing is not None
        if not studies.update_spec(connection, existing.study_id, existing.spec_json, spec_json):
            raise StudyConflictError(
                f"experiment {existing.name!r} was changed meanwhile: run the same command again"
            )
        budget.set_budget(connection, existing.study_id, size)

    database.transaction(create if existing is None else extend)
