"""Who may do what with the dashboard: its own API asks nobody for a password, and can delete studies.

Each class is WSGI middleware: it answers by itself, or hands the request on.
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
"""Answers without a password, and says nothing of any study: for health checks."""
USER = "hpo"

CHANGES = (("PUT", re.compile(r"/api/studies/\d+(/\d+)?/note")), ("DELETE", re.compile(r"/api/studies/\d+")))
"""What can be changed where changes are allowed: notes are written, studies are deleted.

Of the rest, renaming makes a copy that the service does not know and deletes the study, and telling a
trial or creating one takes it from the agents. Files have no place to be kept.
"""

_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)
_POLICY = ("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'self'")
# The dashboard lets every page on the web read artifacts.
_DROPPED = frozenset({"access-control-allow-origin"})


def is_loopback(host: str) -> bool:
    """Whether only processes of this machine can reach what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class SecurityHeaders:
    """Tells browsers to be strict, and answers health checks; outermost, so that refusals carry them too."""

    def __init__(self, inner: WSGIApplication) -> None:
        self._inner = inner

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
            kept = [(name, value) for name, value in headers if name.lower() not in _DROPPED]
            given = {name.lower() for name, _ in kept}
            added = [pair for pair in (*_HEADERS, _POLICY) if pair[0].lower() not in given]
            return start_response(status, kept + added, *rest)

        # The dashboard fails without it.
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")
        if environ.get("PATH_INFO") == HEALTH:
            return _answer(environ, start, "200 OK", "text/plain; charset=utf-8", b"ok\n")
        return self._inner(environ, start)


class Password:
    """Asks for a password (HTTP Basic, the user is `hpo`)."""

    def __init__(self, inner: WSGIApplication, password: str) -> None:
        self._inner = inner
        # Bytes that are no UTF-8 come from the environment in the guise of surrogates.
        self._wanted = f"{USER}:{password}".encode(errors="surrogateescape")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        kind, _, encoded = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True) if kind.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            given = b""
        if hmac.compare_digest(given, self._wanted):
            return self._inner(environ, start_response)
        return _answer(
            environ,
            start_response,
            "401 Unauthorized",
            "text/plain; charset=utf-8",
            f"the user is {USER}; the password was chosen by who started the dashboard\n".encode(),
            ("WWW-Authenticate", 'Basic realm="hpo dashboard", charset="UTF-8"'),
        )


class KnownHosts:
    """Refuses requests for other names than this machine's own.

    Without it a web page could have its own name resolve to 127.0.0.1 and read the dashboard from the
    browser of whoever looks at that page.
    """

    def __init__(self, inner: WSGIApplication) -> None:
        self._inner = inner

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if is_loopback(_split(f"//{environ.get('HTTP_HOST', '')}").hostname or ""):
            return self._inner(environ, start_response)
        return _refused(environ, start_response, "this dashboard is for its own machine: ask for 127.0.0.1")


def _split(url: str) -> SplitResult:
    """A URL as its parts; of one that is none they are empty."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


class ReadOnly:
    """Hands on only what changes nothing."""

    def __init__(self, inner: WSGIApplication) -> None:
        self._inner = inner

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in READING:
            return self._inner(environ, start_response)
        return _refused(environ, start_response, "the dashboard is read-only: start it with --allow-changes")


class FewChanges:
    """Hands on what changes nothing, and the few changes that leave a study whole.

    None from pages of others, with whose requests browsers send the password too.
    """

    def __init__(self, inner: WSGIApplication) -> None:
        self._inner = inner

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method, path, origin = (
            environ["REQUEST_METHOD"],
            environ.get("PATH_INFO", ""),
            environ.get("HTTP_ORIGIN"),
        )
        if method in READING:
            return self._inner(environ, start_response)
        if origin is not None and _split(origin).netloc != environ.get("HTTP_HOST"):
            return _refused(environ, start_response, "changes are made from the dashboard's own pages")
        if not any(method == verb and place.fullmatch(path) for verb, place in CHANGES):
            return _refused(
                environ, start_response, "the dashboard writes notes and deletes studies; all else is for hpo"
            )
        return self._inner(environ, start_response)


def _refused(environ: WSGIEnvironment, start_response: StartResponse, reason: str) -> Iterable[bytes]:
    # As the dashboard's own refusals, whose reason its pages show.
    body = json.dumps({"reason": reason}).encode()
    return _answer(environ, start_response, "403 Forbidden", "application/json", body)


def _answer(
    environ: WSGIEnvironment,
    start_response: Callable[..., object],
    status: str,
    kind: str,
    body: bytes,
    *more: tuple[str, str],
) -> Iterable[bytes]:
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *more])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
