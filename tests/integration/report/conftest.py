"""A study for each test of the report."""

import pytest

from storage.engine import Database
from tests.integration.rows import StudyRows


@pytest.fixture
def rows(database: Database) -> StudyRows:
    return StudyRows(database)
