"""`hpo compare`: the final figures of several studies, and whether they differ by more than the noise of seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo import numbers
from hpo.effects import amount
from hpo.history import StudyHistory, read_history
from hpo.intervals import CONFIDENCE, Difference, Interval, holm, summarize, welch
from hpo.report.charts import SERIES_COLOURS, Axis, Chart, Series
from hpo.report.cost import cost_of
from hpo.report.document import Block, Bullets, Document, Figure, Paragraph, Section, Table
from hpo.report.files import document_files, json_file, write_files
from hpo.report.final_sections import FIGURES
from hpo.report.search_sections import epoch_axis
from hpo.report.study_report import latest_retrain

if TYPE_CHECKING:
    from storage.engine import Database


@dataclass(frozen=True)
class Side:
    """One study of a comparison."""

    history: StudyHistory

    @property
    def name(self) -> str:
        return self.history.study.name

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What its latest retrain showed; empty where it was never retrained."""
        retrain = latest_retrain(self.history)
        return (retrain.metrics or {}) if retrain is not None else {}

    @property
    def runs(self) -> Sequence[Mapping[str, Any]]:
        """Its final runs."""
        runs: Sequence[Mapping[str, Any]] = self.metrics.get("runs", [])
        return runs

    def values(self, figure: str) -> list[float]:
        """A figure of each final run; empty unless all have it."""
        found = [run[figure] for run in self.runs if isinstance(run.get(figure), int | float)]
        return found if len(found) == len(self.runs) else []


@dataclass(frozen=True)
class Pair:
    """Two studies."""

    first: str
    second: str
    difference: Difference
    p_value: float | None
    """Of Welch's test, corrected for the number of pairs (Holm); None where a side has fewer than two seeds."""

    @property
    def exceeds_noise(self) -> bool | None:
        """Whether the two differ by more than seeds do; None where that cannot be told."""
        return None if self.p_value is None else self.p_value < 1 - CONFIDENCE


def compare(database: Database, names: Sequence[str], folder: Path | None) -> tuple[Document, list[str]]:
    """Compare studies; with a folder, write a page, Markdown with pictures and JSON there, and return their names.

    Raises:
        UnknownStudyError: there is no study of one of the names.
        ResultsNotWritableError, DiskFullError: the files cannot be written.
    """
    sides = [Side(read_history(database, name)) for name in names]
    figure = common_figure(sides)
    pairs = compare_pairs(sides, figure) if figure is not None else []
    document = build_document(sides, figure, pairs)
    if folder is None:
        return document, []
    files = document_files(document, "compare") | {"compare.json": json_file(_json(sides, figure, pairs))}
    write_files(folder, files)
    return document, list(files)


def common_figure(sides: Sequence[Side]) -> str | None:
    """What the retrained studies are compared by: test accuracy, or the first test figure that all have."""
    retrained = [side for side in sides if side.runs]
    if not retrained:
        return None
    own = [name for name in retrained[0].runs[0] if name.startswith("test_")]
    candidates = [*FIGURES, *own]
    return next((name for name in candidates if all(side.values(name) for side in retrained)), None)


def compare_pairs(sides: Sequence[Side], figure: str) -> list[Pair]:
    """Every two studies that were retrained."""
    found = [
        (first.name, second.name, welch(first.values(figure), second.values(figure)))
        for first, second in combinations([side for side in sides if side.values(figure)], 2)
    ]
    measured = [index for index, (_, _, one) in enumerate(found) if one.p_value is not None]
    corrected = holm([found[index][2].p_value or 0.0 for index in measured])
    p_values = dict(zip(measured, corrected, strict=True))
    return [Pair(first, second, one, p_values.get(index)) for index, (first, second, one) in enumerate(found)]


def build_document(sides: Sequence[Side], figure: str | None, pairs: Sequence[Pair]) -> Document:
    """The comparison as a document."""
    sections = [Section("Final figures", _final(sides, figure, pairs))]
    curves = _curves(sides, figure)
    if curves:
        sections.append(Section("Learning curves", curves))
    sections.append(Section("Cost", [_cost(sides)]))
    never = [side.name for side in sides if not side.runs]
    status = [
        f"{name} was never retrained, so there is no figure of the test set: hpo retrain --study {name}"
        for name in never
    ]
    status += comparability(sides)
    names = ", ".join(side.name for side in sides)
    return Document(
        f"Comparison of {names}", "Each study's latest retrain.", sections, "Written by hpo compare.", status
    )


def comparability(sides: Sequence[Side]) -> list[str]:
    """What makes figures of different studies mean different things."""
    found = []
    retrained = [side for side in sides if side.runs]
    for key, words in (
        ("n_test", "tested on different numbers of images"),
        ("classes", "tested on different classes"),
        ("n_train", "trained on different numbers of images"),
    ):
        values = {side.name: side.runs[0].get(key) for side in retrained}
        if len({repr(value) for value in values.values()}) > 1:
            shown = ", ".join(
                f"{name} {len(value) if isinstance(value, list) else value}" for name, value in values.items()
            )
            found.append(f"The studies were {words} ({shown}): a difference need not come from the models.")
    return found


