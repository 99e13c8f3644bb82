"""A dashboard without its password, or without one that it can read, does not start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpo.dashboard.server import (
    PASSWORD,
    PASSWORD_FILE,
    DashboardRequest,
    DashboardServer,
    PasswordNeededError,
)
from hpo.errors import UsageError

NO_DATABASE: Any = None


@pytest.fixture(autouse=True)
def without_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)
    monkeypatch.delenv(PASSWORD_FILE, raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "nowhere.invalid", ""])
@pytest.mark.parametrize("password", [None, "", " "])
def test_other_addresses_require_a_password(
    monkeypatch: pytest.MonkeyPatch, host: str, password: str | None
) -> None:
    if password is not None:
        monkeypatch.setenv(PASSWORD, password)
    with pytest.raises(PasswordNeededError, match=PASSWORD):
        DashboardServer(NO_DATABASE, DashboardRequest(host, 0))


@pytest.mark.parametrize("content", [None, b"", b"\n", b" \n", b"\xff\xfe\xff", b"x" * 5000])
def test_empty_or_unreadable_password_file_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(PASSWORD_FILE, str(path))
    with pytest.raises(UsageError, match=PASSWORD_FILE):
        DashboardServer(NO_DATABASE, DashboardRequest(port=0))


@pytest.mark.parametrize("password", ["x", "1234567"])
def test_short_password_is_refused_where_others_can_guess_it(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv(PASSWORD, password)
    with pytest.raises(PasswordNeededError, match="at least 8"):
        DashboardServer(NO_DATABASE, DashboardRequest("0.0.0.0", 0))
