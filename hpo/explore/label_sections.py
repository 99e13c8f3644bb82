"""The section on labels: checks, and rows whose label may be wrong."""

from __future__ import annotations

from collections.abc import Sequence

from hpo import formatting
from hpo.document.document import Block, Gallery, Paragraph, Table
from hpo.explore import galleries
from hpo.explore.dataset import Dataset
from hpo.explore.duplicate_sections import MOST_GROUPS
from hpo.explore.duplicates import Place, few
from hpo.explore.judgement import Judgement
from hpo.explore.label_errors import ClassMeans
from hpo.explore.statistics import Balance


def checks(dataset: Dataset, balance: Balance | None, contradictions: Sequence[Sequence[Place]]) -> Table:
    """Return the outcomes of checks; `balance` is None where there are no classes."""
    rows = []
    if balance is not None:
        missing = [
            f"{split} has no {dataset.data.classes[label]}"
            for split, counts in balance.counts.items()
            for label, count in enumerate(counts)
            if count == 0
        ]
        rows.append(("every class in every split", "; ".join(missing[:MOST_GROUPS]) or "yes"))
    rows.append(
        (
            f"identical {dataset.noun} have the same {'target' if dataset.task == 'regression' else 'label'}",
            _describe_contradictions(dataset, contradictions),
        )
    )
    return Table(("check", "outcome"), rows)


def _describe_contradictions(dataset: Dataset, groups: Sequence[Sequence[Place]]) -> str:
    if not groups:
        return "yes"

    def shown(group: Sequence[Place]) -> str:
        places = [
            f"{place.split} {dataset.where(place.split, place.index)} ({dataset.label(place.label)})"
            for place in few(group, lambda place: place.label)
        ]
        return ", ".join(places) + (", …" if len(places) < len(group) else "")

    listed = "; ".join(map(shown, groups[:MOST_GROUPS]))
    more = "; …" if len(groups) > MOST_GROUPS else ""
    return f"no, in {formatting.counted(len(groups), 'group')}: {listed}{more}"


def suspects(dataset: Dataset, means: ClassMeans) -> Gallery | None:
    """Return the training images that resemble another class."""
    if not means.suspects:
        return None
    pictures = [
        galleries.at(
            dataset,
            "training",
            one.index,
            f"{dataset.data.classes[one.label]}, resembles {dataset.data.classes[one.nearest]},"
            f" {dataset.where('training', one.index)}",
        )
        for one in means.suspects
    ]
    caption = (
        "Training images much closer to the mean image of another class than to that of their own: often just"
        " unusual, sometimes mislabelled. The check is informative only if the nearest mean is usually right"
        f" (here for {100 * means.accuracy:.1f} % of the images). A retrained model judges better (--study)."
    )
    return Gallery("suspects", caption, pictures)


def judged(dataset: Dataset, judgement: Judgement) -> list[Block]:
    """Return the rows that a trained model contradicts most, first those that it has not seen."""
    target = "target" if dataset.task == "regression" else "label"
    rows = []
    for split, found in judgement.splits.items():
        seen = "seen in training" if found.seen else "not seen"
        rows.append((split, f"{found.rows:,}", seen, f"{100 * found.contradicted:.2f} %"))
    headers = ("split", dataset.noun, "by the model", f"{target}s contradicted")
    blocks: list[Block] = [
        Table(headers, rows, frozenset((headers[1], headers[3]))),
        Paragraph(
            f"Judged by {judgement.model}. It contradicts {judgement.rule}. A contradiction is a wrong {target} or the"
            f" model's mistake: look at each. {dataset.noun.capitalize()} that it has seen in training are judged too"
            f" mildly, because a model can learn wrong {target}s by heart; those that it has not seen are judged"
            f" fairly. Correct wrong {target}s of the test set, but do not leave its difficult {dataset.noun} out."
        ),
    ]
    for split, found in judgement.splits.items():
        if not found.suspects:
            continue
        seen = "seen in training" if found.seen else "not seen in training"
        caption = f"Most contradicted {target}s in {split} ({seen})"
        if dataset.is_images:
            pictures = [
                galleries.at(
                    dataset,
                    split,
                    one.index,
                    f"{one.given}, model: {one.predicted}, {one.score}, {dataset.where(split, one.index)}",
                )
                for one in found.suspects
            ]
            blocks.append(Gallery(f"judged-{split}", f"{caption}.", pictures))
        else:
            table = [
                (dataset.where(split, one.index), one.given, one.predicted, one.score)
                for one in found.suspects
            ]
            blocks.append(Table(("row", target, "model", "contradiction"), table, caption=f"{caption}."))
    return blocks
