"""The estimate of the time left."""

from __future__ import annotations

from hpo.terminal.pace import Pace


def test_estimate_excludes_loading_and_pauses() -> None:
    seconds = 0.0
    pace = Pace(lambda: seconds)
    assert pace.seconds_left(2, 18) is None
    seconds = 20.0
    pace.begin()
    assert pace.seconds_left(0, 20) is None
    seconds = 24.0
    pace.begin()
    assert pace.seconds_left(2, 18) == 36.0
    seconds = 34.0
    pace.exclude(10.0)
    assert pace.seconds_left(2, 18) == 36.0
