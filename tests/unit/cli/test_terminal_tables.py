"""Tables of `hpo ls` and `hpo trials` on a terminal: no word is broken at any width."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from hpo.cli import options, output
from hpo.cli.main import run
from hpo.study.catalog import StudySummary
from hpo.study.results.trials import TrialRow

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
PARAMS = {"batch_size": 128, "optimizer": "adam", "learning_rate": 0.00123, "weight_decay": 0.0001}


def trial(
    number: int, state: str, why: str, value: float | None, *, epochs: int, seconds: float, attempts: int = 1
) -> TrialRow:
    return TrialRow(
        number=number,
        state=state,
        why=why,
        value=value,
        epochs=epochs,
        seconds=seconds,
        attempts=attempts,
        params=PARAMS,
        created_at=NOW,
    )


ROWS = [
    trial(0, "complete", "", 0.9123, epochs=12, seconds=123.4),
    trial(1, "pruned", "pruned after 3 epochs", 0.1, epochs=3, seconds=12.0),
    trial(123, "failed", "ValueError: bad shape", None, epochs=0, seconds=1.0, attempts=3),
]


def study(name: str, objective: str) -> StudySummary:
    return StudySummary(
        name=name,
        objective=objective,
        state="finished",
        finished=12,
        budget=50,
        failed=1,
        running=0,
        metric="val_accuracy",
        best_value=0.9731,
        agents=0,
        created_at=NOW,
    )


STUDIES = [study("digits-cnn", "digits-cnn"), study("mine", "/home/someone/far/away/my_pets.py:PetsCNN")]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Returns the output of a command on a terminal of a given width."""
    monkeypatch.setattr(options, "opened", lambda _: nullcontext(None))
    monkeypatch.setattr("hpo.study.results.trials.trial_rows", lambda *_: ROWS)
    monkeypatch.setattr("hpo.study.catalog.list_studies", lambda *_: STUDIES)
    monkeypatch.setattr(output, "on_terminal", lambda: True)

    def call(command: str, width: int) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        assert run(command.split()) == 0
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= width
        return out

    return call


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_trials_fit_the_terminal(seen, width: int) -> None:
    out = seen("trials --study demo", width)
    words = out.split()
    assert {"number", "state", "value", "complete", "failed", "0.9123"} <= set(words)
    assert {word for row in ROWS for word in row.why.split()} <= set(words)
    if width == 200:
        assert "learning_rate" in out.splitlines()[0].split()
    else:
        assert {"params", *(f"{name}={value}" for name, value in PARAMS.items())} <= set(words)
    assert "…" not in out


@pytest.mark.parametrize("width", [60, 80, 200])
def test_ls_fits_the_terminal(seen, width: int) -> None:
    out = seen("ls", width)
    assert {"digits-cnn", "mine", "finished", "12/50", "0.9731"} <= set(out.split())
    assert ("my_pets.py:PetsCNN" in out.split()) == (width >= 80)
    assert ("val_accuracy" in out.split()) == (width == 200)
    assert "…" not in out
    assert len(out.strip().splitlines()) == 4


def test_long_facts_continue_below_their_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = [("trials", "3 of 10 finished, 1 failed"), ("next", "hpo best --study demo, or hpo dashboard")]
    assert output.fact_lines(facts) == [
        "trials  3 of 10 finished, 1 failed",
        "next    hpo best --study demo, or hpo dashboard",
    ]
    monkeypatch.setenv("COLUMNS", "34")
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    assert output.fact_lines(facts) == [
        "trials  3 of 10 finished, 1 failed",
        "next    hpo best --study demo, or",
        "        hpo dashboard",
    ]


def test_errors_are_broken_between_words(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert run(["status", "--study", "x", "--storage", "sqlite:///x.db"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 1
    # The example of a URL is longer than a line.
    assert [line for line in lines if len(line) > 40 and " " in line.strip()] == []
