"""Commands of `hpo` that read, from the command line to their output."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
from pathlib import Path

import pytest

from hpo.cli.main import run
from hpo.export.config_file import read_config
from hpo.study.history import read_history
from storage.engine import Database
from tests.integration.rows import StudyRows


@pytest.fixture
def hpo(
    storage_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """Return a function that runs a command and returns its exit code, stdout and stderr."""
    monkeypatch.setenv("HPO_STORAGE", storage_url)
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HPO_STUDY", raising=False)

    def call(command: str) -> tuple[int, str, str]:
        code = run(shlex.split(command))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def rows(database: Database) -> StudyRows:
    rows = StudyRows(database)
    rows.trial("complete", 0.91234567, completed=5)
    rows.trial("diverged", math.nan, completed=1)
    rows.attempt(rows.trial(completed=2), rows.agent())
    return rows


def test_ls_without_studies(hpo) -> None:
    assert hpo("ls")[:2] == (0, "no study yet; create one: hpo launch --study digits-cnn --trials 12\n")
    assert json.loads(hpo("ls --json")[1]) == []
    assert "has no study yet" in hpo("status --study demo")[2]


@pytest.mark.usefixtures("rows")
def test_unknown_study_suggests_nearest_one(hpo, database: Database) -> None:
    for command in ("status", "trials", "best", "export", "pause", "stop", "delete --yes"):
        code, out, err = hpo(f"{command} --study dmo")
        assert (code, out) == (2, ""), command
        assert err.startswith(f"hpo: no study 'dmo' in {database.shown}"), command
        assert re.search(r"did you mean demo\?.*hpo ls", err), command


@pytest.mark.usefixtures("rows")
def test_ls_lists_studies(hpo) -> None:
    lines = hpo("ls")[1].splitlines()
    assert lines[0].split()[:3] == ["study", "condition", "finished"]
    assert " ".join(lines[1].split()[:8]) == "demo running 2/10 0 1 0.9123 val_accuracy digits-cnn"
    (study,) = json.loads(hpo("ls --json")[1])
    assert study["best_value"] == 0.91234567


@pytest.mark.usefixtures("rows")
def test_status_shows_counts_and_best_trial(hpo) -> None:
    code, out, _ = hpo("status --study demo")
    assert code == 0
    assert "study      demo: running" in out
    assert "2 of 10 finished, 1 running, 0 waiting, 0 failed (1 complete, 1 diverged)" in out
    assert "best       0.9123 in trial 0: learning_rate=0.01" in out
    assert json.loads(hpo("status --study demo --json")[1])["slots"][0]["epoch"] == 2


def test_watch_ends_when_the_study_is_finished(hpo, rows) -> None:
    rows.set(budget=2)
    rows.trial("complete", 0.5)
    rows.database.transaction(
        lambda connection: connection.exec_driver_sql("UPDATE hpo.attempts SET ended_at = now()")
    )
    code, out, _ = hpo("status --study demo --watch --json --every 0.1s")
    assert code == 0
    assert json.loads(out)["condition"] == "finished"


@pytest.mark.usefixtures("rows")
def test_trials_are_printed_as_table_csv_and_json(hpo) -> None:
    lines = hpo("trials --study demo")[1].splitlines()
    columns = "number state value epochs seconds attempts learning_rate why"
    assert " ".join(lines[0].split()) == columns
    assert lines[2].split()[:3] == ["1", "diverged", "nan"]
    table = list(csv.DictReader(io.StringIO(hpo("trials --study demo --csv")[1])))
    assert table[0]["value"] == "0.91234567"
    assert [line["state"] for line in table] == ["complete", "diverged", "running"]
    assert table[2]["why"] == ""
    assert json.loads(hpo("trials --study demo --json")[1])[1]["value"] == "nan"


@pytest.mark.usefixtures("rows")
def test_best_shows_best_trial(hpo, database: Database) -> None:
    assert "val_accuracy   0.9123 (maximized)" in hpo("best --study demo")[1]
    assert json.loads(hpo("best --study demo --json")[1])["number"] == 0
    StudyRows(database, "empty")
    code, _, err = hpo("best --study empty")
    assert code == 1
    assert err.startswith("hpo: study 'empty' has no complete trial")


def test_best_shows_speed_apart_from_metrics(hpo, database: Database) -> None:
    rows = StudyRows(database)
    trial = rows.trial("complete", 0.9, completed=1)
    attempt = rows.attempt(trial, rows.agent(), ended=1.0, completed=1, outcome="complete")
    rows.epoch(trial, attempt, 1, {"val_accuracy": 0.9, "loss": 0.5, "images_per_second": 1234.5})
    out = hpo("best --study demo")[1]
    assert re.search(r"^speed +1,23[45] images/s$", out, re.MULTILINE)
    assert "after its last epoch: loss=0.5000\n" in out
    # As before, for scripts.
    recorded = {"val_accuracy": 0.9, "loss": 0.5, "images_per_second": 1234.5}
    assert json.loads(hpo("best --study demo --json")[1])["metrics"] == recorded


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("command", ["export", "ablate --dry-run"])
@pytest.mark.parametrize(
    ("trial", "reason"),
    [
        (1, "trial 1 of study 'demo' has no result (diverged after epoch 1)"),
        (2, "trial 2 of study 'demo' has no result (running)"),
        (3, "trial 3 of study 'demo' has no result (pruned after epoch 3)"),
        (4, "trial 4 of study 'demo' has no result (its value is inf)"),
    ],
)
def test_trial_without_a_result_is_refused_with_its_state(hpo, rows, command, trial, reason) -> None:
    rows.trial("pruned", 0.5, completed=3)
    rows.trial("complete", math.inf, completed=5)
    code, _, err = hpo(f"{command} --study demo --trial {trial}")
    assert code == 1
    choice = "choose a complete trial, such as the best, 0 (hpo trials --study demo lists them)"
    assert err == f"hpo: {reason}: {choice}\n"


@pytest.mark.usefixtures("rows")
def test_trial_that_does_not_exist_is_refused_with_those_that_do(hpo, database: Database) -> None:
    expected = "hpo: study 'demo' has no trial 99, its trials are 0-2: hpo trials --study demo lists them\n"
    assert hpo("export --study demo --trial 99")[::2] == (1, expected)
    StudyRows(database, "empty")
    assert "has no trial 0, it has none yet" in hpo("export --study empty --trial 0")[2]
    StudyRows(database, "begun").trial("pruned", 0.5, completed=3)
    assert "none is complete yet" in hpo("export --study begun --trial 0")[2]


@pytest.mark.usefixtures("rows")
def test_export_writes_every_format(hpo, tmp_path: Path) -> None:
    code, out, _ = hpo("export --study demo")
    assert code == 0
    assert "objective: digits-cnn" in out
    for suffix in ("yaml", "json", "toml"):
        file = tmp_path / "new" / f"best.{suffix}"
        assert hpo(f"export --study demo -o '{file}'")[:2] == (0, f"wrote {file}\n")
        config = read_config(file)
        assert (config.study, config.trial, config.epochs, config.seed) == ("demo", 0, 5, 1)
        assert config.params == {"learning_rate": 0.01}
        assert config.data["validation_fraction"] == 0.1
        assert "data_dir" not in config.data
        # The trial has no attempt.
        assert (config.backend, config.precision, config.device, config.versions) == (None, None, {}, {})
    compile(hpo("export --study demo --format python")[1], "best.py", "exec")
    code, _, err = hpo("export --study demo -o /proc/none/best.yaml")
    assert code == 1
    assert err.startswith("hpo: /proc/none/best.yaml cannot be written")


def test_export_names_device_that_trained_the_trial(hpo, database: Database, tmp_path: Path) -> None:
    rows = StudyRows(database)
    reservation_id = rows.trial("complete", 0.9, completed=5)
    here = {"keras": "3.15.1", "backend": "tensorflow", "precision": "float32"}
    there = {"keras": "3.10.0", "backend": "jax", "precision": "bfloat16"}
    # Started here, trained to its end there, reported from here: its checkpoint had no epoch left.
    for versions, device, outcome, completed in (
        (here, "cores 0-1", "lost", 2),
        (there, "gpu 1 (1/2, 68.9 GiB), cores 0-1,6", "lost", 3),
        (here, "core 0", "complete", 0),
    ):
        agent = rows.agent(versions=versions)
        rows.attempt(reservation_id, agent, ended=1.0, outcome=outcome, completed=completed, device=device)
    other = rows.trial("complete", 0.8, completed=5)
    rows.attempt(other, rows.agent(), ended=1.0, outcome="complete", completed=5)
    rows.attempt(rows.trial("bug", completed=5), rows.agent(versions=here), outcome="bug", completed=5)
    file = tmp_path / "best.toml"
    assert hpo(f"export --study demo -o '{file}'")[0] == 0
    config = read_config(file)
    assert (config.backend, config.precision, config.versions) == ("jax", "bfloat16", {"keras": "3.10.0"})
    assert config.device == {"cores": 3, "gpu": "1 (1/2, 68.9 GiB)"}
    # An agent of an earlier version recorded less.
    assert hpo(f"export --study demo --trial 1 -o '{file}'")[0] == 0
    assert (read_config(file).precision, read_config(file).device) == (None, {})


@pytest.mark.usefixtures("rows")
def test_pause_resume_and_stop_report_the_new_state(hpo) -> None:
    for command, printed in (
        ("pause", "demo is paused. Its agents hold their trials. `hpo resume` continues it."),
        ("pause", "demo is already paused. `hpo resume` continues it."),
        ("status", "demo: pausing"),
        ("resume", "demo is set to run. Its agents continue."),
        ("stop", "demo is stopped. Its agents checkpoint their trials and end."),
    ):
        assert printed in hpo(f"{command} --study demo")[1]


@pytest.mark.usefixtures("rows")
def test_delete_asks_first(hpo, monkeypatch) -> None:
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    assert hpo("delete --study demo --force")[:2] == (1, "nothing was deleted\n")
    # A running study is refused before the question.
    monkeypatch.setattr("click.confirm", lambda *_, **__: pytest.fail("confirmation requested"))
    code, _, err = hpo("delete --study demo")
    assert code == 1
    assert re.search("1 trial running.*hpo stop --study demo", err)
    assert hpo("delete --study demo --yes --force")[:2] == (0, "deleted study demo with 3 trials\n")


@pytest.mark.usefixtures("rows")
def test_delete_without_stdin_requires_yes(hpo, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, _, err = hpo("delete --study demo --force")
    assert code == 1
    assert "--yes" in err


def test_doctor_exits_with_1_if_a_check_fails(hpo) -> None:
    code, out, _ = hpo("doctor --json")
    checks = {check["name"]: check for check in json.loads(out)}
    assert checks["storage"]["result"] == "ok"
    assert checks["data digits"]["result"] == "ok"
    assert {"versions", "accelerators", "cores", "memory", "disk home", "fork"} <= set(checks)
    assert code == (1 if any(check["result"] == "fail" for check in checks.values()) else 0)


def test_completion_starts_no_embedded_database(hpo, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HPO_STORAGE")
    monkeypatch.setenv("_HPO_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "hpo status --study d")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert hpo("")[1].strip() == ""
    assert not (tmp_path / "home").exists()


@pytest.fixture
def front(database: Database) -> StudyRows:
    """A study of validation accuracy against the number of parameters, and a bound of a metric."""
    rows = StudyRows(database)
    stored = read_history(database, rows.name).study.spec_json
    rows.set(spec={**stored, "also_minimize": "parameters", "constraints": ["loss<=9"]})
    rows.measured(0.9, parameters=2000.0, loss=0.5)
    rows.measured(0.8, parameters=3000.0, loss=0.5)
    rows.measured(0.7, parameters=100.0, loss=0.25)
    rows.measured(0.95, "infeasible", parameters=1.0, loss=9.5)
    rows.measured(0.5, "rejected")
    return rows


@pytest.mark.usefixtures("front")
def test_front_shows_trials_of_which_none_is_better_in_both(hpo) -> None:
    code, out, _ = hpo("best --study demo --front")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["trial", "val_accuracy", "parameters", "learning_rate"]
    assert [line.split()[:3] for line in lines[1:3]] == [["0", "0.9000", "2000"], ["2", "0.7000", "100"]]
    assert lines[3].startswith("next: hpo retrain --study demo --trial N or hpo export")
    found = json.loads(hpo("best --study demo --front --json")[1])
    assert [(trial["number"], trial["figures"]["parameters"]) for trial in found] == [(0, 2000.0), (2, 100.0)]
    assert "trial          0" in hpo("best --study demo")[1], "the best in the metric"


@pytest.mark.usefixtures("front")
def test_figures_are_columns_of_trials_and_bounds_are_in_the_status(hpo) -> None:
    lines = hpo("trials --study demo")[1].splitlines()
    assert lines[0].split()[6:9] == ["loss", "parameters", "learning_rate"]
    assert lines[5].split()[6:8] == ["-", "-"]
    assert lines[5].endswith("not trained")
    table = list(csv.DictReader(io.StringIO(hpo("trials --study demo --csv")[1])))
    assert (table[0]["parameters"], table[4]["parameters"]) == ("2000.0", "")
    status = hpo("status --study demo")[1]
    assert "(3 complete, 1 infeasible, 1 rejected)" in status
    assert "4 of 10 finished" in status
    assert "bounds     loss<=9\n" in status
    assert "front      parameters is minimized too: hpo best --study demo --front\n" in status
    found = json.loads(hpo("status --study demo --json")[1])
    assert (found["constraints"], found["also_minimize"]) == (["loss<=9"], "parameters")


@pytest.mark.usefixtures("rows")
def test_study_with_one_objective_has_no_front(hpo) -> None:
    code, out, err = hpo("best --study demo --front")
    assert (code, out) == (2, "")
    assert "has no front, because it optimizes val_accuracy alone: launch another" in err