def verdict(pair: Pair, metric: str) -> str:
    """One pair in a sentence."""
    better, worse = (pair.first, pair.second) if pair.difference.mean >= 0 else (pair.second, pair.first)
    size = amount(abs(pair.difference.mean), metric)
    if pair.exceeds_noise is None:
        return (
            f"{better} is {size} above {worse}; from one seed each there is no telling whether that is noise."
        )
    if pair.exceeds_noise:
        return f"{better} is {size} above {worse}: more than the noise of seeds."
    return f"{better} is {size} above {worse}: within the noise of seeds."


def _final(sides: Sequence[Side], figure: str | None, pairs: Sequence[Pair]) -> list[Block]:
    blocks: list[Block] = []
    if figure is not None:
        blocks += [Paragraph(verdict(pair, figure), "lead") for pair in pairs[:1]]
        blocks += [Bullets([verdict(pair, figure) for pair in pairs[1:]])] if len(pairs) > 1 else []
    blocks.append(final_table(sides, figure))
    if figure is not None and pairs:
        blocks.append(difference_table(pairs, figure))
        blocks.append(
            Paragraph(
                "Intervals of differences are Welch's over seeds, p-values are corrected for the number of pairs "
                "(Holm). They say nothing of another test set.",
                "note",
            )
        )
    return blocks


def final_table(sides: Sequence[Side], figure: str | None) -> Table:
    """A row for each study."""
    flipped = any(side.values("test_accuracy_flip_averaged") for side in sides)
    headers = ["study", "objective"]
    if figure is not None:
        headers += [FIGURES.get(figure, figure), "95 % interval", "seeds"]
    headers += ["flip-averaged"] if flipped else []
    headers += ["parameters", "epochs", "best validation"]
    rows = []
    for side in sides:
        row = [side.name, side.history.study.objective.rpartition("/")[2]]
        if figure is not None:
            row += _interval_cells(_interval(side, figure))
        if flipped:
            average = _interval(side, "test_accuracy_flip_averaged")
            row.append(numbers.metric(average.mean) if average is not None else "-")
        parameters = side.runs[0].get("parameters") if side.runs else None
        best = side.history.best
        rows.append(
            [
                *row,
                f"{parameters:,}" if parameters is not None else "-",
                str(side.metrics.get("epochs", "-")),
                f"{side.history.study.metric} {numbers.metric(best.value)}" if best is not None else "-",
            ]
        )
    return Table(headers, rows, frozenset(headers) - {"study", "objective"})


def difference_table(pairs: Sequence[Pair], figure: str) -> Table:
    """A row for each pair of studies."""
    rows = []
    for pair in pairs:
        bounds = pair.difference.interval95
        rows.append(
            (
                f"{pair.first} - {pair.second}",
                _signed(pair.difference.mean, figure),
                "-" if bounds is None else f"{_signed(bounds[0], figure)} to {_signed(bounds[1], figure)}",
                "-" if pair.p_value is None else f"{pair.p_value:.3f}",
                {None: "cannot be told", True: "yes", False: "no"}[pair.exceeds_noise],
            )
        )
    headers = ("difference", FIGURES.get(figure, figure), "95 % interval", "p", "more than noise")
    return Table(headers, rows, frozenset(headers[1:4]))


def _signed(value: float, figure: str) -> str:
    return ("-" if value < 0 else "+") + amount(abs(value), figure)


def _interval(side: Side, figure: str) -> Interval | None:
    values = side.values(figure)
    return summarize(values) if values else None


def _interval_cells(found: Interval | None) -> list[str]:
    if found is None:
        return ["-", "-", "-"]
    spread = f" ± {found.standard_deviation:.4f}" if found.standard_deviation is not None else ""
    bounds = found.interval95
    return [
        f"{numbers.metric(found.mean)}{spread}",
        "-" if bounds is None else f"{numbers.metric(bounds[0])} to {numbers.metric(bounds[1])}",
        str(found.n),
    ]


