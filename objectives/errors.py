"""The errors by which a run ends, raised by its objective or by its report."""

from __future__ import annotations

import math
from collections.abc import Mapping


class MetricMissingError(Exception):
    """`Run.report` was called without the objective's metric, or not once in each epoch: fix the objective."""


class MetricUnknownError(MetricMissingError):
    """A report has other metrics than the objective's: no trial of the study can end otherwise."""


class FigureUnknownError(MetricMissingError):
    """The study bounds or minimizes a figure that its trials do not have: no trial of the study can end otherwise."""


class DivergedError(Exception):
    """A loss is not finite. Raise this error or report the value: both end the trial as diverged."""


class RunEndedError(BaseException):
    """The process has to end, in an objective without a loop over `Run.epochs`.

    No `Exception`, so that handlers of the objective let it pass.
    """


class LaneEndedError(BaseException):
    """The trial of a lane has been ended from outside, and its process goes on.

    No `Exception`, so that handlers of the objective let it pass.
    """


class FreshProcessError(Exception):
    """This model has to be trained in a process that has trained no other."""


class SharedFailureError(Exception):
    """What trains several lanes at once has failed: which of their trials is at fault, if one is, is not known."""


class Infeasible(Exception):
    """No model can be made from this configuration: the trial ends as infeasible, and the sampler avoids its like."""


def check_finite(metrics: Mapping[str, float], metric: str | None, epoch: int) -> None:
    """Raise DivergedError if the objective's metric, `loss` or `val_loss` is not finite after an epoch."""
    watched = dict.fromkeys([metric, "loss", "val_loss"])
    bad = [name for name in watched if name is not None and not math.isfinite(metrics.get(name, 0.0))]
    if bad:
        found = " and ".join(f"{name} is {metrics[name]}" for name in bad)
        raise DivergedError(f"{found} after epoch {epoch}")
