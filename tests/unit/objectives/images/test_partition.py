"""Splits of listings: stratified, seeded, without a group in two of them, and those of the source kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hpo.errors import DataDamagedError
from objectives.images.listing import Listing, Picture
from objectives.images.partition import SplitRules, partition

RULES = SplitRules(test_fraction=0.2, validation_fraction=0.1, seed=0)


def listing(*pictures: tuple[str, str | None, str | None]) -> Listing:
    """Return a listing of (label, split, group)."""
    return Listing(
        source=Path("photos"),
        folder=Path("photos"),
        pictures=[
            Picture(path=str(number), label=label, split=split, group=group)
            for number, (label, split, group) in enumerate(pictures)
        ],
    )


def counts(found: Listing, parts: dict) -> dict[str, list[int]]:
    labels = found.targets
    return {
        split: [Counter(labels[rows].tolist())[label] for label in range(len(found.classes))]
        for split, rows in parts.items()
    }


def test_splits_are_made_in_proportion_with_an_image_of_each_class():
    found = listing(*[("a", None, None)] * 100, *[("b", None, None)] * 50, *[("c", None, None)] * 3)
    parts = partition(found, RULES)
    assert counts(found, parts) == {"train": [73, 36, 1], "valid": [7, 4, 1], "test": [20, 10, 1]}
    assert sorted(row for rows in parts.values() for row in rows) == list(range(153))
    again, other = partition(found, RULES), partition(found, SplitRules(0.2, 0.1, 1))
    assert all((parts[split] == again[split]).all() for split in parts)
    assert set(parts["test"]) != set(other["test"])


@pytest.mark.parametrize("own", [{"test"}, {"valid"}, {"test", "valid"}])
def test_own_splits_are_kept_and_others_made(own):
    pictures = [(label, split, None) for label in "ab" for split in ("train", *own) for _ in range(20)]
    found = listing(*pictures)
    parts = partition(found, RULES)
    for split in own:
        assert {pictures[row][1] for row in parts[split]} == {split}
        assert len(parts[split]) == 40
    for split in {"test", "valid"} - own:
        assert {pictures[row][1] for row in parts[split]} == {"train"}
        assert min(counts(found, parts)[split]) > 0


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole_and_classes_in_proportion(seed):
    pictures = [
        (label, None, f"{label}{group}")
        for label in "abc"
        for group in range(12)
        for _ in range(1 + group % 4)
    ]
    found = listing(*pictures, *[("a", None, None)] * 10)
    parts = partition(found, SplitRules(0.2, 0.1, seed))
    of_split = {
        split: {pictures[row][2] for row in rows if row < len(pictures)} for split, rows in parts.items()
    }
    assert not of_split["train"] & of_split["test"]
    assert not of_split["train"] & of_split["valid"]
    assert not of_split["valid"] & of_split["test"]
    sums = counts(found, parts)
    for label in range(3):
        total = sum(sums[split][label] for split in sums)
        assert 0.1 <= sums["test"][label] / total <= 0.3
        assert 0.02 <= sums["valid"][label] / total <= 0.2


def test_three_groups_a_class_give_each_split_one():
    found = listing(
        *[(label, None, f"{label}{group}") for label in "ab" for group in range(3) for _ in range(5)]
    )
    assert set(map(tuple, counts(found, partition(found, RULES)).values())) == {(5, 5)}


def test_groups_that_leave_no_image_of_a_class_are_refused():
    found = listing(
        *[(label, None, f"{label}{group}") for label in "ab" for group in range(2) for _ in range(5)]
    )
    with pytest.raises(DataDamagedError, match=r"leaves no \w+ image of class a"):
        partition(found, RULES)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("task", ["labels", "regression"])
def test_tasks_without_classes_are_divided(task, grouped):
    labels = ["a", "a|b", ""] if task == "labels" else ["0.5", "1.5", "2.5"]
    pictures = [
        Picture(path=f"{n}.jpg", label=labels[n % 3], group=str(n // 3) if grouped else None)
        for n in range(90)
    ]
    found = Listing(source=Path("t.csv"), folder=Path(), pictures=pictures, task=task)
    parts = partition(found, SplitRules(0.2, 0.1, 0))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(90))
    assert len(parts["test"]) == pytest.approx(18, abs=1)
    if grouped:
        groups = [{n // 3 for n in part.tolist()} for part in parts.values()]
        assert sum(map(len, groups)) == 30
