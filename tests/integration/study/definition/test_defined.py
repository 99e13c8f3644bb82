"""Objectives that were defined in Python: their folders, from the first launch to the study's end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpo.cli.main import run
from hpo.errors import StudyConflictError, UnknownObjectiveError
from hpo.python.definition import Definition, define, written
from hpo.python.study import Report, Study
from hpo.settings import Settings
from hpo.study.definition.objective_file import check_objective_file
from hpo.study.definition.versions import CODE
from hpo.study.folders import is_defined, remove_defined
from objectives import code
from storage.engine import Database
from tests.integration.rows import StudyRows
from tests.specs import spec


@pytest.fixture
def settings(tmp_path: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in (
        ("HOME", tmp_path / "home"),
        ("STORAGE", storage_url),
        ("RESULTS_DIR", tmp_path / "results"),
    ):
        monkeypatch.setenv(f"HPO_{name}", str(value))
    return Settings.from_environment()


def definition(value: float = 1.0) -> Definition:
    return define(lambda _: value)


def created(database: Database, settings: Settings, name: str = "s", **options: Any) -> tuple[StudyRows, str]:
    """Return the rows of a study with a defined objective, and its reference."""
    with written(database, name, definition(), settings) as reference:
        rows = StudyRows(database, name, spec=spec(objective=reference, **options))
    return rows, reference


def folders(settings: Settings) -> list[str]:
    return [path.name.rpartition("-")[0] for path in (settings.home / "objectives").iterdir()]


def test_folder_stays_if_the_study_was_created(database: Database, settings: Settings) -> None:
    with written(database, "refused", definition(), settings):
        pass
    assert folders(settings) == []
    _, reference = created(database, settings)
    assert folders(settings) == ["s"]
    assert is_defined(reference, settings.home)
    with written(database, "s", definition(2.0), settings) as again:
        assert again == reference


def test_launches_that_create_a_study_at_once_share_no_other_code(
    database: Database, settings: Settings
) -> None:
    with written(database, "s", definition(), settings) as first:
        digest = code.digest(first.rpartition(":")[0])
        with (
            written(database, "s", definition(2.0), settings) as second,
            written(database, "s", definition(), settings) as same,
        ):
            assert second != first == same
        StudyRows(database, "s", spec=spec(objective=first)).trial()
    assert code.digest(first.rpartition(":")[0]) == digest
    assert folders(settings) == ["s"]


def test_renamed_study_keeps_its_folder(database: Database, settings: Settings) -> None:
    rows, reference = created(database, settings)
    rows.set(name="renamed")
    with written(database, "renamed", definition(), settings) as again:
        assert again == reference


def test_definition_is_not_changed_while_it_is_trained(database: Database, settings: Settings) -> None:
    rows, reference = created(database, settings)
    module = reference.rpartition(":")[0]
    digest = code.digest(module)
    rows.trial()
    rows.agent(versions={CODE: digest})
    refused = pytest.raises(StudyConflictError, match="the objective's code differs from that which 1 agent")
    with refused, written(database, "s", definition(2.0), settings):
        pass
    assert code.digest(module) == digest
    with written(database, "s", definition(), settings):
        pass
    with written(database, "s", definition(2.0), settings, any_code=True):
        assert code.digest(module) != digest


def test_study_of_another_objective_is_refused(database: Database, settings: Settings) -> None:
    rows = StudyRows(database, "s", spec=spec(objective="digits-cnn"))
    rows.trial("complete", 1.0)
    refused = pytest.raises(
        StudyConflictError, match="was created with the objective digits-cnn, not with objective"
    )
    with refused, written(database, "s", definition(), settings):
        pass
    assert not (settings.home / "objectives").exists()


def test_delete_removes_the_folder_with_the_last_study(
    database: Database, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    _, reference = created(database, settings)
    StudyRows(database, "copy", spec=spec(objective=reference))
    assert run(["delete", "--study", "s", "--yes"]) == 0
    assert folders(settings) == ["s"]
    assert run(["delete", "--study", "copy", "--yes"]) == 0
    assert folders(settings) == []
    assert "deleted study copy" in capsys.readouterr().out


@pytest.mark.parametrize(
    "reference", ["{home}/objectives/../objective.py:f", "/x/objectives/s-1/objective.py:f", ""]
)
def test_only_own_folders_are_removed(
    reference: str, database: Database, settings: Settings, tmp_path: Path
) -> None:
    settings.make_home()
    (settings.home / "objectives").mkdir()
    remove_defined(database, reference.format(home=settings.home), settings.home)
    assert (settings.home / "objectives").exists()
    assert tmp_path.exists()


def test_host_without_the_folder_is_refused_in_one_line() -> None:
    refused = (
        "was defined in Python, and its folder /x/objectives/s-1 is not on this host: copy it from the host"
    )
    with pytest.raises(UnknownObjectiveError, match=refused):
        check_objective_file("/x/objectives/s-1/objective.py:objective", "s")


def test_study_exports_plots_and_reports(database: Database, settings: Settings, tmp_path: Path) -> None:
    rows = StudyRows(database, "s")
    for number in range(3):
        reservation = rows.trial("complete", 0.5 + number / 10, completed=1)
        rows.epoch(reservation, rows.attempt(reservation, rows.agent()), 1, {"val_accuracy": 0.5})
    study = Study("s", settings)
    assert (study.best.number, study.best.value) == (2, 0.7)
    assert len(study.trials) == 3
    report = study.report(tmp_path / "page")
    assert isinstance(report, Report)
    assert Path(report) == tmp_path / "page" / "report.html"
    assert report._repr_html_().startswith('<iframe srcdoc="&lt;!')
    assert study.export(tmp_path / "best.json") == (tmp_path / "best.json").read_text()
    assert study.export(format="yaml", trial=0).startswith("# trial 0")
    assert {"plot_slice", "best", "results"} <= set(dir(study))
    assert "s3cret" not in repr(
        Study("s", Settings.from_environment({"HPO_STORAGE": "postgresql://u:s3cret@h/d"}))
    )
    rows.trial("complete", 0.9, params={"kind": {"__object__": "hpo.settings.Settings"}})
    assert study.best.params == {"kind": Settings}


def test_trials_sort_by_value_where_none_has_one(database: Database, settings: Settings) -> None:
    rows = StudyRows(database, "s")
    for _ in range(2):
        study = Study("s", settings)
        assert study.trials.query("state == 'complete'").nlargest(5, "value").empty
        rows.trial("bug")
