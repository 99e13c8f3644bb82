"""Memory that a process gives back to the system."""

from __future__ import annotations

import sys

import pytest

from hpo.trainer.memory import give_back, private_bytes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from Linux' /proc")

PARTS, BYTES = 2000, 60_000
"""Too small for a mapping each, which would be given back at once."""


def test_freed_memory_below_what_is_still_used_is_given_back() -> None:
    parts = [b"x" * (BYTES + index) for index in range(PARTS)]
    before, last = private_bytes(), parts.pop()
    parts.clear()
    give_back()
    assert len(last) == BYTES + PARTS - 1
    assert before - private_bytes() > 0.8 * PARTS * BYTES


def test_objects_that_refer_to_each_other_are_given_back() -> None:
    parts: list[object] = [b"x" * (BYTES + index) for index in range(PARTS)]
    before, last = private_bytes(), parts.pop()
    parts.append(parts)
    del parts
    give_back()
    assert last
    assert before - private_bytes() > 0.8 * PARTS * BYTES
