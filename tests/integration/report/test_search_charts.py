"""Charts and tables of a search: added trials, importances, curves of training and validation."""

from __future__ import annotations

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from hpo.document.document import Figure
from hpo.report.findings import Findings
from hpo.report.study_report import build_report
from hpo.study.history import read_history
from storage.engine import Database
from tests.integration.report.made import files, report_text, trained
from tests.integration.report.task_rows import complete, study
from tests.integration.rows import SPACE, StudyRows
from tests.specs import spec

pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]


def test_imported_trials_are_listed_with_their_values(database: Database) -> None:
    rows = study(database, "val_accuracy")
    for state, value, reports in (
        (TrialState.COMPLETE, 0.9, {}),
        (TrialState.PRUNED, None, {1: 0.25, 2: 0.375}),
        (TrialState.PRUNED, None, {}),
    ):
        rows.study.add_trial(
            create_trial(
                state=state,
                value=value,
                params={"learning_rate": 0.01},
                distributions=SPACE,
                intermediate_values=reports,
            )
        )
    found = files(rows)
    text = report_text(found)
    assert "| 0 | added | 0.9000 |" in text
    assert "| 1 | pruned | 0.3750 |" in text
    assert "pictures/history.png" in found
    assert [line.split(",")[:3] for line in found["trials.csv"].decode().splitlines()[1:]] == [
        ["0", "added", "0.9"],
        ["1", "pruned", "0.375"],
    ]


def test_importance_without_a_significant_effect_is_grey(database: Database) -> None:
    space = {"learning_rate": FloatDistribution(0.0, 1.0), "noise": FloatDistribution(0.0, 1.0)}
    options = {"objective": "mine", "metric": "val_accuracy", "direction": "maximize", "epochs": 1}
    rows = StudyRows(database, spec=spec(space, **options))
    for index in range(30):
        place = index / 30
        params = {"learning_rate": place, "noise": index * 11 % 30 / 30}
        trained(rows, 0.9 - (place - 0.5) ** 2 + 0.001 * (index % 3), params=params)
    history = read_history(database, rows.name)
    findings = Findings(history)
    document = build_report(history, findings)
    [bars] = next(figure for figure in document.figures() if figure.key == "importance").panels
    clear = {effect.parameter for effect in findings.effects if effect.stands_out}
    assert clear == {"learning_rate"}
    from hpo.document.charts import BLUE, GREY

    assert dict(zip(bars.names, bars.colours, strict=True)) == {"learning_rate": BLUE, "noise": GREY}


def test_training_and_validation_share_a_chart(database: Database) -> None:
    rows = study(database, "val_accuracy")
    complete(
        rows,
        {"val_accuracy": 0.9, "accuracy": 0.95, "loss": "nan", "val_loss": 0.3, "rate": 1.0},
        "val_accuracy",
    )
    history = read_history(database, "demo")
    figures = {figure.key: figure for figure in build_report(history, Findings(history)).figures()}
    panels = figures["best-trial"].panels
    assert [(panel.title, [one.name for one in panel.series]) for panel in panels] == [
        ("loss", ["training", "validation"]),
        ("accuracy", ["training", "validation"]),
    ]
    assert isinstance(figures["best-trial"], Figure)
