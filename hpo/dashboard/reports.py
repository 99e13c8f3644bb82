"""The report of each study under `/reports/NAME/`, created on request."""

from __future__ import annotations

import mimetypes
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hpo.dashboard.security import answer
from hpo.dashboard.studies import PATIENCE
from hpo.errors import HpoError, UnknownStudyError
from hpo.report.study_report import report_files
from hpo.study.history import read_history

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from storage.engine import Database

PREFIX = "/reports/"
KEPT_SECONDS = 30.0
"""Age at which a report is created again, or ten times the time it took, if longer."""
DRAWING_SECONDS = 20.0
"""Seconds to wait for another drawing."""
MOST_KEPT = 8
"""Largest number of reports kept in memory."""

_POLICY = (
    "default-src 'none'; img-src data: 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (("Content-Security-Policy", _POLICY), ("Cache-Control", "no-store"))


class DrawingBusyError(HpoError):
    """Another picture or report is being drawn."""


class Reports:
    """WSGI middleware that serves reports and passes on all other requests."""

    def __init__(self, inner: WSGIApplication, database: Database, drawing: threading.Lock) -> None:
        """`drawing` is held while creating a report, because matplotlib's settings are global."""
        self._inner = inner
        self._database = database
        self._made: dict[str, tuple[float, Mapping[str, bytes]]] = {}
        self._drawing = drawing

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # WSGI passes paths as UTF-8 bytes decoded as Latin-1.
        path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
        if not path.startswith(PREFIX):
            return self._inner(environ, start_response)
        study, _, file = path.removeprefix(PREFIX).partition("/")
        status, kind = "200 OK", mimetypes.guess_type(file or "report.html")[0] or "text/plain"
        try:
            content = self._files(study).get(file or "report.html")
        except HpoError as error:
            unknown = isinstance(error, UnknownStudyError)
            status, kind = "404 Not Found" if unknown else "503 Service Unavailable", "text/plain"
            content = f"{error}\n".encode()
        if content is None:
            status, kind, content = "404 Not Found", "text/plain", b"the report has no such file\n"
        return answer(environ, start_response, status, kind, content, *_HEADERS)

    def _files(self, study: str) -> Mapping[str, bytes]:
        started_at = time.monotonic()
        until, files = self._made.get(study, (0.0, {}))
        if started_at < until:
            return files
        # Without the lock: in an outage of the database the pictures of other studies are still drawn.
        history = read_history(self._database, study, PATIENCE)
        with drawing_turn(self._drawing):
            until, files = self._made.get(study, (0.0, {}))
            if time.monotonic() < until:
                # Another request has created it meanwhile.
                return files
            files = report_files(history)
            ended_at = time.monotonic()
            self._made[study] = (ended_at + max(KEPT_SECONDS, 10 * (ended_at - started_at)), files)
            if len(self._made) > MOST_KEPT:
                del self._made[min(self._made, key=lambda name: self._made[name][0])]
            return files


@contextmanager
def drawing_turn(drawing: threading.Lock) -> Iterator[None]:
    """Hold the lock of drawing within this block.

    Raises:
        DrawingBusyError: another drawing takes too long.
    """
    if not drawing.acquire(timeout=DRAWING_SECONDS):
        raise DrawingBusyError("the dashboard is still drawing another report: reload the page in a minute")
    try:
        yield
    finally:
        drawing.release()
