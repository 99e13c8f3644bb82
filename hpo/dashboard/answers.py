"""Answers of optuna-dashboard that the service changes: pages, CSV files and those to changes.

A page offers each change of a study whatever the server allows, and optuna-dashboard has no setting for it, so a style
sheet hides the controls. The server refuses the requests in any case (`hpo.dashboard.security`).
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from hpo.document.files import csv_file

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REFUSED = {
    "create a study": 'button:has([data-testid="AddBoxIcon"])',
    "rename a study": '[aria-label="rename study"]',
    "end a trial": 'button:has([data-testid="StopCircleIcon"])',
    "enter values of a trial": '.MuiCard-root:has(> * > button[type="submit"])',
    # A card for files, and the part of the editor of notes that takes images.
    "upload a file": 'div:has(> button [data-testid="UploadFileIcon"])',
    "delete a file": '[aria-label="delete artifact"]',
}
"""Selectors of the controls whose requests are always refused, by their purpose."""

CHANGES = {
    "delete a study": '[aria-label="delete study"]',
    "write a note": 'button:has([data-testid="EditIcon"])',
}
"""Selectors of the controls that need `--allow-changes`."""

_READABLE = (
    # Links in notes have the browser's dark blue, also on a dark page.
    ".MuiCardContent-root a:not([class]){color:#2188e0}"
    # The error of a trial would make its page as wide as the text is long.
    ".MuiTypography-root+.MuiBox-root{min-width:0;white-space:pre-wrap!important;overflow-wrap:anywhere}"
)

# The browser could answer with the page of an earlier start, which allowed changes.
_CONDITIONS = frozenset({"HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH", "HTTP_RANGE"})
_REPLACED = frozenset({"content-length", "last-modified", "etag", "accept-ranges"})


class ChangedAnswers:
    """Changes the bodies of successful answers under a path, and passes on all other requests."""

    def __init__(
        self,
        inner: WSGIApplication,
        path: str,
        change: Callable[[bytes], bytes],
        *headers: tuple[str, str],
    ) -> None:
        """`headers` replace those of the answers."""
        self._inner, self._path, self._change, self._headers = inner, path, change, headers
        self._replaced = _REPLACED | {name.lower() for name, _ in headers}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not environ.get("PATH_INFO", "").startswith(self._path):
            return self._inner(environ, start_response)
        answered: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
            answered.append((status, headers))
            return lambda _: None

        asked = {name: value for name, value in environ.items() if name not in _CONDITIONS}
        # The length of the answer to a HEAD request is that of the body too.
        head = environ["REQUEST_METHOD"] == "HEAD"
        content = self._inner({**asked, "REQUEST_METHOD": "GET"} if head else asked, start)
        try:
            body = b"".join(content)
        finally:
            if (close := getattr(content, "close", None)) is not None:
                close()
        status, headers = answered[-1]
        if status.startswith("200"):
            body = self._change(body)
            headers = [pair for pair in headers if pair[0].lower() not in self._replaced]
            headers += [*self._headers, ("Content-Length", str(len(body)))]
        start_response(status, headers)
        return [] if head else [body]


class AnsweredChanges:
    """Answers a change with an empty object, because the pages read each answer as JSON.

    They take 204 No Content, which optuna-dashboard answers, for an error.
    """

    def __init__(self, inner: WSGIApplication) -> None:
        self._inner = inner

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        empty = False

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
            nonlocal empty
            empty = status.startswith("204")
            if empty:
                status, headers = "200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")]
            return start_response(status, headers, *rest)

        content = self._inner(environ, start)
        return [b"{}"] if empty else content


def style(allow_changes: bool) -> str:
    """Return the style sheet of the pages."""
    hidden = [*REFUSED.values(), *(() if allow_changes else CHANGES.values())]
    # A rule for each selector, because a browser drops the whole rule of a selector that it does not know.
    return _READABLE + "".join(f"{selector}{{display:none!important}}" for selector in hidden)


def pages(inner: WSGIApplication, allow_changes: bool) -> ChangedAnswers:
    """Return the dashboard without the controls of changes that are refused."""
    end = f"<style>{style(allow_changes)}</style></head>".encode()
    return ChangedAnswers(
        inner, "/dashboard", lambda page: page.replace(b"</head>", end, 1), ("Cache-Control", "no-store")
    )


def tables(inner: WSGIApplication) -> ChangedAnswers:
    """Return the dashboard with CSV files that hold no formulas, and that name their encoding."""
    return ChangedAnswers(inner, "/csv/", _without_formulas, ("Content-Type", "text/csv; charset=utf-8"))


def _without_formulas(table: bytes) -> bytes:
    # An error may be longer than the limit of the csv module.
    csv.field_size_limit(sys.maxsize)
    headers, *rows = csv.reader(io.StringIO(table.decode(), newline=""))
    return csv_file(headers, rows, "\r\n")
