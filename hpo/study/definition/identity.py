"""Identity of a study: the declarations of its objective that its trials have in common.

A study that has begun keeps its metric, direction, number of epochs and rule of values, because its trials must stay
comparable.
"""

from __future__ import annotations

import logging

from hpo.errors import StudyConflictError
from hpo.options.launch_request import LaunchRequest
from hpo.search.spec import StudySpec
from hpo.study.definition.selected_metric import kept_metric
from objectives.description import Description
from objectives.spaces.space import same_space

log = logging.getLogger(__name__)


def check_declarations(study: str, spec: StudySpec, description: Description, request: LaunchRequest) -> None:
    """Check that the objective still has the declarations that the trials of a study share.

    Metric, epochs and the value of a trial are the request's where it gives them.

    Raises:
        StudyConflictError: one of them has changed.
    """
    changes = _changes(spec, description, request.metric)
    if changes:
        raise StudyConflictError(
            f"the objective has changed since study {study!r} began ({'; '.join(changes)}), and its trials must stay"
            " comparable: restore the objective, or start another study with --study"
        )
    for name, declared, now, used, requested in (
        ("epochs", spec.objective_epochs, description.epochs, spec.epochs, request.epochs),
        ("value", spec.objective_value, description.value, spec.value, request.value),
    ):
        if declared not in (None, now) and used == declared and requested is None:
            raise StudyConflictError(
                f"the objective has changed since study {study!r} began ({_change(name, declared, now)}), and its"
                f" trials must stay comparable: add --{name} {declared} to continue as before, or start another study"
                " with --study"
            )


def check_worker(study: str, spec: StudySpec, description: Description, code: str | None = None) -> None:
    """Check that a worker has loaded the version of the objective that the study trains.

    `code` is the option that lets it join with other code.

    Raises:
        StudyConflictError: it is another one.
    """
    changes = _changes(spec, description)
    if spec.objective_epochs not in (None, description.epochs):
        changes.append(_change("epochs", spec.objective_epochs, description.epochs))
    if spec.objective_value != description.value:
        changes.append(_change("value", spec.objective_value, description.value))
    if not same_space(description.space, spec.objective_space):
        changes.append("another search space")
    other_code = not changes and spec.code and description.code and spec.code != description.code
    if other_code and code is not None:
        log.warning(
            f"the objective's code differs from that of the study ({spec.code} -> {description.code}): trials of this"
            " agent may not be comparable with others; hpo report shows which trials ran with which code"
        )
    elif other_code:
        changes.append(_change("code", spec.code, description.code))
    if changes:
        raise StudyConflictError(
            f"{spec.objective} differs from the version that study {study!r} trains ({'; '.join(changes)}): copy that"
            f" version to this host, or continue the study with this one: hpo launch --study {study}"
            + (", or join with both: --code keep or --code restart" if other_code else "")
        )


def check_worker_images(study: str, spec: StudySpec, digest: str) -> None:
    """Check that the images of a worker's host are those that the study trains on.

    Raises:
        StudyConflictError: they are others.
    """
    if digest and spec.data.digest and digest != spec.data.digest:
        raise StudyConflictError(
            f"the data of {spec.data.source} on this host differ from those that study {study!r} trains on"
            f" ({_change('digest', spec.data.digest, digest)}): copy those to this host and give their place with"
            f" --data, or continue the study with these: hpo launch --study {study}"
        )


def _changes(spec: StudySpec, description: Description, requested_metric: str | None = None) -> list[str]:
    if spec.selects_metric or requested_metric == spec.metric:
        description = kept_metric(description, spec.metric)
    # A function has no direction of its own.
    direction = description.direction if description.declares_direction else spec.direction
    pairs = (
        ("metric", spec.metric, description.metric),
        ("direction", spec.direction, direction),
        ("search space", _kind_of_space(spec.open_space), _kind_of_space(description.open_space)),
    )
    return [_change(name, before, now) for name, before, now in pairs if before != now]


def _kind_of_space(open_space: bool) -> str:
    return "asked for in training" if open_space else "declared"


def _change(name: str, before: object, now: object) -> str:
    return f"{name}: was {before}, is {now}"
