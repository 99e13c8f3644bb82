import base64
import json
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from hpo.dashboard import security

OK = b"the dashboard's own answer"


def plain_app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    headers = [("Content-Type", "text/plain"), ("Access-Control-Allow-Origin", "*")]
    start_response("200 OK", headers)
    return [OK]


class Answer:
    def __init__(self, app: Any, method: str = "GET", path: str = "/", **environ: str) -> None:
        asked: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, **environ}
        setup_testing_defaults(asked)

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            self.status, self.headers = int(status.split()[0]), dict(headers)

        self.body = b"".join(app(asked, start))


def basic(text: str, encoding: str = "utf-8") -> str:
    return "Basic " + base64.b64encode(text.encode(encoding)).decode()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_read_only_passes_reading_requests(method: str) -> None:
    assert Answer(security.Guard(plain_app, security.read_only), method).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "INVENTED"])
def test_read_only_refuses_other_requests_with_a_reason(method: str) -> None:
    answer = Answer(security.Guard(plain_app, security.read_only), method, "/api/studies/1")
    assert answer.status == 403
    assert "--allow-changes" in json.loads(answer.body)["reason"]


def test_refused_head_request_has_no_body() -> None:
    answer = Answer(security.Password(plain_app, "x"), "HEAD")
    assert (answer.status, answer.body) == (401, b"")


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic é",
        "Bearer aHBvOnNlY3JldA==",
        basic("hpo:"),
        basic("hpo:secre"),
        basic("hpo:secret "),
        basic("admin:secret"),
        basic("secret"),
    ],
)
def test_wrong_password_is_refused(given: str) -> None:
    answer = Answer(security.Password(plain_app, "secret"), HTTP_AUTHORIZATION=given)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert OK not in answer.body


@pytest.mark.parametrize("password", ["secret", "с паролем ☂", "a:b"])
def test_right_password_is_accepted(password: str) -> None:
    answer = Answer(security.Password(plain_app, password), HTTP_AUTHORIZATION=basic(f"hpo:{password}"))
    assert (answer.status, answer.body) == (200, OK)


def test_password_that_is_not_utf8_is_accepted() -> None:
    # os.environ decodes the bytes p, 0xff like this.
    app = security.Password(plain_app, "p\udcff")
    assert Answer(app, HTTP_AUTHORIZATION=basic("hpo:p\xff", "latin-1")).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "localhost:1", "[::1]:8080", "127.0.0.2"])
def test_loopback_names_are_accepted(host: str) -> None:
    assert Answer(security.Guard(plain_app, security.known_hosts), HTTP_HOST=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "example.com:8080",
        "127.0.0.1.example.com",
        "[::1].example.com",
        "example.com@127.0.0.1",
        "localhost/example.com",
        "",
        "10.0.0.1",
    ],
)
def test_other_names_are_refused(host: str) -> None:
    # setup_testing_defaults would fill in a missing one.
    assert Answer(security.Guard(plain_app, security.known_hosts), HTTP_HOST=host).status == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/studies"),
        ("PUT", "/api/studies/1/note"),
        ("PUT", "/api/studies/1/23/note"),
        ("DELETE", "/api/studies/12"),
    ],
)
def test_allowed_changes_are_passed_on(method: str, path: str) -> None:
    assert Answer(security.Guard(plain_app, security.few_changes), method, path).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/studies"),
        ("POST", "/api/studies/1/rename"),
        ("POST", "/api/trials/1/tell"),
        ("POST", "/api/trials/1/user-attrs"),
        ("POST", "/api/artifacts/1/2"),
        ("DELETE", "/api/artifacts/1/2/3-1"),
        ("DELETE", "/api/studies/1/preference/x"),
        ("DELETE", "/api/studies/1\n"),
        ("POST", "/incompatible-rdb-schema"),
        ("PUT", "/api/studies/1"),
    ],
)
def test_changes_that_break_a_study_are_refused(method: str, path: str) -> None:
    assert Answer(security.Guard(plain_app, security.few_changes), method, path).status == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1", 200), ("https://example.com", 403), ("http://127.0.0.1:1", 403), ("null", 403)],
)
def test_changes_from_other_origins_are_refused(origin: str, status: int) -> None:
    app = security.Guard(plain_app, security.few_changes)
    assert Answer(app, "DELETE", "/api/studies/1", HTTP_HOST="127.0.0.1", HTTP_ORIGIN=origin).status == status


def test_every_answer_has_security_headers() -> None:
    for app in (plain_app, security.Guard(plain_app, security.read_only), security.Password(plain_app, "x")):
        answer = Answer(security.SecurityHeaders(app), "POST")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_policy_of_the_answer_is_kept() -> None:
    def strict(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("content-security-policy", "default-src 'none'")])
        return []

    headers = Answer(security.SecurityHeaders(strict)).headers
    assert [value for name, value in headers.items() if name.lower() == "content-security-policy"] == [
        "default-src 'none'"
    ]


def test_health_check_needs_no_password() -> None:
    app = security.SecurityHeaders(security.Password(plain_app, "x"))
    assert Answer(app, path=security.HEALTH).body == b"ok\n"
    assert Answer(app, path=security.HEALTH + "/").status == 401


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("", False)],
)
def test_loopback_addresses(host: str, loopback: bool) -> None:
    assert security.is_loopback(host) is loopback
