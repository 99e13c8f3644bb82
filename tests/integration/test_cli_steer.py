"""Commands of `hpo` that steer and name studies, from the command line to their output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from hpo.cli.main import run
from storage.engine import Database
from tests.integration.stores import StoredStudy

Hpo = Callable[..., tuple[int, str]]


@pytest.fixture
def hpo(
    storage_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Hpo:
    """Return a function that runs a command and returns its exit code and the one line that it prints."""
    monkeypatch.setenv("HPO_STORAGE", storage_url)
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HPO_RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.delenv("HPO_STUDY", raising=False)

    def call(*command: str) -> tuple[int, str]:
        code = run(command)
        captured = capsys.readouterr()
        return code, (captured.out + captured.err).rstrip("\n")

    return call


def test_study_is_steered(hpo: Hpo, database: Database, tmp_path: Path) -> None:
    StoredStudy(database)
    other = optuna.create_study(study_name="o", storage=f"sqlite:///{tmp_path / 'o.db'}")
    other.add_trial(create_trial(params={"x": 0.5}, distributions={"x": FloatDistribution(0, 1)}, value=0.5))
    assert hpo("enqueue", "--study", "s", "--param", "x=1e-1") == (0, "trial 0 of s is enqueued: x=0.1")
    assert hpo("enqueue", "--study", "s", "-p", "x=0.1") == (0, "trial 0 of s is enqueued already: x=0.1")
    code, printed = hpo("enqueue", "--study", "s", "--param", "y=1")
    assert (code, "unknown parameter 'y'" in printed, printed.count("\n")) == (2, True, 0)
    assert hpo("import", "--study", "s", "--from", f"sqlite:///{tmp_path / 'o.db'}") == (
        0,
        "added 1 result to s (0 known already, 0 neither complete nor pruned): hpo trials --study s lists them",
    )
    for wrong in ((), ("f.csv", "--from", "o.db"), ("f.csv", "--from-study", "o")):
        assert hpo("import", "--study", "s", *wrong)[0] == 2
    assert hpo("copy", "--study", "s", "--as", "t", "--history")[1].startswith(
        "copied s to t with 1 trial to train and 1 result as history"
    )
    assert hpo("copy", "--study", "s", "--as", "t")[0] == 1
    (tmp_path / "results" / "s").mkdir(parents=True)
    assert hpo("rename", "--study", "s", "--as", "u") == (
        0,
        f"renamed s to u: continue it with hpo launch --study u\nits files are now in {tmp_path / 'results' / 'u'}",
    )
    assert hpo("tag", "--study", "u", "night", "cheap") == (0, "u has the tags night, cheap")
    assert hpo("note", "--study", "u", "the good one") == (0, "u is noted")
    code, printed = hpo("status", "--study", "u")
    assert code == 0
    for line in (
        "0 running, 1 waiting (1 enqueued), 0 failed",
        "tags       night, cheap",
        "note       the good one",
    ):
        assert line in printed
    assert [study["name"] for study in json.loads(hpo("ls", "--tag", "night", "--json")[1])] == ["u"]
    assert hpo("ls")[1].splitlines()[0].endswith("  tags")
    assert hpo("ls", "--tag", "day") == (0, "no study has the tag day: hpo ls lists all")
    assert hpo("tag", "--study", "u", "night", "cheap", "--remove") == (0, "u has no tag now")
