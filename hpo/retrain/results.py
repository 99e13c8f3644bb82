"""Result files of a retrained configuration: metrics of each seed, their mean and its interval."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpo import formatting
from hpo.analysis.confusion import Confusion, class_scores, confused_pairs, pooled
from hpo.analysis.figures import bounds_of, is_measure
from hpo.analysis.records import drawable
from hpo.analysis.statistics import Interval, summarize
from hpo.document.files import csv_file, json_file, results_writable, write_files
from hpo.export.config import Config
from hpo.export.config_file import render
from hpo.process.identity import host_name
from hpo.retrain import model_card
from hpo.trainer.messages import EpochRecord
from objectives.trial_value import Reported, chosen, reported
from objectives.values import is_number

DETAIL = ("wrong_images",)
"""Records that are too large for metrics.json; the database keeps those of the first run."""


@dataclass(frozen=True)
class SeedResult:
    """Result of one final run."""

    seed: int
    history: tuple[EpochRecord, ...]
    recorded: Mapping[str, Any]
    """Records of the objective: test accuracy, confusion matrix and so on."""
    seconds: float


def judged_report(config: Config, history: Sequence[EpochRecord]) -> Reported | None:
    """Return the report whose value is that of a run, by the rule of its study."""
    reports = reported({record.epoch: record.metrics for record in history}, config.metric)
    return chosen(reports, config.value_rule, maximize=config.direction == "maximize")


def summaries(results: Sequence[SeedResult], metric: str | None = None) -> dict[str, Interval]:
    """Return an interval for each `test_` number that every seed recorded, and for the last epoch's metrics.

    Of the latter, only known metrics and the study's own `metric` measure the configuration.
    """
    rows = [_numbers_of(result, metric) for result in results]
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: summarize([row[name] for row in rows], bounds_of(name)) for name in shared}


def _numbers_of(result: SeedResult, metric: str | None) -> dict[str, float]:
    last = result.history[-1].metrics if result.history else {}
    tested = {
        name: float(value)
        for name, value in result.recorded.items()
        if name.startswith("test_") and is_number(value)
    }
    final = {f"final_{name}": value for name, value in last.items() if name == metric or is_measure(name)}
    if metric is not None and metric in result.recorded and is_number(result.recorded[metric]):
        # The value that an Optuna objective returned.
        final[f"final_{metric}"] = float(result.recorded[metric])
    return {**tested, **final}


def check_folder(folder: Path) -> None:
    """Check before the training that results can be written to `folder`; leave no file there.

    Raises:
        ResultsNotWritableError: the folder cannot be created or written to.
        DiskFullError: there is no space.
    """
    with results_writable(folder):
        was_there = folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".probe-", dir=folder) as probe:
            probe.write(b"x")
        if not was_there:
            folder.rmdir()


def write_results(
    folder: Path,
    config: Config,
    results: Sequence[SeedResult],
    about: Mapping[str, Any],
    model: Path | None,
) -> dict[str, Any]:
    """Write the result files of a retrain into `folder`; return the content of metrics.json, with `detail` added.

    `model` is moved there; confusion_matrix.csv is of this model.

    Raises:
        ResultsNotWritableError: a file cannot be written; checkpoints and model stay where they are.
        DiskFullError: there is no space; the same holds.
    """
    summary = summaries(results, config.metric)
    confusions, classes = _confusions(results)
    metrics = {**_metrics(config, results, summary), **_classes_json(confusions, classes), **about}
    safe: dict[str, Any] = formatting.json_safe(metrics)
    written = model is not None and model.is_file()
    files = {
        "metrics.json": json_file(safe),
        "best_config.yaml": render(config, "yaml").encode(),
        "history.csv": _history_csv(results),
    }
    if confusions:
        # True classes are rows, predicted ones columns.
        rows = [[name, *row] for name, row in zip(classes, confusions[0], strict=True)]
        files["confusion_matrix.csv"] = csv_file(["true \\ predicted", *classes], rows, "\r\n")
    if written:
        files[model_card.FILE] = model_card.render(config, safe)
    with results_writable(folder, " and run the same command again: no epoch is trained twice"):
        write_files(folder, files)
        # A file that an earlier retrain left would pass for one of this retrain.
        if not confusions:
            (folder / "confusion_matrix.csv").unlink(missing_ok=True)
        (folder / model_card.FORMER_FILE).unlink(missing_ok=True)
        if model is not None and written:
            shutil.move(model, folder / model.name)
        elif model is not None:
            for name in (model.name, model_card.FILE):
                (folder / name).unlink(missing_ok=True)
    return {**safe, "detail": formatting.json_safe(_detail(results)) | _place(folder)}


def _place(folder: Path) -> dict[str, str]:
    """Return where the files are, which the database alone keeps."""
    return {"folder": str(folder.absolute()), "host": host_name()}


def _confusions(results: Sequence[SeedResult]) -> tuple[list[Confusion], list[str]]:
    """Return the confusion matrix of each run that has one, and the names of their classes."""
    shown = drawable([result.recorded for result in results])
    confusions = [run["confusion"] for run in shown if run.get("confusion")]
    classes = [str(name) for name in shown[0].get("classes") or ()]
    if confusions and len(classes) != len(confusions[0]):
        classes = [str(label) for label in range(len(confusions[0]))]
    return confusions, classes


def _metrics(
    config: Config, results: Sequence[SeedResult], summary: Mapping[str, Interval]
) -> dict[str, Any]:
    return {
        "study": config.study,
        "objective": config.objective,
        "params": dict(config.params),
        "epochs": config.epochs or max(len(result.history) for result in results),
        **_interface(config, results[0].recorded),
        "summary": {name: interval.to_json() for name, interval in summary.items()},
        "runs": [
            {
                "seed": result.seed,
                "seconds": round(result.seconds, 2),
                **_apart({name: value for name, value in result.recorded.items() if name not in DETAIL}),
            }
            for result in results
        ],
    }


def _interface(config: Config, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the meaning of the model's inputs and outputs, by which `hpo predict` uses it."""
    forms = {"task": str, "classes": list, "input": Mapping}
    # An objective may record anything under these names.
    found = {name: recorded[name] for name, form in forms.items() if isinstance(recorded.get(name), form)}
    if "input" in found and config.data.get("source") is not None:
        rules = {name: config.data.get(name) for name in ("image_fit", "image_size")}
        found["input"] = {**found["input"], **rules}
    return found


