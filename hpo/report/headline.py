"""The headline of a report: the test figure, its intervals over seeds and test examples, and the gap to validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpo import formatting
from hpo.analysis.examples import SHARES, examples_of, over_examples
from hpo.analysis.figures import (
    METRICS,
    amount,
    base_of,
    bounds_of,
    counterpart,
    interval_of,
    is_better_high,
    label_of,
    leading,
)
from hpo.analysis.records import drawable
from hpo.analysis.statistics import Interval, summarize
from hpo.devices.provenance import DATA
from hpo.document.document import Block, Paragraph
from hpo.study.history import StudyHistory
from objectives.data.description import validated
from objectives.tasks.intervals import wilson
from storage.retrains import RetrainRow


def headline(history: StudyHistory, retrain: RetrainRow) -> list[Block]:
    """Return the leading test figure with its intervals over seeds and over test examples."""
    metrics = retrain.metrics or {}
    summary = metrics["summary"]
    name = leading(summary, history.study.metric)
    if name is None:
        return [Paragraph("The final runs recorded no figures.", "lead")]
    runs = drawable(metrics["runs"])
    one = interval_of(summary, name)
    lead = (
        f"{label_of(name)} {one.shown_mean} ({_intervals(one, name, runs)}): {source_of(history, retrain)}."
    )
    blocks: list[Block] = [Paragraph(lead[0].upper() + lead[1:], "lead")]
    flipped = "test_accuracy_flip_averaged"
    if flipped in summary and name == "test_accuracy":
        average = interval_of(summary, flipped).describe()
        blocks.append(Paragraph(f"Averaged over each test image and its mirror image: {average}."))
    if name == "test_loss" and runs[0].get("task") == "regression" and "test_rmse" in summary:
        errors = [
            f"{label_of(error)} {interval_of(summary, error).shown_mean}"
            for error in ("test_rmse", "test_mae")
        ]
        blocks.append(Paragraph(f"In the unit of the targets: {' and '.join(errors)}."))
    return blocks


def gap(history: StudyHistory, retrain: RetrainRow) -> Paragraph | None:
    """Return a sentence on how far validation was from the leading test figure; None without one."""
    metrics = retrain.metrics or {}
    name = leading(metrics["summary"], history.study.metric)
    if name is None or not name.startswith("test_"):
        return None
    tested = interval_of(metrics["summary"], name).mean
    return Paragraph(_gap(history, retrain, name, tested, drawable(metrics["runs"])))


def source_of(history: StudyHistory, row: RetrainRow) -> str:
    """Return the origin of a retrained configuration: `trial 3, retrained`."""
    trial = row.config.get("trial")
    if trial is not None and row.config.get("study") in (None, history.study.name):
        return f"trial {trial}, retrained"
    if trial is None and "selection" in (row.metrics or {}):
        return "the objective's default configuration, retrained"
    return "a configuration from a file, retrained"


def _intervals(one: Interval, figure: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Return both intervals of a figure as text."""
    seeds = formatting.counted(one.n, "seed")
    tested = over_examples(runs, figure, one.mean)
    parts = [] if one.interval95 is None else [f"{one.shown_interval} over {seeds}"]
    if tested is not None:
        count = runs[0].get("n_test")
        number = f"{count:,} " if isinstance(count, int) else ""
        parts.append(f"{_range(tested)} over {number}test {examples_of(runs[0])}")
    equal = f"{seeds}{', all equal' if one.standard_deviation == 0.0 else ''}"
    without = [] if one.interval95 is not None else [equal]
    return "; ".join([*without, *([f"95 % interval {', '.join(parts)}"] if parts else [])])


@dataclass(frozen=True)
class _Validated:
    """Value of the retrained configuration on validation examples."""

    value: float
    origin: str


def _gap(
    history: StudyHistory, retrain: RetrainRow, figure: str, tested: float, runs: Sequence[Mapping[str, Any]]
) -> str:
    """Return how far the configuration's value on validation examples was from its test figure."""
    base, noun = base_of(figure), examples_of(runs[0])
    count = _validation_count(history, runs)
    on = f"{count:,} validation {noun}" if count else f"validation {noun}"
    if (folds := (history.study.spec_json.get("data") or {}).get("folds")) is not None:
        on = f"{f'{count:,} ' if count else ''}{noun} in {folds} folds"
    found = _validated(history, retrain, base)
    label = label_of(figure)
    if found is None:
        own = history.study.metric
        if base_of(own) != base:
            return (
                f"The search chose by {own} on {on}, which is another metric than the {label}, so the gap from"
                " validation to test is unknown."
            )
        return f"No value of this configuration on {on} is recorded, so the gap from validation to test is unknown."
    study = history.study
    high = is_better_high(figure, {counterpart(study.metric): study.maximize})
    gap = found.value - tested
    size, nothing = (amount(one, figure, (found.value, tested)) for one in (abs(gap), 0.0))
    if size == nothing:
        compared = "about the same as on the test set"
    elif high is None:
        compared = f"{size} {'above' if gap > 0 else 'below'} the {label}"
    else:
        compared = f"{size} {'better' if (gap > 0) is high else 'worse'} than on the test set"
    spread = ""
    is_share = base in SHARES and runs[0].get("task") != "labels"
    if is_share and count and 0.0 <= found.value <= 1.0:
        spread = f"; 95 % interval over these {noun} {_range(wilson(found.value, count))}"
    name = METRICS[base].label if base in METRICS else base
    return f"On {on}, its {name} was {formatting.metric(found.value)} ({found.origin}{spread}): {compared}."


def _validated(history: StudyHistory, retrain: RetrainRow, base: str) -> _Validated | None:
    """Return the value of a metric on validation data: from fresh seeds, or else of the trial; None if unknown."""
    selection = (retrain.metrics or {}).get("selection")
    if selection is not None and base_of(selection["metric"]) == base:
        chosen = next((one for one in selection["candidates"] if one["chosen"]), None)
        values = [] if chosen is None else [float(value) for value in chosen["values"]]
        if values:
            over = summarize(values, bounds_of(base))
            return _Validated(over.mean, f"mean of {formatting.counted(over.n, 'fresh seed')}")
    config = retrain.config
    number = config.get("trial")
    if number is None:
        return None
    if config.get("study") in (None, history.study.name):
        judged = history.judged(number)
        rows = history.curves.get(number, [])
        at = next((row for row in rows if judged is not None and row.epoch == judged.epoch), None)
        reported = None if at is None else at.metrics.get(f"val_{base}")
        if reported is not None:
            return _Validated(reported, f"trial {number}, a single run that was chosen in the search")
    value = formatting.json_number(config.get("value"))
    if value is None or base_of(str(config.get("metric"))) != base:
        return None
    return _Validated(value, f"trial {number}, a single run that was chosen in a search")


def _validation_count(history: StudyHistory, runs: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the number of validation examples of the trials; None if it is not recorded."""
    count = runs[0].get("n_valid")
    if isinstance(count, int) and count > 0:
        return count
    lines = [agent.versions.get(DATA, "") for agent in reversed(history.agents)]
    return next((found for line in lines if (found := validated(line)) is not None), None)


def _range(bounds: tuple[float, float]) -> str:
    return " to ".join(map(formatting.metric, bounds))
