"""The mistakes of the final runs as a section: confusion matrix, scores of classes, and images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hpo import formatting
from hpo.analysis.confusion import class_scores, confused_pairs, pooled
from hpo.analysis.examples import examples_of
from hpo.document.charts import confusion_panel
from hpo.document.document import Block, Figure, Gallery, Paragraph, Picture, Section, Table
from hpo.document.parts import Part, section

MOST_CLASSES = 40
"""Largest number of classes with a readable confusion matrix; beyond it only the worst classes are listed."""


@dataclass(frozen=True)
class Mistakes:
    """The confusion matrix of all final runs together."""

    confusion: Sequence[Sequence[int]]
    names: Sequence[str]
    runs: int
    """Number of final runs."""
    noun: str
    """Name of the classified things: images, or examples."""

    @property
    def together(self) -> str:
        return "" if self.runs == 1 else f", {self.runs} seeds together"


def mistakes_section(metrics: Callable[[], Mapping[str, Any]]) -> list[Section]:
    """Return confusion matrix, classes, confused pairs and images; empty if the final runs recorded no matrix."""

    @cache
    def mistakes() -> Mistakes | None:
        return _mistakes(metrics())

    def part(show: Callable[[Mistakes], Block | None]) -> Part:
        return lambda: show(found) if (found := mistakes()) is not None else None

    return section(
        "Mistakes",
        part(_confusion),
        part(_class_table),
        part(_confused_pairs),
        part(lambda found: _wrong_images(found, metrics())),
    )


def _mistakes(metrics: Mapping[str, Any]) -> Mistakes | None:
    runs = metrics["runs"]
    confusions = [run["confusion"] for run in runs if run.get("confusion")]
    if not confusions:
        return None
    names = [str(name) for name in runs[0].get("classes") or range(len(confusions[0]))]
    return Mistakes(pooled(confusions), names, len(confusions), examples_of(runs[0]))


def _confusion(found: Mistakes) -> Figure | None:
    names = found.names
    if len(names) > MOST_CLASSES:
        return None
    once = "" if found.runs == 1 else f" Each counts once for each of the {found.runs} seeds."
    caption = f"Test {found.noun} by true and predicted class; shaded by the share of the true class.{once}"
    height, width = max(320, 90 + 34 * len(names)), 220 + 58 * len(names)
    panels = [confusion_panel("", found.confusion, names)]
    return Figure("confusion", caption, panels, height=height, width=width)


def _confused_pairs(found: Mistakes) -> Block:
    rows = [
        {
            "true": pair.true,
            "predicted": pair.predicted,
            found.noun: f"{pair.count / found.runs:.1f}" if found.runs > 1 else str(pair.count),
            "of the true class": f"{100 * pair.share:.1f} %",
        }
        for pair in confused_pairs(found.confusion, found.names)
    ]
    if not rows:
        return Paragraph(f"No test {found.noun.removesuffix('s')} was misclassified.")
    over = "" if found.runs == 1 else f", mean over {found.runs} seeds"
    caption = f"Most confused pairs of classes{over}."
    return Table.of(rows, text=["true", "predicted"], caption=caption)


def _wrong_images(found: Mistakes, metrics: Mapping[str, Any]) -> Gallery | None:
    images, wrong = metrics.get("detail", {}).get("wrong_images"), metrics["runs"][0].get("wrong")
    if not images or not wrong or not all(isinstance(png, str) for png in images):
        return None
    names = found.names
    pictures = [
        Picture(
            png,
            f"{names[one['predicted']]}, {100 * one['confidence']:.0f} %, true {names[one['true']]}, #{one['index']}",
        )
        for png, one in zip(images, wrong, strict=False)
    ]
    caption = (
        "Test images that the exported model misclassifies with the highest confidence: predicted class, "
        "confidence, true class and index in the test set."
    )
    return Gallery("confidently-wrong", caption, pictures)


def _class_table(found: Mistakes) -> Table:
    scores, subset = class_scores(found.confusion, found.names, found.runs), "Each class"
    if len(scores) > MOST_CLASSES:
        # A class without test images and predictions has no score.
        scores = sorted(scores, key=lambda one: 1.0 if one.f1 is None else one.f1)[:MOST_CLASSES]
        subset = f"The {MOST_CLASSES} classes with the lowest F1 of {len(found.names)}"
    rows = [
        {
            "class": one.name,
            "precision": formatting.metric(one.precision),
            "recall": formatting.metric(one.recall),
            "F1": formatting.metric(one.f1),
            found.noun: str(one.images),
        }
        for one in scores
    ]
    return Table.of(rows, text=["class"], caption=f"{subset}{found.together}; metrics.json has all of them.")
