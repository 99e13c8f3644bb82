"""The model card: purpose of a retrained model, its results, data and limits, and how you use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hpo import formatting
from hpo.analysis.examples import examples_of, over_examples
from hpo.analysis.figures import FIGURES, SCORES, interval_of, label_of
from hpo.analysis.records import drawable
from hpo.devices.provenance import DATA
from hpo.document.document import Block, Bullets, Document, Paragraph, Table
from hpo.document.markdown import render_markdown
from hpo.document.parts import section
from hpo.export.config import Config
from hpo.retrain import model_limits, model_use
from objectives.values import is_number

FILE = "MODEL.md"
FORMER_FILE = "model_card.md"
"""Its name in earlier versions."""


def render(config: Config, metrics: Mapping[str, Any]) -> bytes:
    """Return the card as Markdown, given the content of metrics.json."""
    runs = drawable(metrics["runs"])
    study = config.study or config.objective
    document = Document(
        f"Model of {study}",
        _subtitle(config, metrics, runs[0]),
        sections=[
            *section("Results", lambda: _results(metrics, runs), lambda: _per_class(metrics, runs)),
            *section("Data", lambda: _data(config, metrics, runs[0])),
            *section("Limits", lambda: Bullets(model_limits.limits(config, metrics, runs))),
            *section("Use", lambda: model_use.use(metrics, runs[0])),
            *section("Training", lambda: _training(config, metrics, runs[0])),
        ],
        footer="metrics.json has each run, and best_config.yaml trains the configuration again: hpo retrain --config.",
    )
    return render_markdown(document, "").encode(errors="backslashreplace")


def _subtitle(config: Config, metrics: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    origin = (
        f"trial {config.trial} of study {config.study}" if config.trial is not None else "a configuration"
    )
    parameters = run.get("parameters")
    size = f" It has {parameters:,} parameters." if isinstance(parameters, int) else ""
    return (
        f"{_purpose(metrics, examples_of(run))}{size} It was trained by hpo retrain on {datetime.now(UTC):%Y-%m-%d},"
        f" from {origin}, objective {config.objective}; it is the model of the first of"
        f" {formatting.counted(len(metrics['runs']), 'seed')}."
    )


def _purpose(metrics: Mapping[str, Any], noun: str) -> str:
    classes = [str(name) for name in metrics.get("classes") or ()]
    listed = model_limits.listed(classes)
    one = "an image" if noun == "images" else "an example"
    match metrics.get("task"):
        case "labels":
            return f"It predicts which of {formatting.counted(len(classes), 'label')} {one} has: {listed}."
        case "regression":
            return f"It predicts {formatting.counted(len(classes), 'number')} for {one}: {listed}."
        case "binary" if len(classes) == 2:
            return f"It predicts whether {one} is {classes[1]} or {classes[0]}."
        case _ if classes:
            counted = formatting.counted(len(classes), "class", "classes")
            return f"It predicts to which of {counted} {one} belongs: {listed}."
    return "Its outputs are those that its objective gives them."


def _results(metrics: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return each test figure of this model over test examples, and its mean over seeds, both with intervals."""
    summary, noun = metrics["summary"], examples_of(runs[0])
    order = {name: place for place, name in enumerate(FIGURES)}
    names = sorted(
        (name for name in summary if name.startswith("test_")), key=lambda name: order.get(name, len(order))
    )
    if not names:
        return [Paragraph("The final runs recorded no test figures.")]
    count = runs[0].get("n_test")
    tested = f"95 % over {f'{count:,} ' if isinstance(count, int) else ''}test {noun}"
    seeds = formatting.counted(len(runs), "seed")
    rows = []
    for name in names:
        one = interval_of(summary, name)
        own = runs[0].get(name)
        over = over_examples(runs[:1], name, own) if own is not None and is_number(own) else None
        rows.append(
            (
                label_of(name),
                _share(own),
                "-" if over is None else " to ".join(map(formatting.metric, over)),
                one.shown_mean,
                one.shown_interval,
            )
        )
    headers = ("metric", "this model", tested, f"mean of {seeds}", "95 % over seeds")
    return [
        Paragraph(f"On test {noun} that were used neither to train nor to choose it."),
        _numbers(headers, rows),
    ]


