"""The speed of 1, 2, 4, … lanes on a device, measured in a process that trains nothing else."""

from __future__ import annotations

import traceback

from hpo.outcomes import Outcome
from hpo.trainer.ends.failures import message_of
from hpo.trainer.messages import Finished, LaneSpeed, Start
from hpo.trainer.pipe import TrainerPipe
from hpo.trainer.template.loading import ObjectiveLoader
from objectives import backend
from objectives.lanes.shape import NotLanedError
from objectives.lanes.width import measurements
from objectives.spaces.choices import declared


def measured(pipe: TrainerPipe, loaded: ObjectiveLoader, start: Start) -> Finished:
    """Measure and report numbers of lanes up to `start.most_lanes`, and return how that ended.

    Its outcome is `INFEASIBLE` if the configuration cannot train in a lane.
    """
    try:
        objective = loaded.prepare_in_trainer(start.device)
        params = declared(start.params, objective.space)
        for one in measurements(objective, params, device=start.device, most=start.most_lanes):
            pipe.send(LaneSpeed(one.width, one.images_per_second))
    except NotLanedError as exc:
        return Finished(Outcome.INFEASIBLE, str(exc))
    # Code of the user may raise anything.
    except BaseException as exc:  # noqa: BLE001
        traceback.print_exc()
        outcome = Outcome.OUT_OF_MEMORY if backend.is_out_of_memory(exc) else Outcome.BUG
        return Finished(outcome, message_of(exc))
    return Finished(Outcome.COMPLETE)
