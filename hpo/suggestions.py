"""Names that were mistyped, with the known ones nearest to them, and what a study's folders are called."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Up to `most` of the known names that look like `name`, the most alike first."""
    from difflib import get_close_matches

    by_folded = {candidate.casefold(): candidate for candidate in known}
    folded = name.casefold()
    close = get_close_matches(folded, by_folded, n=most, cutoff=0.55)
    # A beginning typed in full is a better guess than any likeness.
    starts = [key for key in by_folded if folded and key.startswith(folded)]
    return [by_folded[key] for key in dict.fromkeys([*starts, *close])][:most]


def folder_name(study: str, mark: str) -> str:
    """What the folders of a study are called: two databases may have one of the same name, and share a disk.

    The mark of a study that is older than marks is empty.
    """
    return f"{study}@{mark}" if mark else study


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean a or b?`, or nothing where no known name is near."""
    close = nearest(name, known)
    return f"; did you mean {' or '.join(close)}?" if close else ""
