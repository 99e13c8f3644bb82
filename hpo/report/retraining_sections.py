"""The retrained configuration as sections: test set, calibration and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from hpo import formatting
from hpo.analysis.examples import examples_of, over_examples
from hpo.analysis.figures import FIGURES, interval_of, is_measure, label_of, short_label
from hpo.analysis.records import drawable
from hpo.analysis.statistics import CONFIDENCE, holm, shown_deviation, welch
from hpo.document.charts import GREY, Axis, Chart, Point, Series, Style, colour_of
from hpo.document.document import Block, Bullets, Figure, Paragraph, Section, Table
from hpo.document.parts import section
from hpo.report.default_comparison import default_params, is_same
from hpo.report.mistakes import mistakes_section
from hpo.report.study_comparison import matches_search
from hpo.report.task_sections import task_sections
from hpo.report.trial_axes import epoch_axis
from hpo.retrain.selection_text import fresh_seeds, named, selection_lines
from hpo.study.history import StudyHistory
from storage.retrains import RetrainRow, Source

LEAST_IN_BIN = 10
"""Fewest predictions of all runs with which a calibration bin is drawn."""
MOST_SEEDS = 8
"""Largest number of final runs with a column each; of more, each has a row."""


def retraining_sections(history: StudyHistory, retrain: RetrainRow) -> list[Section]:
    """Return the sections of one finished retrain."""

    @cache
    def metrics() -> dict[str, Any]:
        found = dict(retrain.metrics or {})
        return {**found, "runs": drawable(found["runs"])}

    return [
        *section(
            "Test set",
            lambda: _figures(metrics()),
            lambda: [Paragraph(text, "note") for text in _limits(history, retrain, metrics())],
            lambda: _selection(history, metrics()),
            lambda: _run_table(metrics()),
        ),
        *mistakes_section(metrics),
        *task_sections(metrics),
        *section("Calibration", lambda: _calibration(metrics()["runs"])),
        *section("Training of the final runs", lambda: _training(metrics())),
    ]


def _tested(metrics: Mapping[str, Any]) -> list[str]:
    """Return the names of the test figures, those that the service knows first."""
    return sorted(
        (name for name in metrics["summary"] if name.startswith("test_")),
        key=lambda name: FIGURES.index(name) if name in FIGURES else len(FIGURES),
    )


def _figures(metrics: Mapping[str, Any]) -> Block:
    runs = metrics["runs"]
    count = runs[0].get("n_test")
    number = f"{count:,} " if isinstance(count, int) else ""
    tested = f"95 % over {number}test {examples_of(runs[0])}"
    rows = []
    for name in _tested(metrics):
        one = interval_of(metrics["summary"], name)
        over = over_examples(runs, name, one.mean)
        rows.append(
            {
                "figure": label_of(name),
                "mean": formatting.metric(one.mean),
                "standard deviation": "-"
                if one.standard_deviation is None
                else shown_deviation(one.standard_deviation, one.mean),
                f"95 % over {formatting.counted(len(runs), 'seed')}": one.shown_interval,
                tested: "-" if over is None else " to ".join(map(formatting.metric, over)),
            }
        )
    return Table.of(rows, text=["figure"]) if rows else Paragraph("The final runs recorded no test figures.")


def _selection(history: StudyHistory, metrics: Mapping[str, Any]) -> list[Block]:
    selection = metrics.get("selection")
    if selection is None or not _tested(metrics):
        return []
    candidates, default = selection["candidates"], default_params(history)
    text = (
        f"{len(candidates)} candidates were trained from {fresh_seeds(selection)} each and compared by"
        f" {selection['metric']} on validation data, without the test set:"
    )
    lines = [
        line + (" (the default configuration)" if own and one["trial"] is not None else "")
        for line, one in zip(selection_lines(selection), candidates, strict=True)
        for own in [default is not None and is_same(history, one["params"], default)]
    ]
    planned = next((one for one in candidates if default and is_same(history, one["params"], default)), None)
    return [Paragraph(text), Bullets(lines), *_indistinguishable(selection, planned)]


def _indistinguishable(selection: Mapping[str, Any], default: Mapping[str, Any] | None) -> list[Block]:
    """Return a sentence on the candidates of all seeds from which the chosen one does not differ significantly.

    The comparison with the default configuration is planned and stands by itself, as in the summary; the others are
    corrected for their number.
    """
    chosen = next((one for one in selection["candidates"] if one["chosen"]), None)
    # A test of those that were dropped, because they were behind, would find what the race looked for.
    others = [
        one for one in selection["candidates"] if not (one["chosen"] or one["failure"] or one.get("dropped"))
    ]
    if chosen is None or not others:
        return []
    tests = [welch(chosen["values"], one["values"]) for one in others]
    measured = [
        (one, test.p_value) for one, test in zip(others, tests, strict=True) if test.p_value is not None
    ]
    if len(measured) < len(others):
        return [
            Paragraph("There are too few seeds, or too few distinct values, to test the differences.", "note")
        ]
    searched = [p_value for one, p_value in measured if one is not default]
    corrected = iter(holm(searched))
    alike = [
        named(one["trial"])
        for one, p_value in measured
        if (p_value if one is default else next(corrected)) >= 1 - CONFIDENCE
    ]
    method = "Welch's test over seeds"
    if len(searched) > 1:
        method += ", Holm's correction" + (
            " except for the default configuration" if default in others else ""
        )
    if not alike:
        all_seeds = (
            " that were not dropped" if any(one.get("dropped") for one in selection["candidates"]) else ""
        )
        text = (
            f"The chosen one is significantly better than each of the others{all_seeds} at 95 % ({method})."
        )
    else:
        text = f"Indistinguishable from the chosen one at 95 %: {', '.join(alike)} ({method})."
    return [Paragraph(text)]


def _run_table(metrics: Mapping[str, Any]) -> Table | None:
    figures = _tested(metrics)
    if not figures:
        return None
    shown = {name: short_label(name) for name in figures}
    if len({"seed", "training time", *shown.values()}) < 2 + len(shown):
        # The names in full are distinct.
        shown = dict(zip(figures, figures, strict=True))
    rows = [
        {
            "seed": str(run["seed"]),
            **{column: formatting.metric(float(run[name])) for name, column in shown.items()},
            "training time": formatting.duration(run["seconds"]),
        }
        for run in metrics["runs"]
    ]
    caption = "Each final run."
    distinct = len({row["seed"] for row in rows}) == len(rows)
    if not distinct or len(rows) > min(MOST_SEEDS, len(figures)):
        return Table.of(rows, caption=caption)
    turned = [{"seed": name} | {row["seed"]: row[name] for row in rows} for name in list(rows[0])[1:]]
    return Table.of(turned, caption=caption, text=["seed"])


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
    trained, tested, noun = run.get("n_train"), run.get("n_test"), examples_of(run)
    if isinstance(trained, int) and isinstance(tested, int):
        found.append(f"Trained on {trained:,} {noun}, tested on {tested:,}.")
    return found


def _describe_setup(setup: Mapping[str, Any]) -> str:
    limit = (setup.get("data") or {}).get("limit")
    return f"{setup.get('epochs')} epochs of " + (
        "all training data" if limit is None else f"{limit} training examples"
    )


def _calibration(runs: Sequence[Mapping[str, Any]]) -> Figure | None:
    measured = [run["calibration"] for run in runs if run.get("calibration")]
    if not measured:
        return None
    points, rare = [], 0
    for bins in zip(*(one["bins"] for one in measured), strict=True):
        # Not images, of which each run predicts all.
        predictions = sum(one["images"] for one in bins)
        if predictions < LEAST_IN_BIN:
            rare += predictions
            continue
        confidence, accuracy = (
            sum(one["images"] * (one[name] or 0.0) for one in bins) / predictions
            for name in ("confidence", "accuracy")
        )
        counted = formatting.counted(predictions, "prediction")
        label = f"{counted}: confidence {100 * confidence:.1f} %, accuracy {100 * accuracy:.1f} %"
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
        + (f" Bins of fewer than {LEAST_IN_BIN} predictions, {rare} in all, are not drawn." if rare else "")
    )
    return Figure("calibration", caption, [chart], height=400, width=620)


def _training(metrics: Mapping[str, Any]) -> Figure | None:
    history = metrics.get("detail", {}).get("history") or []
    if not history:
        return None
    reported = history[0]["metrics"]
    names = [name for name in reported if is_measure(name) or name == "learning_rate"]
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
        "The final runs. They train on the training and validation data, so there is no validation metric."
    )
    return Figure("training", caption, charts, height=280) if charts else None
