"""The section on duplicates, within splits and across them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hpo import formatting
from hpo.document.document import Block, Paragraph, Table
from hpo.explore import galleries
from hpo.explore.dataset import Dataset
from hpo.explore.duplicates import MOST_PLACES, NEIGHBOURS, SIMILAR, Duplicates, Place, few

MOST_GROUPS = 12
"""Largest number of groups of duplicates shown."""


def duplicates(dataset: Dataset, found: Duplicates) -> list[Block]:
    """Return the numbers of duplicates by split, the first ones as pictures, and how they were searched."""
    return [*_table(dataset, found), *_shown(dataset, found), Paragraph(_method(dataset, found), "note")]


def _table(dataset: Dataset, found: Duplicates) -> list[Block]:
    identical, near = found.groups_by_splits(), found.pairs_by_splits()
    pairs, rows = found.pairs, []
    places: list[tuple[str, ...]] = list(dict.fromkeys([*identical, *near]))
    for splits in sorted(places, key=lambda names: (len(names), names)):
        where = f"within {splits[0]}" if len(splits) == 1 else f"across {' and '.join(splits)}"
        rows.append((where, str(identical[splits]), "-" if pairs is None else str(near[splits])))
    rows = rows or [("anywhere", "0", "-" if pairs is None else "0")]
    headers = ("where", "identical groups", "near-duplicate pairs")
    text = _describe_leaks(dataset.noun, identical, None if pairs is None else near)
    return [Table(headers, rows, frozenset(headers[1:])), Paragraph(text)]


def _shown(dataset: Dataset, found: Duplicates) -> list[Block]:
    """Return the first duplicates: images as pictures, other rows by their numbers."""
    blocks: list[Block] = []
    if found.groups and not dataset.is_images:
        listed = [(_listed(dataset, group),) for group in _leaks_first(found.groups)[:MOST_GROUPS]]
        blocks.append(Table(("identical rows, first those in several splits",), listed))
    elif found.groups:
        caption = "Identical images, first those in several splits."
        groups = [
            (few(group, _split), f", one of {len(group):,}" if len(group) > MOST_PLACES else "")
            for group in _leaks_first(found.groups)[:MOST_GROUPS]
        ]
        blocks.append(galleries.at_places(dataset, groups, "identical", caption))
    if found.pairs:
        caption = (
            "Near-duplicates with their correlation, first those in several splits, in descending order."
        )
        first = sorted(
            found.pairs, key=lambda pair: (pair.first.split == pair.second.split, -pair.correlation)
        )
        shown = [((pair.first, pair.second), f", {pair.correlation:.3f}") for pair in first[:MOST_GROUPS]]
        blocks.append(galleries.at_places(dataset, shown, "near-duplicates", caption))
    return blocks


def _listed(dataset: Dataset, group: Sequence[Place]) -> str:
    places = [f"{place.split} {dataset.where(place.split, place.index)}" for place in few(group, _split)]
    return "; ".join(places) + (f"; … ({len(group):,} rows)" if len(places) < len(group) else "")


def _split(place: Place) -> str:
    return place.split


def _method(dataset: Dataset, found: Duplicates) -> str:
    if found.pairs is None:
        return "Rows are identical if all their inputs are; near-duplicates are searched among images only."
    files = ", after they got their common size" if dataset.files is not None else ""
    text = (
        f"Images are identical if all their pixels are{files}. Near-duplicates are images with a pixel correlation of"
        f" at least {SIMILAR}, regardless of brightness and contrast. Each image is compared with its {NEIGHBOURS}"
        " nearest images only; shifted, cropped or mirrored copies are not found. Simple images such as digits may"
        " correlate this much without being copies."
    )
    if found.step > 1:
        text += (
            f" Near-duplicates were searched among every {found.step}th image, identical images among all."
        )
    return text


def _describe_leaks(
    noun: str, identical: Counter[tuple[str, ...]], near: Counter[tuple[str, ...]] | None
) -> str:
    one = noun.removesuffix("s")
    leaks = sum(count for splits, count in identical.items() if len(splits) > 1)
    if leaks:
        return (
            f"{formatting.counted(leaks, one)} {'occurs' if leaks == 1 else 'occur'} in more than one"
            " split, so metrics on these copies are optimistic."
        )
    apart = f"No {one} occurs in more than one split"
    if near is None:
        return f"{apart}."
    alike = sum(count for splits, count in near.items() if len(splits) > 1)
    return (
        f"{apart}; {alike} near-duplicate pairs span two splits."
        if alike
        else f"{apart}, and no near-duplicates span two splits."
    )


def _leaks_first(groups: Sequence[Sequence[Place]]) -> list[Sequence[Place]]:
    return sorted(groups, key=lambda group: len({place.split for place in group}) == 1)
