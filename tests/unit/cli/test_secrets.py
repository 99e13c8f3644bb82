"""A password is neither printed nor stored, in any error."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from hpo.cli.commands.run import control
from hpo.cli.main import run
from hpo.errors import HpoError, ObjectiveFailedError
from storage.connection.url import EXAMPLE, parse_url
from tests.unit.passwords import PASSWORDS

UNKNOWN = "postgresql://me:zq1/zq2@host/db"


@pytest.fixture(params=PASSWORDS, ids=range(len(PASSWORDS)))
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """URL with a password that is difficult to redact."""
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HPO_EMBEDDED", "off")
    monkeypatch.delenv("HPO_STORAGE", raising=False)
    monkeypatch.delenv("HPO_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    return f"postgresql://me:{request.param}@127.0.0.1:9/db"


def stored(folder: Path) -> str:
    """Return paths and contents of all files in a folder."""
    return "\n".join(f"{file}\n{file.read_text()}" for file in folder.rglob("*") if file.is_file())


def without_random_names(text: str) -> str:
    """Return a text without the random part of the names of crash files, which may contain anything."""
    return re.sub(r"(hpo-\d{8}-\d{6}-)\w{8}\.txt", r"\1.txt", text)


@pytest.mark.parametrize(
    "before",
    [
        [],
        ["launch", "--study", "x"],
        ["launch", "--study"],
        ["launch", "--study", "x", "--trials"],
        ["launch", "--study", "x", "--sampler"],
        ["launch", "--study", "x", "--objective"],
        ["status", "--study", "x", "--every"],
        ["data", "fetch"],
    ],
)
def test_usage_error_hides_password(
    url: str, before: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for arguments in ([url], url.split(" ")):
        assert run([*before, *arguments]) in (1, 2)
    captured = capsys.readouterr()
    assert "zq" not in without_random_names(captured.out + captured.err + stored(tmp_path))
    assert captured.err.startswith("hpo: ")


@pytest.mark.parametrize("debug", ["0", "1"])
@pytest.mark.parametrize("by", ["--storage", "HPO_STORAGE"])
def test_bug_hides_password(
    url: str,
    by: str,
    debug: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The message, the traceback of its cause and the command line in the crash file hide it."""
    password = url.removeprefix("postgresql://me:").removesuffix("@127.0.0.1:9/db")

    def fail(**_: object) -> None:
        try:
            raise ValueError(f"no such option: {password} in {[url]}")
        except ValueError as error:
            raise RuntimeError(
                f"cannot reach {url} as {quote(password, safe='')}, password={password}"
            ) from error

    monkeypatch.setattr(control.stop, "callback", fail)
    monkeypatch.setenv("HPO_DEBUG", debug)
    arguments = ["stop", "--study", "x"]
    if by == "HPO_STORAGE":
        monkeypatch.setenv(by, url)
    else:
        arguments += [by, url]
    monkeypatch.setattr(sys, "argv", ["hpo", *arguments])
    assert run(arguments) == 1
    printed = capsys.readouterr().err + stored(tmp_path)
    assert "zq" not in without_random_names(printed)
    assert "Traceback" in printed
    assert "RuntimeError: cannot reach postgresql://me:***@" in printed


def test_bug_with_undecodable_bytes_hides_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Such bytes cannot be encoded, and the error of Python would contain the whole text."""
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    url = "postgresql://me:zq1\udcff@host/db"

    def fail(**_: object) -> None:
        raise RuntimeError(f"cannot reach {url} of mine") from ValueError("\udcfe")

    monkeypatch.setattr(control.stop, "callback", fail)
    assert run(["stop", "--study", "x", "--storage", "postgresql://me@host/db"]) == 1
    printed = capsys.readouterr().err + stored(tmp_path)
    assert "zq" not in without_random_names(printed)
    assert "cannot reach postgresql://me:***@host/db of" in printed


@pytest.mark.parametrize(
    "leak",
    [
        UNKNOWN,
        "postgresql+psycopg2://me:zq1@h",
        "h=h password=zq1",
        "password='zq1'",
        "password = zq1",
        "{'password': 'zq1'}",
    ],
    ids=range(6),
)
def test_password_of_another_process_is_hidden(
    leak: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    error = HpoError(f"cannot reach {leak}")
    error.add_note(f"by {leak}")
    for problem in (error, RuntimeError(leak), ObjectiveFailedError("failed", f"Traceback\n  {leak}")):

        def fail(problem: Exception = problem, **_: object) -> None:
            raise problem

        monkeypatch.setattr(control.stop, "callback", fail)
        assert run(["stop", "--study", "x"]) == 1
    assert "zq" not in without_random_names(capsys.readouterr().err + stored(tmp_path))


@pytest.mark.parametrize(
    "refused", ["sqlite:///x.db", "nonsense", "postgresql://h", "postgresql://me:zq1@h:x/db"], ids=range(4)
)
def test_refused_url_shows_an_example(refused: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--study", "x", "--storage", refused]) == 2
    printed = capsys.readouterr().err
    assert EXAMPLE in printed
    assert "zq" not in without_random_names(printed)


def test_example_is_shown_even_with_its_own_password(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://user:password@h:x/db"
    assert run(["status", "--study", "x", "--storage", url]) == 2
    assert EXAMPLE in capsys.readouterr().err


def test_doctor_hides_password(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.opening.ANSWER_SECONDS", 0.0)
    assert run(["doctor", "--storage", url]) == 1
    captured = capsys.readouterr()
    assert "fail  storage" in captured.out
    assert "zq" not in captured.out + captured.err


def test_urls_of_these_tests_are_valid() -> None:
    """Users may type these passwords, except those with an @."""
    for password in PASSWORDS:
        if "@" not in password:
            parse_url(f"postgresql://me:{password}@127.0.0.1:9/db")