def _curves(sides: Sequence[Side], figure: str | None) -> list[Block]:
    blocks: list[Block] = []
    final = _final_curves(sides)
    if final:
        caption = (
            "The final runs on their training images, mean over seeds; by epoch and by the time it took."
        )
        blocks.append(Figure("final-curves", caption, final, 320))
    if figure is not None:
        blocks.append(_seeds(sides, figure))
    searched = [
        Series(
            side.name,
            [float(trial.number or 0) for trial in ordered],
            list(
                accumulate(
                    (trial.value or 0.0 for trial in ordered), max if side.history.study.maximize else min
                )
            ),
            "line and points" if len(ordered) == 1 else "line",
            colour,
        )
        for side, colour in _coloured(sides)
        if (ordered := sorted(side.history.complete, key=lambda trial: trial.number or 0))
    ]
    metrics = {side.history.study.metric for side in sides}
    if searched and len(metrics) == 1:
        chart = Chart("", Axis("trial"), Axis(metrics.pop()), searched)
        blocks.append(
            Figure("best-so-far", "The best complete trial so far, during the search.", [chart], 340)
        )
    return blocks


def _final_curves(sides: Sequence[Side]) -> list[Chart]:
    """Two charts a metric that all final runs reported: by epoch, and by seconds."""
    rows = {side.name: side.metrics.get("detail", {}).get("history", []) for side in sides if side.runs}
    shared = [
        name
        for name in ("accuracy", "loss")
        if rows
        and all(history and all(name in row["metrics"] for row in history) for history in rows.values())
    ]
    charts = []
    for name in shared[:1]:
        by_epoch, by_time = [], []
        for side, colour in _coloured(sides):
            history = rows.get(side.name)
            if not history:
                continue
            epochs = sorted({row["epoch"] for row in history})
            at = {epoch: [row for row in history if row["epoch"] == epoch] for epoch in epochs}
            means: list[float | None] = [
                statistics.fmean(float(row["metrics"][name]) for row in at[epoch]) for epoch in epochs
            ]
            seconds = list(
                accumulate(statistics.fmean(row["seconds"] for row in at[epoch]) for epoch in epochs)
            )
            by_epoch.append(Series(side.name, [float(epoch) for epoch in epochs], means, "line", colour))
            by_time.append(Series(side.name, list(seconds), means, "line", colour))
        most = max(len(series.x) for series in by_epoch)
        charts += [
            Chart(f"training {name} by epoch", epoch_axis(most), Axis(""), by_epoch),
            Chart(f"training {name} by time", Axis("seconds"), Axis(""), by_time),
        ]
    return charts


def _seeds(sides: Sequence[Side], figure: str) -> Figure:
    shown = [(side, colour) for side, colour in _coloured(sides) if side.values(figure)]
    series = []
    for place, (side, colour) in enumerate(shown):
        values = side.values(figure)
        series.append(
            Series(
                side.name,
                [float(place)] * len(values),
                list(values),
                "points",
                colour,
                3.4,
                0.85,
                [
                    f"{side.name}, seed {run['seed']}: {numbers.metric(value)}"
                    for run, value in zip(side.runs, values, strict=True)
                ],
                False,
            )
        )
    ticks = [(float(place), side.name) for place, (side, _) in enumerate(shown)]
    chart = Chart(
        "", Axis(ticks=ticks, bounds=(-0.6, len(ticks) - 0.4)), Axis(FIGURES.get(figure, figure)), series
    )
    return Figure("seeds", f"{FIGURES.get(figure, figure)} of each final run.", [chart], 320, 520)


def _coloured(sides: Sequence[Side]) -> list[tuple[Side, str]]:
    return [(side, SERIES_COLOURS[index % len(SERIES_COLOURS)]) for index, side in enumerate(sides)]


def _cost(sides: Sequence[Side]) -> Table:
    rows = []
    for side in sides:
        cost = cost_of(side.history)
        per_seed = [run["seconds"] for run in side.runs]
        hardware = side.metrics.get("hardware", {})
        rows.append(
            (
                side.name,
                str(sum(cost.trials.values())),
                str(cost.epochs),
                numbers.duration(cost.wall_seconds),
                "-" if cost.saved_share is None else f"{100 * cost.saved_share:.0f} %",
                numbers.duration(statistics.fmean(per_seed)) if per_seed else "-",
                f"{hardware.get('processor')}, {hardware.get('cores')} cores" if hardware else "-",
            )
        )
    headers = (
        "study",
        "trials",
        "epochs",
        "search",
        "epochs saved by pruning",
        "training, a seed",
        "retrained on",
    )
    return Table(headers, rows, frozenset(headers[1:6]))


def _json(sides: Sequence[Side], figure: str | None, pairs: Sequence[Pair]) -> dict[str, Any]:
    return {
        "figure": figure,
        "studies": [
            {
                "study": side.name,
                "objective": side.history.study.objective,
                "summary": side.metrics.get("summary"),
                "values": side.values(figure) if figure is not None else [],
                "parameters": side.runs[0].get("parameters") if side.runs else None,
                "cost": asdict(cost_of(side.history)),
            }
            for side in sides
        ],
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                **asdict(pair.difference),
                "corrected_p_value": pair.p_value,
                "exceeds_noise": pair.exceeds_noise,
            }
            for pair in pairs
        ],
        "warnings": comparability(sides),
    }
