"""The pipe of a lane's attempt, whose agent may close it before the attempt has noticed."""

from __future__ import annotations

from multiprocessing import Pipe

import pytest

from hpo.trainer.lanes.lane_run import LanePipe
from hpo.trainer.messages import Tick
from objectives.errors import LaneEndedError


def test_message_that_finds_the_pipe_closed_ends_the_attempt_and_is_no_error_of_its_own() -> None:
    agent, lane = Pipe()
    pipe = LanePipe(lane)
    pipe.send(Tick(1, 0.0, 0.0))
    agent.close()
    with pytest.raises(LaneEndedError):
        pipe.send(Tick(1, 0.5, 0.0))
    lane.close()
