"""The selection among candidates in words, from its form in metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpo import formatting
from hpo.analysis.statistics import shown_deviation


def fresh_seeds(selection: Mapping[str, Any]) -> str:
    """Return the number of seeds of each candidate of a selection in metrics.json: `5 fresh seeds`."""
    some = "up to " if any(one.get("dropped") for one in selection["candidates"]) else ""
    return some + formatting.counted(len(selection["seeds"]), "fresh seed")


def selection_lines(selection: Mapping[str, Any]) -> list[str]:
    """Return one line for each candidate of a selection in metrics.json."""
    lines = []
    for candidate in selection["candidates"]:
        spread = candidate.get("standard_deviation")
        shown = candidate["failure"] or f"{formatting.metric(candidate['mean'])}" + (
            f" ± {shown_deviation(float(spread), float(candidate['mean']))}" if spread is not None else ""
        )
        value = candidate["search_value"]
        searched = "" if value is None else f" (in the search {formatting.metric(value)})"
        drop = candidate.get("dropped")
        end = ", chosen" if candidate["chosen"] else ""
        if drop:
            end = f", {drop_text({**drop, 'of': len(selection['seeds'])})}"
        lines.append(f"{named(candidate['trial'])}: {shown}{searched}{end}")
    return lines


def drop_text(drop: Mapping[str, Any]) -> str:
    """Return the end of a candidate in the race."""
    chance = drop["probability"]
    shown = "below 0.1 %" if chance < 0.001 else f"{100 * chance:.1f} %"
    return f"dropped after {drop['seeds']} of {drop['of']} seeds, because its chance to win was {shown}"


def named(trial: int | None) -> str:
    """Return the name of a candidate; one without a complete trial is the default configuration."""
    return "default configuration" if trial is None else f"trial {trial}"
