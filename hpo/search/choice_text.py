"""Texts of choices: as they are printed, written after `--param`, and read from cells of a file.

A text is read as a literal of JSON or Python if it is the literal of a choice, else as a string. So `1` is the number
where a space has both 1 and "1", and `"1"`, with its quotes, is the string.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution

from hpo import formatting
from objectives.literals import FOLDED, literals
from objectives.spaces.choices import position
from objectives.spaces.references import full_name, is_reference


def labels(distribution: CategoricalDistribution) -> list[str]:
    """Return a short text for each choice, no two the same."""
    short = [formatting.parameter(choice) for choice in distribution.choices]
    return short if len(set(short)) == len(short) else written(distribution)


def label(distribution: CategoricalDistribution, value: Any) -> str:
    """Return the text of a choice among `labels`."""
    place = position(distribution, value)
    return formatting.parameter(value) if place is None else labels(distribution)[place]


def written(distribution: CategoricalDistribution) -> list[str]:
    """Return a text for each choice, which `read_one` and `read_several` read as that choice."""
    return [_written(distribution, place) for place in range(len(distribution.choices))]


def _written(distribution: CategoricalDistribution, place: int) -> str:
    choice = distribution.choices[place]
    if is_reference(choice):
        short = formatting.parameter(choice)
        return short if read_several(distribution, short) == [(place,)] else full_name(choice)
    if (
        isinstance(choice, str)
        and choice
        and choice == choice.strip()
        and read_several(distribution, choice) == [(place,)]
    ):
        return choice
    return json.dumps(choice, ensure_ascii=False) if isinstance(choice, str | list | dict) else repr(choice)


def read_one(distribution: CategoricalDistribution, text: str) -> int | None:
    """Return the index of the choice that a text names, None if it names none."""
    return next(_meanings(distribution, text), None)


def read_cell(distribution: CategoricalDistribution, cell: str) -> list[int]:
    """Return the indices of the choices that a cell of a CSV file may stand for: it shows no types."""
    found = list(_meanings(distribution, cell))
    for place, choice in enumerate(distribution.choices):
        if isinstance(choice, str) and formatting.csv_cell(choice) == cell:
            found.append(place)
        if choice is None and not cell:
            found.append(place)
    return list(dict.fromkeys(found))


def read_several(distribution: CategoricalDistribution, text: str) -> list[tuple[int, ...]]:
    """Return the ways to read a text as choices between commas, at most two; choices may hold commas themselves."""
    return _ways(distribution, text.split(","))[-1]


def unread(distribution: CategoricalDistribution, text: str) -> str:
    """Return the first part of a text that names no choice."""
    parts = text.split(",")
    ways = _ways(distribution, parts)
    first = max(end for end, found in enumerate(ways[:-1]) if found)
    opened = parts[first].strip().startswith(("[", "(", "{", '"', "'"))
    return (",".join(parts[first:]) if opened else parts[first]).strip()


def _ways(distribution: CategoricalDistribution, parts: Sequence[str]) -> list[list[tuple[int, ...]]]:
    """Return for each number of leading parts at most two ways to read them as choices."""
    longest = 2 + max(str(choice).count(",") for choice in distribution.choices)
    ways: list[list[tuple[int, ...]]] = [[()]]
    for end in range(1, len(parts) + 1):
        found: dict[tuple[int, ...], None] = {}
        for start in range(max(0, end - longest), end):
            if ways[start]:
                place = read_one(distribution, ",".join(parts[start:end]).strip())
                if place is not None:
                    found |= dict.fromkeys((*way, place) for way in ways[start])
        ways.append(list(found)[:2])
    return ways


def _meanings(distribution: CategoricalDistribution, text: str) -> Iterator[int]:
    """Yield the indices of the choices that a text may name, the likeliest first."""
    found = False
    for values in (literals(text), (text,)):
        for value in values:
            place = position(distribution, value)
            if place is not None:
                found = True
                yield place
    if found:
        return
    folded = text.strip().casefold()
    place = position(distribution, FOLDED[folded]) if folded in FOLDED else None
    short = [formatting.parameter(choice) for choice in distribution.choices]
    named = [place for place, choice in enumerate(distribution.choices) if _is_named(choice, text)]
    if place is not None:
        yield place
    elif named:
        yield from named if len(named) == 1 else ()
    elif short.count(text) == 1:
        yield short.index(text)


def _is_named(choice: Any, text: str) -> bool:
    """Return whether a text is the name of an object, or the end of it: `keras.activations.relu` or `relu`."""
    return is_reference(choice) and f".{full_name(choice)}".endswith(f".{text}")
