"""Errors become one line on stderr and an exit code, in one place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hpo.cli import main as exported
from hpo.cli.commands.run import control
from hpo.cli.main import cli, run
from hpo.errors import (
    NoResultError,
    ObjectiveFailedError,
    StorageUnreachableError,
    StorageUrlError,
    UnknownStudyError,
)


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Makes `hpo stop` raise a given error."""
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    monkeypatch.delenv("HPO_DEBUG", raising=False)

    def prepare(error: BaseException) -> list[str]:
        def fail(**_: object) -> None:
            raise error

        monkeypatch.setattr(control.stop, "callback", fail)
        return ["stop", "--study", "x"]

    return prepare


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownStudyError("there is no study 'x'"), 2),
        (StorageUrlError("sqlite:// is refused"), 2),
        (NoResultError("no trial is complete"), 1),
        (StorageUnreachableError("two\nlines"), 1),
        (click.BadParameter("wrong"), 2),
        (click.ClickException("wrong"), 1),
        (click.Abort(), 1),
    ],
)
def test_error_is_one_line_with_its_exit_code(raising, capsys, error: Exception, code: int) -> None:
    assert run(raising(error)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hpo: ")
    assert captured.err.count("\n") == 1


def test_error_without_message_prints_docstring_of_its_class(raising, capsys) -> None:
    assert run(raising(StorageUnreachableError())) == 1
    assert capsys.readouterr().err == "hpo: The database does not answer.\n"


def test_failed_objective_prints_traceback_once(raising, capsys) -> None:
    assert run(raising(ObjectiveFailedError("the first 3 trials failed", "Traceback\n  boom\n"))) == 1
    assert capsys.readouterr().err == "Traceback\n  boom\nhpo: the first 3 trials failed\n"


def test_interrupt_exits_with_130(raising) -> None:
    assert run(raising(KeyboardInterrupt())) == 130


def test_bug_writes_traceback_to_a_file(raising, capsys, tmp_path: Path) -> None:
    assert run(raising(ZeroDivisionError("by zero"))) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("hpo: ZeroDivisionError: by zero — this is a bug")
    assert printed.count("\n") == 1
    (file,) = (tmp_path / "crashes").iterdir()
    assert str(file) in printed
    assert "Traceback (most recent call last)" in file.read_text()


def test_deleted_working_directory_is_reported(raising, monkeypatch, tmp_path, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run(raising(FileNotFoundError(2, "No such file or directory"))) == 1
    assert capsys.readouterr().err == "hpo: the working directory is deleted: change to another one\n"


def test_bug_prints_traceback_with_hpo_debug(raising, capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HPO_DEBUG", "1")
    assert run(raising(ZeroDivisionError("by zero"))) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert not (tmp_path / "crashes").exists()


def test_bug_is_reported_if_home_is_not_writable(raising, capsys, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "other"))
    assert run(raising(ZeroDivisionError("by zero"))) == 1
    assert str(tmp_path / "other") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["lanch"], "did you mean launch or plan?"),
        (["sta"], "did you mean status"),
        (["launch", "--study", "x", "--sampler", "tpee"], "did you mean tpe?"),
        (["launch", "--study", "x", "--pruner", "hyper"], "did you mean hyperband?"),
        (["launch", "--study", "x", "--trails", "3"], "--trials"),
        (["data", "fetsh", "mnist"], "fetch"),
    ],
)
def test_wrong_name_suggests_nearest_one(capsys, arguments: list[str], hint: str) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert hint in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["launch"],
        ["launch", "--study", "x", "--timeout", "soon"],
        ["trials", "--study", "x", "--csv", "--json"],
        ["--nonsense"],
    ],
)
def test_wrong_usage_exits_with_2(capsys, monkeypatch, arguments: list[str]) -> None:
    monkeypatch.delenv("HPO_STUDY", raising=False)
    assert run(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("group", [[], ["data"]])
def test_group_without_a_command_prints_its_help(capsys, group: list[str]) -> None:
    assert run(group) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"Usage: {' '.join(['hpo', *group])} [OPTIONS] COMMAND [ARGS]..."
    assert "  -h, --help" in " ".join(line[:12] for line in lines)


def test_exit_code_of_command_is_kept(monkeypatch) -> None:
    monkeypatch.setattr(control.stop, "callback", lambda **_: 130)
    assert run(["stop", "--study", "x"]) == 130
    monkeypatch.setattr(control.stop, "callback", lambda **_: None)
    assert run(["stop", "--study", "x"]) == 0


def test_main_exits_with_the_code() -> None:
    with pytest.raises(SystemExit) as stopped:
        exported(["nonsense"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "closed"),
    [
        (["launch", "--help"], ["stdout"]),
        (["--help"], ["stdout", "stderr"]),
        (["nonsense"], ["stdout", "stderr"]),
    ],
)
def test_closed_streams_are_not_an_error(arguments: list[str], closed: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stderr": subprocess.PIPE} | dict.fromkeys(closed, writing)
    done = subprocess.run([sys.executable, "-m", "hpo.cli", *arguments], **streams, check=False)
    os.close(writing)
    assert not done.stderr
    assert done.returncode == 141


def test_interrupt_during_import_prints_nothing(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    done = subprocess.run(
        [sys.executable, "-c", "from hpo.cli import main; main()"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x.json", "--format", "yaml"], "whose suffix means json"),
        (["-o", ""], "--output is empty: name a file"),
    ],
)
def test_export_checks_arguments_before_it_opens_a_database(
    capsys, monkeypatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["export", "--study", "x", "--storage", "nonsense://", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_exits_with_0(capsys) -> None:
    assert run(["--help"]) == 0
    assert capsys.readouterr().err == ""
    assert cli.name == "cli"


@pytest.mark.parametrize(
    ("redirection", "message"),
    [
        (">/dev/full", "cannot write the output (No space left on device): redirect it elsewhere"),
        (">&-", "standard output is closed: redirect it to a file or to /dev/null"),
        (">&- <&-", "standard output is closed: redirect it to a file or to /dev/null"),
        (">/dev/full 2>&-", ""),
    ],
)
def test_output_that_cannot_be_written_is_an_error(redirection: str, message: str) -> None:
    if "full" in redirection and not Path("/dev/full").exists():
        pytest.skip("a device that is full (Linux)")
    command = f"exec '{sys.executable}' -m hpo.cli objectives {redirection}"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (f"hpo: {message}\n" if message else "")


def test_crash_file_is_private_and_follows_no_link(raising, capsys, tmp_path: Path) -> None:
    for _ in range(2):
        assert run(raising(ZeroDivisionError("by zero"))) == 1
    first, second = (tmp_path / "crashes").iterdir()
    assert first.stat().st_mode & 0o777 == 0o600
    assert first.parent.stat().st_mode & 0o777 == 0o700
    assert f"{os.getpid()}.txt" not in first.name + second.name
    assert str(first) in capsys.readouterr().err


def test_crash_with_an_unusable_home_setting_is_reported(
    raising, capsys, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HPO_HOME", "~nosuchuser")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert run(raising(ZeroDivisionError("by zero"))) == 1
    assert f"is in {tmp_path}/hpo-" in capsys.readouterr().err
