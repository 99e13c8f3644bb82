"""Passwords are masked in text that others may read, and nothing else is."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from storage.connection.url import REMEDY
from storage.redaction import passwords_given, redacted
from tests.unit.passwords import PASSWORDS


@pytest.mark.parametrize("password", PASSWORDS)
def test_known_password_is_masked_in_every_form(password: str) -> None:
    url = f"postgresql://me:{password}@host/db"
    text = (
        f"{url} {url!r} {json.dumps(url)} {password} {password!r} {json.dumps([password])} {quote(password)}"
    )
    named = {"password": password}
    nested = repr([repr(url), named])
    text += f" {quote(password, safe='')} host=h password={password} {named} {nested}"
    given = passwords_given(["--storage", url], {})
    assert "zq" not in redacted(text, given)
    assert given == passwords_given([], {"HPO_STORAGE": url})
    encoded = f"postgresql://me:{quote(password, safe='')}@host/db"
    assert "zq" not in redacted(text, passwords_given([f"--storage={encoded}"], {}))
    for name in ("PGPASSWORD", "HPO_DASHBOARD_PASSWORD"):
        assert "zq" not in redacted(text, passwords_given([], {name: password}))


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:zq1@host/db",
        "postgresql+psycopg2://me:zq1@host",
        "postgresql://:zq1@host",
        "postgresql://me:zq1/zq2@host/db",
        "postgresql://me:zq1@zq2@host/db",
        "(postgresql://me:zq1'zq2@host/db)",
        "host=h password=zq1",
        "host=h password = zq1",
        "host=h password='zq1 zq2' dbname=d",
        r"host=h password='zq1\' zq2' dbname=d",
        r"host=h password=zq1\ zq2 dbname=d",
        "postgresql://host/db?sslpassword=zq1&sslmode=require",
        "{'password': 'zq1'}",
        '{"password": "zq1 zq2"}',
        r'"{\'password\': \'zq1\'}"',
        "PGPASSWORD=zq1 hpo",
        'POSTGRES_PASSWORD="zq1 zq2"',
        "connect(password = 'zq1')",
    ],
)
def test_unknown_password_is_masked_by_its_position(text: str) -> None:
    assert "zq" not in redacted(text)
    assert "***" in redacted(text)


@pytest.mark.parametrize(
    "password", ["x", "a", "5432", "-----", "host", "password", "postgres", "database", "storage"]
)
@pytest.mark.parametrize(
    "text",
    [
        REMEDY,
        "give --storage postgresql://user:password@host/name, or HPO_STORAGE",
        "check the user, the password and the database's name in --storage or HPO_STORAGE",
        "the database at host:5432 does not answer (no password supplied): start the server",
        "set HPO_DASHBOARD_PASSWORD, or HPO_DASHBOARD_PASSWORD_FILE to the name of a file",
        "HPO_DASHBOARD_PASSWORD_FILE=/run/password is empty: write the password into it",
        "(Background on this error at: https://sqlalche.me/e/20/e3q8)",
        "dashboard: http://127.0.0.1:8080/ (read-only)",
        "ray://10.0.0.1:10001 does not answer, mail me@example.org",
    ],
)
def test_example_urls_stay_readable(text: str, password: str) -> None:
    given = passwords_given([], {"HPO_STORAGE": f"postgresql://user:{password}@host/db"})
    assert redacted(text, given) == text


@pytest.mark.parametrize("password", ["x", "a b", "user", "postgres", "password"])
def test_short_or_common_password_is_masked_in_password_positions(password: str) -> None:
    url = f"postgresql://me:{password}@server:5433/db"
    given = passwords_given([url], {})
    assert redacted(f"extra argument ({url})", given) == "extra argument (postgresql://me:***@server:5433/db)"
    assert redacted(f"password='{password}' x", given) == "password=*** x"


def test_password_of_five_letters_is_masked_as_a_word() -> None:
    given = passwords_given([], {"PGPASSWORD": "train"})
    assert redacted("train: a trainer, 'train'", given) == "***: a trainer, '***'"


def test_url_split_by_the_shell_is_masked() -> None:
    words = ["--storage", "postgresql://me:zq1", "zq2", "zq3@zq4@host/db", "--study", "s"]
    given = passwords_given(words, {})
    assert "zq" not in redacted("Got unexpected extra arguments (zq2 zq3@zq4@host/db)", given)
    assert "zq" not in redacted(" ".join(words), given)


def test_text_without_a_password_yields_no_password() -> None:
    assert (
        passwords_given(["status", "--study", "s", "--storage", "postgresql://me@host:5432/db"], {}) == set()
    )
    assert passwords_given([], {"PGPASSWORD": "", "HPO_STORAGE": ""}) == set()
