"""The section on a study with two objectives: its front as a chart and a table."""

from __future__ import annotations

from hpo import formatting
from hpo.document.charts import GREEN, GREY, Axis, Chart, Point, Series
from hpo.document.document import Block, Figure, Paragraph, Section, Table
from hpo.document.parts import section
from hpo.report.trial_axes import MOST_POINTS, trial_label
from hpo.study.history import StudyHistory
from hpo.study.results.front import second_of
from hpo.study.results.trials import TrialRow
from objectives.runs.figures import MEASURED, plain

MOST_ROWS = 20
"""Trials in the table; trials.csv has all of them."""


def front_section(history: StudyHistory) -> list[Section]:
    """Return the front of a study with `--also-minimize`; empty for a study with one objective."""
    figure = second_of(history.study)
    if figure is None or not history.front:
        return []
    title = f"{history.study.metric} against {figure}"
    return section(
        title,
        lambda: _text(history, figure),
        lambda: _chart(history, figure),
        lambda: _table(history, figure),
    )


def _text(history: StudyHistory, figure: str) -> Paragraph:
    metric, count = history.study.metric, len(history.front)
    if count == 1:
        return Paragraph(
            f"Trial {history.front[0].number} is the best in both {metric} and {figure}.", "lead"
        )
    best, smallest = history.front[0], history.front[-1]
    ends = (
        f"{metric} {formatting.metric(trial.value)} with {figure} {plain(trial.figures[figure])} (trial {trial.number})"
        for trial in (best, smallest)
    )
    return Paragraph(
        f"{count} trials are on the front: none is better in both {metric} and {figure}. It reaches from"
        f" {' to '.join(ends)}. Each value is of one run on validation data, so neighbours may differ by chance.",
        "lead",
    )


def _chart(history: StudyHistory, figure: str) -> Figure:
    front = {trial.number for trial in history.front}
    # The front is drawn as a whole, also of very many trials.
    others = [one for one in history.complete if one.number not in front and figure in one.figures]
    others = others[:: 1 + len(others) // MOST_POINTS]
    series = [
        Series(name="other trials", points=_points(others, figure), style="points", colour=GREY, width=2.6),
        Series(
            name="front",
            points=_points(history.front, figure),
            style="line and points",
            colour=GREEN,
            width=2.6,
        ),
    ]
    positive = all(trial.figures[figure] > 0 for trial in [*others, *history.front])
    x = Axis(figure, log=figure in MEASURED and positive)
    chart = Chart("", x, Axis(history.study.metric), series)
    caption = f"{history.study.metric} and {figure} of each complete trial; those on the line are the front."
    return Figure("front", caption, [chart])


def _points(trials: list[TrialRow], figure: str) -> list[Point]:
    return [Point(one.figures[figure], one.value, trial_label(one, one.value)) for one in trials]


def _table(history: StudyHistory, figure: str) -> list[Block]:
    study, every = history.study, history.front
    # Evenly, with both ends.
    steps = min(len(every), MOST_ROWS) - 1
    shown = every if not steps else [every[place * (len(every) - 1) // steps] for place in range(steps + 1)]
    headers = ("trial", *formatting.apart((study.metric, figure), ("trial",), "metric_").values())
    names = [name for name in history.parameters if any(name in trial.params for trial in shown)]
    rows = [
        (
            str(trial.number),
            formatting.metric(trial.value),
            plain(trial.figures[figure]),
            *(formatting.parameter(trial.params[name]) if name in trial.params else "-" for name in names),
        )
        for trial in shown
    ]
    caption = (
        f"Best {study.metric} first. hpo retrain --study {study.name} --trial N trains the one that you choose again,"
        " and tests it."
        + (f" {len(shown)} of {len(every)} trials of the front." if len(shown) < len(every) else "")
    )
    return [
        Table(
            (*headers, *formatting.apart(names, headers, "param_").values()),
            rows,
            frozenset(headers),
            caption,
        )
    ]
