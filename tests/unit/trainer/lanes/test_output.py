"""What a lane's thread prints is in the log of its attempt, but for what it prints again later."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from hpo.trainer.lanes.output import LaneOutput, _OfThread


def test_what_is_printed_to_tell_a_shape_is_in_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, process = LaneOutput(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", _OfThread(output._lanes, process))
    with output.silent():
        print("dropped")
    with output.to(str(tmp_path / "log")):
        print("before")
        with pytest.raises(ZeroDivisionError), output.silent():
            print("dropped", 1 // 0)
        with output.silent():
            print("dropped")
        print("after")
    print("process")
    assert (tmp_path / "log").read_text() == "before\nafter\n"
    assert process.getvalue() == "process\n"