def _per_class(metrics: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> list[Block] | None:
    noun = examples_of(runs[0])
    if labels := runs[0].get("per_label"):
        scored = _numbers(
            ("label", f"test {noun} with it", *SCORES.values()),
            [
                (str(one["label"]), f"{one['positives']:,}", *(_share(one[name]) for name in SCORES))
                for one in labels
            ],
        )
        return [Paragraph("Each label, by this model:"), scored]
    classes = metrics.get("per_class")
    if not classes:
        return None
    names = ("precision", "recall", "f1")
    headers = ("class", f"test {noun}", *(SCORES[name] for name in names))
    rows = [
        (str(one["name"]), f"{one['images']:,}", *(_share(one[name]) for name in names)) for one in classes
    ]
    source = "this model" if len(runs) == 1 else f"the models of {len(runs)} seeds together"
    return [Paragraph(f"Each class, by {source}:"), _numbers(headers, rows)]


def _data(config: Config, metrics: Mapping[str, Any], run: Mapping[str, Any]) -> list[Block]:
    """Return source, digest and numbers of examples by split and class."""
    blocks: list[Block] = []
    described = (metrics.get("versions") or {}).get(DATA)
    source = described or config.data.get("source")
    if source:
        blocks.append(Paragraph(f"Source: {source}."))
    noun = examples_of(run)
    given = run.get("examples")
    train, test = ((given or {}).get(split) or {} for split in ("train", "test"))
    totals = (
        f"all {noun}",
        *(f"{run.get(key):,}" if isinstance(run.get(key), int) else "-" for key in ("n_train", "n_test")),
    )
    headers = ("", "training", "test")
    if train and all(isinstance(count, int) for count in (*train.values(), *test.values())):
        rows = [(name, f"{train[name]:,}", f"{test.get(name, 0):,}") for name in train]
        blocks.append(_numbers(headers, [*rows, totals]))
    else:
        blocks.append(_numbers(headers, [totals]))
        if train:
            ranges = [
                (name, *(formatting.metric(one[key]) for key in ("min", "mean", "max")))
                for name, one in train.items()
            ]
            blocks.append(_numbers(("training target", "lowest", "mean", "highest"), ranges))
    blocks.append(
        Paragraph(
            f"Training {noun} include those that validated the trials of the search; test {noun} are not among them."
        )
    )
    return blocks


def _training(config: Config, metrics: Mapping[str, Any], run: Mapping[str, Any]) -> list[Block]:
    versions = {
        name: value for name, value in (metrics.get("versions") or {}).items() if not name.startswith(DATA)
    }
    hardware = metrics.get("hardware") or {}
    facts = [
        ("epochs", str(metrics.get("epochs", "-"))),
        *(
            [("schedule restarts after epoch", ", ".join(map(str, config.restarts)))]
            if config.restarts
            else []
        ),
        *((name, formatting.parameter(value)) for name, value in config.params.items()),
        ("seeds", ", ".join(map(str, metrics.get("seeds") or ()))),
        ("precision", str(run.get("precision") or config.precision or "-")),
        ("Keras backend", str(metrics.get("backend") or "-")),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        (
            "hardware",
            ", ".join(map(str, (*hardware.get("gpus", ()), hardware.get("processor", "")))).strip(", "),
        ),
        ("digest of the objective's code", str(metrics.get("objective_code") or "-")),
    ]
    return [Table(("setting", "value"), [(name, value or "-") for name, value in facts])]


def _numbers(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose columns but the first are aligned right."""
    return Table(headers, rows, frozenset(headers[1:]))


def _share(value: Any) -> str:
    return formatting.metric(float(value)) if is_number(value) else "-"
