"""Outcomes of trials and attempts, and the consequences of each."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The end of a trial or of one of its attempts, as the database stores it."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "oom"
    TIMED_OUT = "timed out"
    """The trial trained for longer than `--trial-timeout`; Optuna gets its last value, as of a pruned one."""
    INFEASIBLE = "infeasible"
    """The objective raised `Infeasible`: no model can be made from this configuration; or the trained trial violates a
    constraint."""
    REJECTED = "rejected"
    """The configuration violates a constraint of the study, which was known before it trained: it does not count."""
    BUG = "bug"
    LOST = "lost"
    """The trainer, or its agent, died too often."""
    HUNG = "hung"

    RELEASED = "released"
    """An attempt only: any agent resumes its trial."""
    PREEMPTED = "yielded"
    """A trainer's message only: it ended at a checkpoint because it was asked to."""
    MISFIT = "misfit"
    """A trainer's message only: the objective failed with its checkpoint before it completed another epoch. The run
    starts again from epoch 1."""
    DISK_FULL = "disk"
    """A trainer's message only: the host has no space left; the trial is not at fault."""

    @property
    def counts(self) -> bool:
        """Whether trials with this outcome count towards the budget, because samplers learn from them."""
        return self in COUNTED

    @property
    def is_infeasible(self) -> bool:
        """Whether the sampler should avoid such configurations, even if the trial reported good values."""
        return self in (Outcome.DIVERGED, Outcome.OUT_OF_MEMORY, Outcome.INFEASIBLE, Outcome.REJECTED)

    @property
    def optuna_state(self) -> str:
        """Name of the `optuna.trial.TrialState` that Optuna gets; samplers learn nothing from `FAIL`."""
        if self is Outcome.COMPLETE:
            return "COMPLETE"
        return "PRUNED" if self in SETTLED else "FAIL"


COUNTED = (
    Outcome.COMPLETE,
    Outcome.PRUNED,
    Outcome.DIVERGED,
    Outcome.OUT_OF_MEMORY,
    Outcome.TIMED_OUT,
    Outcome.INFEASIBLE,
)
"""Outcomes that count towards the budget, in the order in which they are shown."""

CUT_SHORT = COUNTED[1:]
"""Counted outcomes of trials that did not train to the end."""

SETTLED = (*COUNTED, Outcome.REJECTED)
"""Outcomes of which samplers learn, and after which a configuration is not tried again."""

FAILURES = (Outcome.BUG, Outcome.LOST, Outcome.HUNG)
"""Outcomes that do not count, limited by `max_failed`."""
