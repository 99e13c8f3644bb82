"""Known names nearest to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names that resemble `name`, best first."""
    from difflib import get_close_matches

    by_folded = {candidate.casefold(): candidate for candidate in known}
    folded = name.casefold()
    close = get_close_matches(folded, by_folded, n=3, cutoff=0.55)
    # A prefix is a better guess than any similarity.
    starts = [key for key in by_folded if folded and key.startswith(folded)]
    return [by_folded[key] for key in dict.fromkeys([*starts, *close])][:3]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean a or b?`, or an empty text if no known name is near."""
    close = nearest(name, known)
    return f"; did you mean {' or '.join(close)}?" if close else ""
