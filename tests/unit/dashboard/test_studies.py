import threading
from typing import Any

import pytest
from bottle import HTTPError

from hpo.dashboard.artifacts import Picture, PictureStore, artifact_id
from hpo.dashboard.reports import Reports
from hpo.dashboard.studies import OwnStudies
from hpo.errors import StorageUnreachableError


class AbsentDatabase:
    """A database that does not respond."""

    def transaction(self, *_: Any) -> Any:
        raise StorageUnreachableError("nobody answers")


def test_unreachable_database_gives_503_with_its_message() -> None:
    database: Any = AbsentDatabase()
    for ask in (
        OwnStudies(database).names,
        lambda: PictureStore(database, threading.Lock()).open_reader(artifact_id(1, Picture.CURVES)),
    ):
        with pytest.raises(HTTPError) as caught:
            ask()
        assert (caught.value.status_code, caught.value.body) == (503, "nobody answers")


def test_unreachable_database_gives_503_for_reports_each_time() -> None:
    database: Any = AbsentDatabase()
    answers: list[str] = []

    def inner(_environ: Any, _start: Any) -> list[bytes]:
        raise AssertionError("not for the dashboard")

    reports = Reports(inner, database, threading.Lock())
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/reports/s/report.html"}
    for _ in range(2):
        body = reports(environ, lambda status, headers: answers.append(status))  # type: ignore[arg-type, return-value]  # noqa: ARG005
        assert list(body) == [b"nobody answers\n"]
    assert answers == ["503 Service Unavailable"] * 2


@pytest.mark.parametrize("name", ["", "1", "1-", "1-9", "-1", "x-1", "1-1-1", "../../etc/passwd"])
def test_invalid_picture_id_is_not_found(name: str) -> None:
    with pytest.raises(HTTPError) as caught:
        PictureStore(AbsentDatabase(), threading.Lock()).open_reader(name)  # type: ignore[arg-type]
    assert caught.value.status_code == 404
