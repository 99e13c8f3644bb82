"""Whether a study's data have a test set, without which `hpo retrain` refuses."""

from __future__ import annotations

from sqlalchemy import Connection

from hpo.devices.provenance import DATA
from objectives.data import description
from storage import agents


def has_test_set(connection: Connection, study_id: int) -> bool:
    """Return whether the data that an agent has loaded last have a test set; True if they are not known."""
    described = agents.latest_versions(connection, DATA, study_id).get(study_id)
    return described is None or description.has_test_set(described)
