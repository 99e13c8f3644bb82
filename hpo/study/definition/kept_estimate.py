"""The estimate of a study that does not exist yet: kept on this host until a launch with the same options stores it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpo.files.atomic import atomic_write
from hpo.search.spec import StudySpec
from hpo.study.definition.launched_study import LaunchedStudy
from hpo.study.estimates import Estimate
from storage import studies
from storage.engine import Database

log = logging.getLogger(__name__)


def keep(home: Path, study: str, spec: StudySpec, budget: int, estimate: Estimate) -> None:
    """Keep the estimate of a study of so many trials that does not exist yet, in place of an earlier one."""
    path = _path(home, study)
    path.parent.mkdir(exist_ok=True)
    content = {"study": study, "spec": spec.to_json(), "budget": budget, "estimate": estimate.to_json()}
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content))


def adopt(database: Database, study: LaunchedStudy, home: Path) -> LaunchedStudy:
    """Store the kept estimate with a study that has just been created with the same options; return the study."""
    path = _path(home, study.name)
    try:
        kept = json.loads(path.read_text())
        same = kept["budget"] == study.budget and _options(kept["spec"]) == _options(_stored(study.spec))
        estimate = Estimate.from_json(kept["estimate"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return study
    if study.begun or not same:
        return study
    spec = replace(study.spec, estimate=estimate.to_json())
    stored = database.transaction(
        lambda c: studies.update_spec(c, study.study_id, study.spec.to_json(), spec.to_json())
    )
    if not stored:
        # Another launch has changed it meanwhile.
        return study
    with suppress(OSError):
        path.unlink()
    log.info("the estimate of hpo plan is kept: hpo report compares it with the search")
    return replace(study, spec=spec, spec_json=_stored(spec))


def _options(spec_json: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a spec on which the cost depends; other studies may have ended since it was planned."""
    return {name: value for name, value in spec_json.items() if name not in ("estimate", "learned", "seed")}


def _stored(spec: StudySpec) -> Any:
    """Return a spec as a study stores it, with lists in place of tuples."""
    return json.loads(json.dumps(spec.to_json()))


def _path(home: Path, study: str) -> Path:
    return home / "plans" / f"{hashlib.sha256(study.encode()).hexdigest()[:16]}.json"
