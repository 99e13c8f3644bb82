"""A study for each test of the report, and reports without pictures unless a test asks for them."""

import pytest

from hpo.document import files
from storage.engine import Database
from tests.integration.rows import StudyRows


@pytest.fixture
def rows(database: Database) -> StudyRows:
    return StudyRows(database)


@pytest.fixture
def pictures() -> None:
    """Reports of this test have pictures."""


@pytest.fixture(autouse=True)
def _without_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, which takes nine tenths of the time of a report."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(files, "draw_png", lambda _: b"")
        monkeypatch.setattr(files, "draw_gallery", lambda _: b"")
