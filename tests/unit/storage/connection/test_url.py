"""Which storage URLs are accepted, and that none ever shows its password."""

from __future__ import annotations

import pytest

from hpo.errors import StorageUrlError
from storage.connection.url import engine_options, full_url, parse_url, shown_url, target, without_secrets


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2", "PostgreSQL"])
def test_postgresql_urls_are_normalized_to_psycopg2(scheme: str) -> None:
    url = parse_url(f" {scheme}://ann:secret@db.example/hpo ")
    assert full_url(url) == "postgresql+psycopg2://ann:secret@db.example/hpo"
    assert target(url) == "db.example:5432"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sqlite:///hpo.db", "SQLite"),
        ("mysql://u:secret@h/db", "only PostgreSQL"),
        ("mysql+pymysql://u:secret@h/db", "only PostgreSQL"),
        ("mariadb://u:secret@h/db", "only PostgreSQL"),
        ("redis://:secret@h/0", "journal"),
        ("rediss://:secret@h/0", "journal"),
        ("study.log", "journal"),
        ("study.journal", "journal"),
        ("journal:study", "journal"),
        ("hpo.db", "journal"),
        ("./folder/anything", "journal"),
        ("postgresql+asyncpg://u:secret@h/db", "only PostgreSQL"),
        ("sécret pässword://x", "something else"),
        ("", "not a URL"),
        ("hpo", "not a URL"),
        ("postgresql://u:secret@h:port/db", "malformed"),
        ("postgresql://", "no database"),
        ("postgresql://u:secret@h", "no database"),
        ("postgresql://u:se@cret/x@h/db", "%40"),
    ],
)
def test_other_storages_are_refused_with_a_reason_and_a_remedy(text: str, reason: str) -> None:
    with pytest.raises(StorageUrlError) as caught:
        parse_url(text)
    message = str(caught.value)
    assert reason in message
    assert "postgresql://" in message or "%40" in message
    assert "secret" not in message
    assert caught.value.__cause__ is None
    assert "\n" not in message


def test_displayed_url_hides_every_secret() -> None:
    url = parse_url("postgresql://ann:pa%2Fss@h:6000/hpo?password=word&sslpassword=key&sslmode=require")
    assert "pa/ss" in (url.password or "")
    for secret in ("pa/ss", "pa%2Fss", "word=word", "=key"):
        assert secret not in shown_url(url)
    assert shown_url(url).startswith("postgresql://ann:***@h:6000/hpo?")
    assert without_secrets("pa/ss, password=word and 'sslpassword': 'key'", url).count("***") == 3


def test_url_options_override_defaults() -> None:
    plain = engine_options(parse_url("postgresql://h/hpo"))["connect_args"]
    assert plain["application_name"] == "hpo"
    assert "options" not in plain, "a pooler refuses settings in the startup message"
    asked = parse_url("postgresql://h/hpo?application_name=mine&options=-c%20statement_timeout%3D5s")
    given = engine_options(asked)["connect_args"]
    assert "application_name" not in given
    assert "options" not in given, "the driver passes those of the URL on"
    settings = engine_options(asked)["pool_events"][0][0].args[0]
    assert set(engine_options(parse_url("postgresql://h/hpo"))["pool_events"][0][0].args[0]) == {
        *settings,
        "statement_timeout",
    }


def test_socket_folder_is_named_in_messages() -> None:
    assert target(parse_url("postgresql://u@/hpo?host=/run/pg&port=5433")) == "/run/pg"
