"""The exploration of a data set as a document."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from hpo.document.document import Block, Document, Paragraph, Section, Table
from hpo.document.parts import attempt, section
from hpo.explore import (
    duplicate_sections,
    file_sections,
    galleries,
    input_sections,
    label_sections,
    pixel_sections,
    statistics,
    target_sections,
)
from hpo.explore.dataset import Dataset
from hpo.explore.duplicates import Duplicates, Watch, find_duplicates
from hpo.explore.image_files import ImageFiles
from hpo.explore.judgement import Judgement
from hpo.explore.label_errors import ClassMeans, class_means
from hpo.explore.statistics import Balance, Channel

_TARGETS = {"classes": "Classes", "binary": "Classes", "labels": "Labels by split", "regression": "Targets"}
"""Title of the section on targets of each task."""
_SAMPLED = (
    "The {noun} are large: pixels, near-duplicates and suspicious labels are those of every {step}th one; files,"
    " targets and identical {noun} are those of all."
)
CLASSIFIED = ("classes", "binary")
"""Tasks in which a row has one class."""


class Exploration:
    """Findings on a data set, each computed when a part of the document needs it."""

    def __init__(
        self, dataset: Dataset, judgement: Judgement | None = None, watch: Watch = lambda *_: None
    ) -> None:
        self._dataset, self._watch = dataset, watch
        self.judgement = judgement
        """A trained model's judgement of the labels; None: there is no model."""

    @cached_property
    def balance(self) -> Balance | None:
        """Number of rows of each class in each split; None where rows have no class."""
        if self._dataset.task not in CLASSIFIED:
            return None
        labels = {name: y for name, (_, y) in self._dataset.splits.items()}
        return statistics.balance(labels, len(self._dataset.data.classes))

    @cached_property
    def channels(self) -> Sequence[Channel]:
        """Pixels of each channel of the training and the validation images."""
        splits = self._dataset.sampled
        return [
            one
            for name in ("training", "validation")
            if len(splits[name][0])
            for one in statistics.channels(name, splits[name][0])
        ]

    @cached_property
    def duplicates(self) -> Duplicates:
        """Identical and similar rows within and across the splits."""
        dataset = self._dataset
        return find_duplicates(dataset.splits, images=dataset.is_images, step=dataset.step, watch=self._watch)

    @cached_property
    def means(self) -> ClassMeans | None:
        """Mean image of each class, and images that resemble that of another; None where there are no such means."""
        if self.balance is None or not self._dataset.is_images:
            return None
        x, y = self._dataset.sampled["training"]
        return class_means(x, y, len(self._dataset.data.classes), self._dataset.step)


def build_exploration(dataset: Dataset, found: Exploration) -> Document:
    """Return the document."""
    counts = ", ".join(f"{len(y):,} {name}" for name, (_, y) in dataset.splits.items())
    title = f"{dataset.title}. " if dataset.title else ""
    summary = attempt("The shape of the inputs", lambda: input_sections.summary(dataset), str)
    status = [] if dataset.step == 1 else [_SAMPLED.format(noun=dataset.noun, step=dataset.step)]
    return Document(
        f"Data set {dataset.name}",
        f"{title}{counts} {summary}.",
        [
            *([] if dataset.files is None else _file_sections(dataset, dataset.files)),
            *section(_TARGETS[dataset.task], lambda: _targets(dataset, found)),
            *(_image_sections if dataset.is_images else _row_sections)(dataset, found),
            *section("Duplicates", lambda: duplicate_sections.duplicates(dataset, found.duplicates)),
            *section(
                "Labels",
                lambda: label_sections.checks(dataset, found.balance, found.duplicates.contradictions),
                lambda: _suspects(dataset, found),
            ),
            *section("Mean images", lambda: _mean_images(dataset, found)),
        ],
        "Written by hpo data explore. Machine-readable: statistics.json.",
        status,
    )


def _file_sections(dataset: Dataset, files: ImageFiles) -> list[Section]:
    return [
        *section(
            "Files",
            lambda: file_sections.formats(files),
            lambda: file_sections.sizes(files),
            lambda: file_sections.size_chart(files),
        ),
        *section("Unreadable files", lambda: file_sections.unreadable(files)),
        *section("Groups", lambda: file_sections.groups(dataset, files)),
    ]


def _targets(dataset: Dataset, found: Exploration) -> list[Block]:
    if found.balance is not None:
        return target_sections.classes(dataset, found.balance)
    return target_sections.labels(dataset) if dataset.task == "labels" else target_sections.numbers(dataset)


def _image_sections(dataset: Dataset, found: Exploration) -> list[Section]:
    return [
        *section("Examples", lambda: galleries.examples(dataset)),
        *section("Pixels", lambda: pixel_sections.pixels(dataset, found.channels)),
        *section(
            "Normalization",
            lambda: pixel_sections.normalization(dataset, found.channels),
            lambda: galleries.normalization(dataset),
        ),
        *section(
            "Augmentation",
            lambda: pixel_sections.augmentation(dataset),
            lambda: galleries.augmentations(dataset),
        ),
    ]


def _row_sections(dataset: Dataset, _: Exploration) -> list[Section]:
    return section("Inputs", lambda: input_sections.inputs(dataset))


def _suspects(dataset: Dataset, found: Exploration) -> list[Block]:
    if found.judgement is not None:
        return label_sections.judged(dataset, found.judgement)
    gallery = None if found.means is None else label_sections.suspects(dataset, found.means)
    return [] if gallery is None else [gallery]


def _mean_images(dataset: Dataset, found: Exploration) -> list[Block]:
    return [] if found.means is None else [galleries.mean_images(dataset, found.means)]


def terminal_blocks(document: Document) -> list[tuple[str, Sequence[Table | Paragraph]]]:
    """Return the tables and paragraphs of each section with a table."""
    found: list[tuple[str, Sequence[Table | Paragraph]]] = []
    for shown in document.sections:
        blocks = [block for block in shown.blocks if isinstance(block, Table | Paragraph)]
        if any(isinstance(block, Table) for block in blocks):
            found.append((shown.title, blocks))
    return found
