"""The figures of a trial that its study asks for: a configuration that violates a constraint is never trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from objectives.errors import FigureUnknownError
from objectives.runs.figures import EPOCH_SECONDS, Constraint, ConstraintViolatedError, first_problem


class RequestedFigures:
    """The figures that a run was given, and the constraints on them."""

    def __init__(self, requested: Collection[str], constraints: Sequence[Constraint]) -> None:
        self._requested = requested
        self._constraints = constraints
        self._measured: dict[str, float] = {}
        self._problem = ""

    def keep(self, figures: Mapping[str, float], *, begins: bool) -> None:
        """Keep figures; those of a run that `begins` with epoch 1 must fulfil the constraints.

        Raises:
            ConstraintViolatedError: they do not.
        """
        self._measured.update(figures)
        if begins:
            self._problem = self._problem or first_problem(self._constraints, figures)
            self.check_accepted()

    def check_accepted(self) -> None:
        """Check that the configuration may train: code of the objective may have caught the error.

        Raises:
            ConstraintViolatedError: it may not.
        """
        if self._problem:
            raise ConstraintViolatedError(self._problem)

    def check(self, metrics: Mapping[str, object], *, begins: bool) -> None:
        """Check that a trial has all its figures, in its first report.

        Raises:
            FigureUnknownError: it lacks one, as all trials of the study do.
        """
        if not begins:
            return
        known = {*metrics, *self._measured, EPOCH_SECONDS}
        for name in self._requested:
            if name not in known:
                raise FigureUnknownError(
                    f"trials have no figure {name!r} for --constraint or --also-minimize, but"
                    f" {', '.join(sorted(known))}"
                )
