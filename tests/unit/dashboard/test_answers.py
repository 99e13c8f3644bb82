import csv
import io
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from optuna.storages import InMemoryStorage
from optuna_dashboard import wsgi

from hpo.dashboard.answers import CHANGES, REFUSED, pages, style, tables


def ask(app: Any, path: str, method: str = "GET", **environ: str) -> tuple[str, dict[str, str], bytes]:
    asked: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, **environ}
    setup_testing_defaults(asked)
    asked.setdefault("HTTP_ACCEPT_ENCODING", "")
    started: list[Any] = []
    body = b"".join(app(asked, lambda *answer: started.append(answer)))
    return started[-1][0], {name.lower(): value for name, value in started[-1][1]}, body


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/studies/1/trials"])
def test_page_holds_the_style_and_is_not_taken_from_a_cache(path: str) -> None:
    app = pages(wsgi(InMemoryStorage()), allow_changes=False)
    status, headers, body = ask(app, path, HTTP_IF_MODIFIED_SINCE="Fri, 01 Jan 2100 00:00:00 GMT")
    assert (status, headers["cache-control"]) == ("200 OK", "no-store")
    assert "script-src" in headers["content-security-policy"]
    assert f"<style>{style(allow_changes=False)}</style></head>".encode() in body
    assert headers["content-length"] == str(len(body))
    head = ask(app, path, "HEAD")
    assert (head[1]["content-length"], head[2]) == (str(len(body)), b"")


@pytest.mark.parametrize(("path", "status"), [("/static/x.js", "200 OK"), ("/csv/1", "404 Not Found")])
def test_other_answers_are_passed_on(path: str, status: str) -> None:
    def inner(_environ: Any, start: Any) -> list[bytes]:
        start(status, [("Content-Type", "text/html")])
        return [b"</head>"]

    app = tables(pages(inner, allow_changes=False))
    assert ask(app, path) == (status, {"content-type": "text/html"}, b"</head>")


def test_changes_that_are_allowed_keep_their_controls() -> None:
    read_only, changes = style(allow_changes=False), style(allow_changes=True)
    assert all(selector in read_only and selector not in changes for selector in CHANGES.values())
    assert all(selector in read_only and selector in changes for selector in REFUSED.values())


def test_csv_file_holds_no_formulas() -> None:
    long = "x" * 200_000
    table = f'Number,"=cmd|x",Ä\r\n-1,"=1+1\nü",{long}\r\n1e-3,@a,"+49 ""1"""\r\n'

    def inner(_environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/csv; chatset=cp932"), ("Content-Length", "1")])
        return [table.encode()]

    _, headers, body = ask(tables(inner), "/csv/1")
    assert headers["content-type"] == "text/csv; charset=utf-8"
    assert headers["content-length"] == str(len(body))
    assert list(csv.reader(io.StringIO(body.decode(), newline=""))) == [
        ["Number", "'=cmd|x", "Ä"],
        ["-1", "'=1+1\nü", long],
        ["1e-3", "'@a", '\'+49 "1"'],
    ]
