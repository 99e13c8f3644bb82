"""The report states the gap from validation to test, gains from fresh seeds, and each task in its own terms."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from hpo.analysis.figures import METRICS as KNOWN
from hpo.analysis.figures import bounds_of
from hpo.analysis.records import drawable
from hpo.analysis.statistics import summarize
from hpo.document.document import Figure
from hpo.document.markdown import render_markdown
from hpo.document.parts import LEFT_OUT
from hpo.formatting import json_safe
from hpo.report.compare_sections import build_document
from hpo.report.findings import Findings
from hpo.report.study_comparison import StudyComparison, StudyResult
from hpo.report.study_report import build_report
from hpo.report.task_sections import task_sections
from hpo.study.history import read_history
from objectives.data_options import TaskName
from objectives.tasks.intervals import intervals
from objectives.tasks.metrics import METRICS, names_of
from objectives.tasks.table import TASKS
from storage.engine import Database
from tests.integration.report.made import candidates, files, report_text, trained
from tests.integration.rows import SPACE, StudyRows, add_retrain
from tests.specs import spec

pytestmark = [pytest.mark.usefixtures("complete_documents"), pytest.mark.xdist_group("report")]

DEFAULT = {"learning_rate": 0.05}
CURVE = {"x": [0.0, 0.1, 1.0], "y": [0.0, 0.9, 1.0]}


def study(database: Database, metric: str, direction: str = "maximize", name: str = "demo") -> StudyRows:
    options = {"objective": "mine", "metric": metric, "direction": direction, "epochs": 2}
    return StudyRows(database, name, spec=spec(SPACE, **options, first=(DEFAULT,)))


def complete(rows: StudyRows, metrics: dict[str, float], metric: str, **more: Any) -> None:
    reservation_id = rows.trial("complete", metrics[metric], completed=2, **more)
    data = {"data": "digits: 1,078 training and 1,359 validation examples, digest 0"}
    attempt = rows.attempt(reservation_id, rows.agent(ended=1.0, versions=data), ended=50.0, completed=2)
    for epoch in (1, 2):
        rows.epoch(reservation_id, attempt, epoch, metrics)


def retrained(rows: StudyRows, tested: dict[str, list[float]], records: dict[str, Any], **more: Any) -> None:
    """Insert a retrain of trial 0 with these test figures, one value for each seed."""
    seeds = range(len(next(iter(tested.values()))))
    runs = [
        {"seed": seed, "seconds": 1.0, "n_test": 200, "n_train": 900, **records}
        | {name: values[seed] for name, values in tested.items()}
        for seed in seeds
    ]
    summary = {name: summarize(values, bounds_of(name)).to_json() for name, values in tested.items()}
    add_retrain(rows, [0.5] * len(seeds), runs=runs, summary=summary, **{"source": "search", **more})


def document_text(rows: StudyRows) -> str:
    history = read_history(rows.database, rows.name)
    document = build_report(history, Findings(history))
    return render_markdown(document, "pictures").replace("\\", "")


def test_gap_is_between_the_trial_and_the_test_set_in_one_metric(database: Database) -> None:
    rows = study(database, "val_accuracy")
    complete(rows, {"val_accuracy": 0.95, "val_loss": 0.2}, "val_accuracy")
    retrained(rows, {"test_loss": [0.3, 0.4], "test_accuracy": [0.90, 0.92]}, {})
    text = document_text(rows)
    assert "**Test accuracy 0.9100 ± 0.0141 (95 % interval 0.7829 to 1.0000 over 2 seeds, 0.8622 to" in text
    assert (
        "On 1,359 validation images, its accuracy was 0.9500 (trial 0, a single run that was chosen in the search; 95 %"
        " interval over these images 0.9371 to 0.9604): 4.0 points better than on the test set." in text
    )


def test_gap_of_a_candidate_is_that_of_its_fresh_seeds(database: Database) -> None:
    rows = study(database, "val_loss", "minimize")
    complete(rows, {"val_loss": 0.1}, "val_loss")
    selection = {
        **candidates(({"learning_rate": 0.01}, [0.2, 0.22, 0.24], True), (DEFAULT, [0.3, 0.32, 0.34], False)),
        "metric": "val_loss",
    }
    retrained(rows, {"test_loss": [0.3, 0.3]}, {"n_valid": 77}, selection=selection)
    text = document_text(rows)
    assert "**Test loss 0.3000 ± 0.0000 (2 seeds, all equal): trial 0, retrained.**" in text
    assert (
        "On 77 validation images, its loss was 0.2200 (mean of 3 fresh seeds): 0.0800 better than on the test set."
        in text
    )
    assert (
        "val_loss on validation data 0.2200 instead of 0.3200, 0.1000 better (95 % interval 0.0547 to" in text
    )
    assert "trial 1: 0.3200 ± 0.0200 (in the search 0.9000) (the default configuration)" in text
    assert "significantly better than each of the others" in text


def test_gap_between_different_metrics_is_reported_as_unknown(database: Database) -> None:
    rows = study(database, "val_kappa")
    complete(rows, {"val_kappa": 0.8}, "val_kappa")
    retrained(rows, {"test_accuracy": [0.9]}, {})
    text = document_text(rows)
    assert "**Test accuracy 0.9000 (1 seed; 95 % interval 0.8506 to 0.9343 over 200 test images)" in text
    assert (
        "The search chose by val_kappa on 1,359 validation images, which is another metric than the test"
        in text
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.90, 0.91, 0.92], "the two are indistinguishable at 95 %"),
        ([0.70, 0.71, 0.72], "the difference exceeds seed noise"),
        # p = 0.04, which would not be below 0.05 if it were corrected for the third candidate.
        ([0.8855, 0.8955, 0.9055], "the difference exceeds seed noise"),
    ],
)
def test_gain_over_the_default_is_that_of_fresh_seeds(
    database: Database, values: list, expected: str
) -> None:
    rows = study(database, "val_accuracy")
    complete(rows, {"val_accuracy": 0.99}, "val_accuracy")
    complete(rows, {"val_accuracy": 0.5}, "val_accuracy", params=DEFAULT)
    selection = candidates(
        ({"learning_rate": 0.01}, [0.91, 0.92, 0.93], True),
        (DEFAULT, values, False),
        ({"learning_rate": 0.02}, [0.90, 0.92, 0.93], False),
    )
    retrained(rows, {"test_accuracy": [0.9, 0.91]}, {}, selection=selection)
    text = document_text(rows)
    assert expected in text
    assert "trial 2 (Welch's test over seeds)" in text
    assert "49.0 points" not in text
    assert ("Indistinguishable from the chosen one at 95 %: trial 1" in text) == ("indist" in expected)


def test_no_gain_in_the_search_is_reported_once_candidates_competed(database: Database) -> None:
    rows = study(database, "val_accuracy")
    complete(rows, {"val_accuracy": 0.99}, "val_accuracy")
    complete(rows, {"val_accuracy": 0.5}, "val_accuracy", params=DEFAULT)
    selection = candidates(
        ({"learning_rate": 0.01}, [0.9, 0.92], True), ({"learning_rate": 0.02}, [0.8, 0.9], False)
    )
    retrained(rows, {"test_accuracy": [0.9, 0.91]}, {}, selection=selection)
    text = document_text(rows)
    assert "was not among the candidates, so there is no gain from fresh seeds: hpo retrain" in text
    assert "49.0 points" not in text


def test_default_that_won_without_a_complete_trial_is_named(database: Database) -> None:
    rows = study(database, "val_accuracy")
    complete(rows, {"val_accuracy": 0.99}, "val_accuracy")
    selection = {
        **candidates(({"learning_rate": 0.01}, [0.7, 0.7], False), (DEFAULT, [0.9, 0.9], True)),
        "top": 1,
    }
    selection["candidates"][1] |= {"trial": None, "search_value": None}
    config = {"trial": None, "study": "demo"}
    retrained(rows, {"test_accuracy": [0.9]}, {}, selection=selection, params=DEFAULT, config=config)
    text = document_text(rows)
    assert "images): the objective's default configuration, retrained.**" in text
    assert "default configuration: 0.9000 ± 0.0000, chosen" in text
    assert "its accuracy was 0.9000 (mean of 2 fresh seeds" in text
    assert "hpo retrain --study demo --seeds 1 --top 1 --epochs" not in text
    assert "--config best_config.yaml" not in text


REGRESSION = {
    "task": "regression",
    "input": {"shape": [12], "dtype": "float32"},
    "classes": ["age"],
    "test_intervals": {"test_rmse": [2.0, 3.0], "test_mae": [1.0, 2.0], "test_r2": [0.7, 0.9]},
    "residuals": {"age": {"true": [1.0, 2.0, 3.0], "predicted": [1.5, 2.0, 2.0]}},
}
REGRESSED = {"test_loss": [6.0, 6.2], "test_rmse": [0.1, 5.0], "test_mae": [1.5, 1.6], "test_r2": [0.8, 0.99]}


def test_report_of_a_regression_has_residuals_and_no_classes(database: Database) -> None:
    rows = study(database, "val_rmse", "minimize")
    complete(rows, {"val_rmse": 2.4, "val_loss": 5.8, "loss": 5.0, "rmse": 2.2, "val_r2": 0.8}, "val_rmse")
    history = [
        {
            "seed": seed,
            "epoch": 1,
            "seconds": 1.0,
            "metrics": {"loss": 6.0, "rmse": 2.5, "images_per_second": 9.0},
        }
        for seed in (0, 1)
    ]
    retrained(rows, REGRESSED, REGRESSION, detail={"history": history})
    found = files(rows)
    text = report_text(found)
    assert "**Test RMSE 2.5500 ± 3.4648 (95 % interval 0.0000 to 33.6" in text
    assert "2.0000 to 3.0000 over 200 test examples): trial 0" in text
    assert "On 1,359 validation examples, its RMSE was 2.4000" in text
    assert "| test R² | 0.8950 | 0.1344 | -0.3121 to 1.0000 | 0.7000 to 0.9000 |" in text
    assert (
        text.index("| test RMSE")
        < text.index("| test MAE")
        < text.index("| test R²")
        < text.index("| test loss")
    )
    assert {"pictures/residuals.png", "pictures/best-trial.png", "pictures/training.png"} <= found.keys()
    assert not [
        word for word in ("class", "accuracy", "image") if word in text.lower().replace("images_per", "")
    ]


def test_report_of_labels_has_a_table_of_labels_and_curves(database: Database) -> None:
    rows = study(database, "val_macro_f1")
    complete(rows, {"val_macro_f1": 0.8}, "val_macro_f1")
    scores = {"precision": 0.5, "recall": 0.25, "f1": None, "auc": 0.75, "average_precision": 0.6}
    records = {
        "task": "labels",
        "classes": ["sun", "sea"],
        "curves": {kind: {"sun": CURVE, "sea": CURVE} for kind in ("roc", "precision_recall")},
        "per_label": [{"label": name, "positives": 7, **scores} for name in ("sun", "sea")],
    }
    retrained(rows, {"test_macro_f1": [0.7, 0.8], "test_auc": [0.9, 1.0]}, records)
    found = files(rows)
    text = report_text(found)
    assert "**Test macro F1 0.7500" in text
    assert "| sun | 7 | 0.5000 | 0.2500 | - | 0.7500 | 0.6000 |" in text
    assert "its macro F1 was 0.8000" in text
    assert "pictures/curves.png" in found


def test_curves_of_a_binary_task_are_those_of_each_seed(database: Database) -> None:
    rows = study(database, "val_auc")
    complete(rows, {"val_auc": 0.8}, "val_auc")
    records = {"task": "binary", "curves": {kind: {"yes": CURVE} for kind in ("roc", "precision_recall")}}
    retrained(rows, {"test_auc": [0.9, 0.91], "test_accuracy": [0.8, 0.8]}, records)
    history = read_history(database, "demo")
    document = build_report(history, Findings(history))
    [figure] = [figure for figure in document.figures() if figure.key == "curves"]
    assert [series.name for series in figure.panels[0].series] == ["chance", "seed 0", "seed 1"]
    assert "**Test AUC 0.9050" in document_text(rows)


@pytest.mark.parametrize("task", ["classes", "labels", "binary", "regression"])
def test_records_of_each_task_have_the_form_that_reports_draw(task: TaskName) -> None:
    rng = np.random.default_rng(0)
    data: Any = SimpleNamespace(classes=["a", "b", "c"], output_size=3, scaling=None)
    targets, outputs = rng.random((50, 3)).astype(np.float32), rng.random((50, 3))
    if task == "classes":
        targets, outputs = rng.integers(0, 3, 50), outputs / outputs.sum(axis=1, keepdims=True)
    elif task == "labels":
        targets = (targets > 0.5).astype(np.uint8)
    elif task == "binary":
        data.classes, targets, outputs = ["no", "yes"], rng.integers(0, 2, 50), outputs[:, 0]
    records = TASKS[task](data).records(targets, outputs)
    rows = {name: (METRICS[name].rows(targets, outputs), METRICS[name].value) for name in names_of(task)}
    pairs = {f"test_{name}": list(pair) for name, pair in intervals(rows, resamples=9).items()}
    run = json_safe({"seed": 1, "seconds": 1.0, "task": task, "test_intervals": pairs, **records})
    assert drawable([run, run]) == [run, run]
    sections = task_sections(lambda: {"runs": [run, run]})
    shown = {
        "classes": ["ROC and precision-recall"],
        "labels": ["Labels", "ROC and precision-recall"],
        "binary": ["ROC and precision-recall"],
        "regression": ["Residuals"],
    }
    assert [section.title for section in sections] == shown[task]
    assert LEFT_OUT not in str(sections)
    # Both tables of metrics agree.
    assert all(KNOWN[name].maximize is METRICS[name].maximize for name in names_of(task))


@pytest.mark.parametrize(
    "odd",
    [
        {"curves": {"roc": {"a": {"x": [0.0], "y": []}}, "precision_recall": {}}, "task": 5},
        {"residuals": {"a": {"true": ["x"], "predicted": [1.0]}}, "per_label": [{"label": "a"}]},
        {"test_intervals": {"test_accuracy": 0.5}, "input": 7, "n_valid": "many"},
        {"residuals": {}, "curves": [], "per_label": {}, "test_intervals": [1, 2]},
    ],
)
def test_records_of_another_form_are_left_out(database: Database, odd: dict[str, Any]) -> None:
    rows = study(database, "val_accuracy")
    complete(rows, {"val_accuracy": 0.9}, "val_accuracy")
    retrained(rows, {"test_accuracy": [0.9, 0.8]}, odd)
    text = document_text(rows)
    assert "**Test accuracy 0.8500" in text
    assert not [title for title in ("## ROC", "## Residuals", "## Labels", "left out") if title in text]


def test_comparison_of_regressions_prefers_the_lower_error(database: Database) -> None:
    for name, worse in (("first", 1.0), ("second", 0.0)):
        rows = study(database, "val_rmse", "minimize", name)
        complete(rows, {"val_rmse": 2.4}, "val_rmse")
        tested = {
            metric: [value + worse for value in (1.0, 1.01, 1.02)] for metric in ("test_loss", "test_rmse")
        }
        retrained(rows, tested, REGRESSION)
    compared = StudyComparison([StudyResult(read_history(database, name)) for name in ("first", "second")])
    document = build_document(compared)
    text = render_markdown(document, "pictures").replace("\\", "")
    assert compared.figure == "test_rmse"
    assert (
        "**second is 1.0000 below first in test RMSE, where lower is better: more than seed noise.**" in text
    )
    assert "| second | 1.0100 ± 0.0100 | 1.0100 ± 0.0100 |" in text
    assert "errors" in [figure.key for figure in document.figures()]


def test_studies_of_different_tasks_have_no_common_figure(database: Database) -> None:
    for name, task in (("first", "regression"), ("second", "classes")):
        rows = study(database, "val_loss", "minimize", name)
        complete(rows, {"val_loss": 2.4}, "val_loss")
        retrained(rows, {"test_loss": [1.0, 2.0]}, {"task": task})
    compared = StudyComparison([StudyResult(read_history(database, name)) for name in ("first", "second")])
    assert compared.figure is None
    text = render_markdown(build_document(compared), "pictures")
    assert "The studies were of different tasks (first regression, second classes)" in text


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
