"""The retrained configuration as sections: test set, mistakes, calibration and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpo import formatting
from hpo.analysis.confusion import class_scores, confused_pairs, pooled
from hpo.analysis.records import drawable
from hpo.analysis.statistics import Interval, shown_deviation, wilson
from hpo.document.charts import GREY, Axis, Chart, Matrix, Point, Series, Style, colour_of
from hpo.document.document import Block, Bullets, Figure, Gallery, Paragraph, Picture, Section, Table
from hpo.report.search_sections import epoch_axis
from hpo.report.study_comparison import FIGURES, matches_search
from hpo.retrain.selection import selection_lines
from hpo.study.history import StudyHistory
from storage.retrains import RetrainRow, Source

MOST_CLASSES = 40
"""Largest number of classes with a readable confusion matrix; beyond it only the worst classes are listed."""

LEAST_IN_BIN = 10
"""Fewest images of all runs with which a calibration bin is drawn."""


def retraining_sections(history: StudyHistory, retrain: RetrainRow) -> list[Section]:
    """Return the sections of one finished retrain."""
    metrics = dict(retrain.metrics or {})
    metrics["runs"] = drawable(metrics["runs"])
    sections = [Section("Test set", _test(history, retrain, metrics))]
    confusions = [run["confusion"] for run in metrics["runs"] if run.get("confusion")]
    if confusions:
        names = [str(name) for name in metrics["runs"][0].get("classes") or range(len(confusions[0]))]
        sections.append(Section("Mistakes", _mistakes(metrics, pooled(confusions), names)))
    calibration = _calibration(metrics["runs"])
    if calibration is not None:
        sections.append(Section("Calibration", [calibration]))
    training = _training(metrics)
    if training is not None:
        sections.append(Section("Training of the final runs", [training]))
    return sections


def _test(history: StudyHistory, retrain: RetrainRow, metrics: Mapping[str, Any]) -> list[Block]:
    known = list(FIGURES)
    tested = sorted(
        (name for name in metrics["summary"] if name.startswith("test_")),
        key=lambda name: known.index(name) if name in known else len(known),
    )
    if not tested:
        return [Paragraph("The final runs recorded no test figures.")]
    blocks: list[Block] = [
        Table.of(
            [
                {
                    "figure": FIGURES.get(name, name),
                    "mean": formatting.metric(one.mean),
                    "standard deviation": "-"
                    if one.standard_deviation is None
                    else shown_deviation(one.standard_deviation),
                    "95 % interval": one.shown_interval,
                    "seeds": str(one.n),
                }
                for name in tested
                for one in [Interval.from_json(metrics["summary"][name])]
            ],
            text=["figure"],
        )
    ]
    blocks += [Paragraph(text, "note") for text in _limits(history, retrain, metrics)]
    selection = metrics.get("selection")
    if selection is not None:
        blocks.append(
            Paragraph(
                f"{len(selection['candidates'])} candidates were trained from {len(selection['seeds'])} fresh seeds "
                f"each and compared by {selection['metric']} on validation images, without the test set:"
            )
        )
        blocks.append(Bullets(selection_lines(selection)))
    blocks.append(_run_table(metrics["runs"], tested))
    return blocks


def _run_table(runs: Sequence[Mapping[str, Any]], figures: Sequence[str]) -> Table:
    shown = {name: name.removeprefix("test_").replace("_", " ") for name in figures}
    if len({"seed", "training time", *shown.values()}) < 2 + len(shown):
        # The names in full are distinct.
        shown = dict(zip(figures, figures, strict=True))
    rows = [
        {
            "seed": str(run["seed"]),
            **{column: formatting.metric(float(run[name])) for name, column in shown.items()},
            "training time": formatting.duration(run["seconds"]),
        }
        for run in runs
    ]
    return Table.of(rows, caption="Each final run.")


def _limits(history: StudyHistory, retrain: RetrainRow, metrics: Mapping[str, Any]) -> list[str]:
    """Return the caveats of the test figures."""
    spec = history.study.spec_json
    found = []
    if not matches_search(retrain, spec):
        found.append(
            f"Retrained with {_describe_setup(retrain.config)}; trials had {_describe_setup(spec)}. The best "
            "configuration may differ between the two."
        )
    run, openings = metrics["runs"][0], history.test_openings
    if openings:
        when = ", ".join(f"{time:%Y-%m-%d %H:%M} UTC" for time in openings)
        found.append(
            f"Retrains of this study evaluated the test set {formatting.times(len(openings))}: {when}."
        )
        if len(openings) > 1:
            found.append(
                "Choosing among several test-set evaluations gives an optimistic estimate: of these"
                f" {len(openings)} retrains, this report shows the latest"
                + (" of the configuration that the search chose" if retrain.source is Source.SEARCH else "")
                + ", not the best."
            )
    images = run.get("n_test")
    accuracy = metrics["summary"].get("test_accuracy")
    mean = formatting.json_number(accuracy["mean"]) if accuracy else None
    if images and mean is not None and 0.0 <= mean <= 1.0:
        low, high = wilson(mean, images)
        trained = f"Trained on {run['n_train']} images, tested on {images}." if "n_train" in run else ""
        over_seeds = " The interval above is over seeds." if accuracy.get("interval95") else ""
        found.append(
            f"{trained}{over_seeds} Over the {images} test images alone, the 95 % interval of the accuracy is"
            f" {formatting.metric(low)} to {formatting.metric(high)} (Wilson).".strip()
        )
    return found


def _describe_setup(setup: Mapping[str, Any]) -> str:
    limit = (setup.get("data") or {}).get("limit")
    return f"{setup.get('epochs')} epochs of " + (
        "all training images" if limit is None else f"{limit} images"
    )


def _mistakes(
    metrics: Mapping[str, Any], confusion: Sequence[Sequence[int]], names: Sequence[str]
) -> list[Block]:
    blocks: list[Block] = []
    seeds = len(metrics["runs"])
    together = "" if seeds == 1 else f", {seeds} seeds together"
    if len(names) <= MOST_CLASSES:
        caption = f"Test images by true and predicted class{together}; shaded by the share of the true class."
        height, width = max(320, 90 + 34 * len(names)), 220 + 58 * len(names)
        panels = [confusion_panel("", confusion, names)]
        blocks.append(Figure("confusion", caption, panels, height=height, width=width))
    blocks.append(_class_table(confusion, names, together))
    pairs = confused_pairs(confusion, names)
    if pairs:
        rows = [
            {
                "true": pair.true,
                "predicted": pair.predicted,
                "images": str(pair.count),
                "of the true class": f"{100 * pair.share:.1f} %",
            }
            for pair in pairs
        ]
        caption = f"Most confused pairs of classes{together}."
        blocks.append(Table.of(rows, text=["true", "predicted"], caption=caption))
    else:
        blocks.append(Paragraph("No test image was misclassified."))
    images, wrong = metrics.get("detail", {}).get("wrong_images"), metrics["runs"][0].get("wrong")
    if images and wrong and all(isinstance(png, str) for png in images):
        pictures = [
            Picture(
                png,
                f"{names[one['predicted']]}, {100 * one['confidence']:.0f} %, true {names[one['true']]}, "
                f"#{one['index']}",
            )
            for png, one in zip(images, wrong, strict=False)
        ]
        caption = (
            "Test images that the exported model misclassifies with the highest confidence: predicted class, "
            "confidence, true class and index in the test set."
        )
        blocks.append(Gallery("confidently-wrong", caption, pictures))
    return blocks


def confusion_panel(title: str, confusion: Sequence[Sequence[int]], names: Sequence[str]) -> Matrix:
    """Return a confusion matrix, each cell shaded by its share of the true class."""
    return Matrix(
        title=title,
        rows=names,
        columns=names,
        shades=[[cell / max(1, sum(row)) for cell in row] for row in confusion],
        texts=[[str(cell) if cell else "" for cell in row] for row in confusion],
        x=Axis("predicted"),
        y=Axis("true"),
    )


def _class_table(confusion: Sequence[Sequence[int]], names: Sequence[str], together: str) -> Table:
    scores, subset = class_scores(confusion, names), "Each class"
    if len(scores) > MOST_CLASSES:
        scores = sorted(scores, key=lambda one: one.f1 or 0.0)[:MOST_CLASSES]
        subset = f"The {MOST_CLASSES} classes with the lowest F1 of {len(names)}"
    rows = [
        {
            "class": one.name,
            "precision": formatting.metric(one.precision),
            "recall": formatting.metric(one.recall),
            "F1": formatting.metric(one.f1),
            "images": str(one.images),
        }
        for one in scores
    ]
    return Table.of(rows, text=["class"], caption=f"{subset}{together}; metrics.json has all of them.")


def _calibration(runs: Sequence[Mapping[str, Any]]) -> Figure | None:
    measured = [run["calibration"] for run in runs if run.get("calibration")]
    if not measured:
        return None
    points, rare = [], 0
    for bins in zip(*(one["bins"] for one in measured), strict=True):
        images = sum(one["images"] for one in bins)
        if images < LEAST_IN_BIN:
            rare += images
            continue
        confidence, accuracy = (
            sum(one["images"] * (one[name] or 0.0) for one in bins) / images
            for name in ("confidence", "accuracy")
        )
        label = f"{images} images: confidence {100 * confidence:.1f} %, accuracy {100 * accuracy:.1f} %"
        points.append(Point(confidence, accuracy, label))
    errors = [one["expected_error"] for one in measured]
    diagonal = [Point(0.0, 0.0), Point(1.0, 1.0)]
    chart = Chart(
        "",
        Axis("confidence", bounds=(0.0, 1.02)),
        Axis("accuracy", bounds=(0.0, 1.02)),
        [
            Series(name="perfectly calibrated", points=diagonal, style="dashed", colour=GREY, width=1.5),
            Series(name="this model", points=points, style="line and points"),
        ],
    )
    caption = (
        "Accuracy against confidence over all final runs; below the dashed line the model is overconfident. "
        f"Expected calibration error {sum(errors) / len(errors):.4f}, mean over seeds."
        + (f" {rare} images in bins of fewer than {LEAST_IN_BIN} are not drawn." if rare else "")
    )
    return Figure("calibration", caption, [chart], height=400, width=620)


def _training(metrics: Mapping[str, Any]) -> Figure | None:
    history = metrics.get("detail", {}).get("history") or []
    if not history:
        return None
    reported = history[0]["metrics"]
    names = [name for name in reported if "loss" in name or "accuracy" in name or name == "learning_rate"]
    style: Style = "line and points" if metrics["epochs"] <= 2 else "line"
    colours = {seed: colour_of(index) for index, seed in enumerate(dict.fromkeys(r["seed"] for r in history))}

    def curve(seed: int, name: str) -> Series:
        points = [
            Point(row["epoch"], formatting.json_number(row["metrics"].get(name)))
            for row in history
            if row["seed"] == seed
        ]
        return Series(name=f"seed {seed}", points=points, style=style, colour=colours[seed])

    axis = epoch_axis(metrics["epochs"])
    charts = [Chart(name, axis, Axis(), [curve(seed, name) for seed in colours]) for name in names]
    caption = (
        "The final runs. They train on the training and validation images, so there is no validation metric."
    )
    return Figure("training", caption, charts, height=280) if charts else None