def _apart(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return records next to the seed and seconds of a run, which no record may replace."""
    columns = formatting.apart(recorded, ("seed", "seconds"), "recorded_")
    return {columns[name]: value for name, value in recorded.items()}


def _classes_json(confusions: Sequence[Confusion], classes: Sequence[str]) -> dict[str, Any]:
    """Return scores of each class and the most confused pairs, over the test images of all seeds."""
    if not confusions:
        return {}
    together = pooled(confusions)
    return {
        "per_class": [asdict(score) for score in class_scores(together, classes, len(confusions))],
        "confused_pairs": [asdict(pair) for pair in confused_pairs(together, classes)],
    }


def _detail(results: Sequence[SeedResult]) -> dict[str, Any]:
    """Return the part that only the database keeps: every epoch, and recorded images."""
    return {
        "history": [
            {
                "seed": result.seed,
                "epoch": record.epoch,
                "seconds": round(record.seconds, 3),
                "metrics": dict(record.metrics),
            }
            for result in results
            for record in result.history
        ],
        **{
            name: result.recorded[name]
            for name in DETAIL
            for result in reversed(results)
            if name in result.recorded
        },
    }


def _history_csv(results: Sequence[SeedResult]) -> bytes:
    own = ("seed", "epoch", "seconds")
    reported = (name for result in results for record in result.history for name in record.metrics)
    names = formatting.apart(reported, own, "metric_")
    rows = (
        [result.seed, record.epoch, round(record.seconds, 3), *map(record.metrics.get, names)]
        for result in results
        for record in result.history
    )
    return csv_file([*own, *names.values()], rows, "\r\n")
