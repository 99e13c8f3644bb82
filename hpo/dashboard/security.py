"""Access control of the dashboard, whose own API needs no password and can delete studies.

Each class is WSGI middleware that answers a request or passes it on; a function checks a request for `Guard`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

READING = frozenset({"GET", "HEAD", "OPTIONS"})
HEALTH = "/healthz"
"""Path for health checks, which needs no password and reveals nothing about studies."""
USER = "hpo"

CHANGES = (("PUT", re.compile(r"/api/studies/\d+(/\d+)?/note")), ("DELETE", re.compile(r"/api/studies/\d+")))
"""Changes that `--allow-changes` permits: writing notes and deleting studies.

Renaming would copy the study under a name unknown to the service and delete the original; creating or finishing
trials would interfere with the agents; files are not stored.
"""

PLOTTED_TRIALS = 2000
"""Largest number of trials of Optuna's own plots, which take 155 s for the contours of 10,000."""

_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)
_POLICY = ("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'self'")
# The dashboard would let every web page read artifacts.
_DROPPED = frozenset({"access-control-allow-origin"})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server at that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_password(authorization: str, password: str) -> bool:
    """Whether an `Authorization` header holds the user and the password."""
    kind, _, encoded = authorization.partition(" ")
    try:
        given = base64.b64decode(encoded, validate=True) if kind.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        given = b""
    # Environment variables hold bytes that are not UTF-8 as surrogates.
    return hmac.compare_digest(given, f"{USER}:{password}".encode(errors="surrogateescape"))


def is_change(method: str, path: str) -> bool:
    """Whether a request is among `CHANGES`."""
    return any(method == verb and place.fullmatch(path) for verb, place in CHANGES)


class SecurityHeaders:
    """Adds security headers and answers health checks; the outermost layer, so that refusals have the headers too."""

    def __init__(self, inner: WSGIApplication) -> None:
        self._inner = inner

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
            kept = [(name, value) for name, value in headers if name.lower() not in _DROPPED]
            given = {name.lower() for name, _ in kept}
            added = [pair for pair in (*_HEADERS, _POLICY) if pair[0].lower() not in given]
            return start_response(status, kept + added, *rest)

        # The dashboard fails without this variable.
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")
        if environ.get("PATH_INFO") == HEALTH:
            return answer(environ, start, "200 OK", "text/plain", b"ok\n")
        return self._inner(environ, start)


class Password:
    """Requires a password (HTTP Basic, user `hpo`)."""

    def __init__(self, inner: WSGIApplication, password: str) -> None:
        self._inner, self._password = inner, password

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if is_password(environ.get("HTTP_AUTHORIZATION", ""), self._password):
            return self._inner(environ, start_response)
        return answer(
            environ,
            start_response,
            "401 Unauthorized",
            "text/plain",
            f"password required: log in as {USER} with the password that HPO_DASHBOARD_PASSWORD sets,"
            " or the one that hpo dashboard printed\n".encode(),
            ("WWW-Authenticate", 'Basic realm="hpo dashboard", charset="UTF-8"'),
        )


class Guard:
    """Refuses the requests for which `check` returns a reason."""

    def __init__(self, inner: WSGIApplication, check: Callable[[WSGIEnvironment], str | None]) -> None:
        self._inner, self._check = inner, check

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        reason = self._check(environ)
        if reason is None:
            return self._inner(environ, start_response)
        # The pages of the dashboard show the reason of an error in this form.
        body = json.dumps({"reason": reason}).encode()
        return answer(environ, start_response, "403 Forbidden", "application/json", body)


_HOST = re.compile(r"(?P<name>[\w.-]+|\[[\da-fA-F:.]+\])(:\d*)?", re.ASCII)


def known_hosts(environ: WSGIEnvironment) -> str | None:
    """Refuse requests whose Host header is not a loopback name.

    It prevents DNS rebinding: a web page whose name resolves to 127.0.0.1 could otherwise read the dashboard through
    the browser of its visitor.
    """
    host = _HOST.fullmatch(environ.get("HTTP_HOST", "").strip())
    if host is not None and is_loopback(host["name"].strip("[]").lower()):
        return None
    return "the dashboard serves this machine only: use http://127.0.0.1"


def read_only(environ: WSGIEnvironment) -> str | None:
    """Refuse requests that do more than read."""
    reads = environ["REQUEST_METHOD"] in READING
    return None if reads else "the dashboard is read-only: restart it with --allow-changes"


_SLOW_PLOT = re.compile(r"/api/studies/(\d+)/plot/(contour|rank|parallel_coordinate|slice)")


def slow_plots(trials_of: Callable[[int], int]) -> Callable[[WSGIEnvironment], str | None]:
    """Return a check that refuses Optuna's plots of many trials, which occupy a processor for minutes.

    `trials_of` returns a study's number of trials.
    """

    def check(environ: WSGIEnvironment) -> str | None:
        found = _SLOW_PLOT.fullmatch(environ.get("PATH_INFO", ""))
        if found is None:
            return None
        try:
            trials = trials_of(int(found[1]))
        except KeyError:
            return f"there is no study {found[1]}"
        if trials <= PLOTTED_TRIALS:
            return None
        return f"Optuna draws no {found[2]} plot of more than {PLOTTED_TRIALS} trials here: read the study's report"

    return check


def few_changes(environ: WSGIEnvironment) -> str | None:
    """Refuse requests that neither read nor are among `CHANGES`.

    Changes from other origins are refused, because browsers send the password with their requests too.
    """
    method, path, origin = environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""), environ.get("HTTP_ORIGIN")
    if method in READING:
        return None
    if origin is not None and _split(origin).netloc != environ.get("HTTP_HOST"):
        return "changes are accepted only from the dashboard's own pages"
    if not is_change(method, path):
        return "the dashboard only writes notes and deletes studies: use hpo otherwise"
    return None


def _split(url: str) -> SplitResult:
    """Return the parts of a URL; empty parts for an invalid one."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def answer(
    environ: WSGIEnvironment,
    start_response: Callable[..., object],
    status: str,
    kind: str,
    body: bytes,
    *more: tuple[str, str],
) -> Iterable[bytes]:
    """Answer with a body, or only its headers if the request is a HEAD; texts are UTF-8."""
    content_type = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
    start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body))), *more])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
