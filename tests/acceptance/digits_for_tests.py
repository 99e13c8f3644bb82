"""`digits-cnn` that waits in epochs of TEST_HOLD, so that a test can interrupt them."""

from __future__ import annotations

from collections.abc import Iterator

from objectives.base import Params, Run
from objectives.shipped.digits_cnn import DigitsCNN
from tests.acceptance.fit_for_tests import hold
from tests.acceptance.objectives_for_tests import is_ending


class HeldDigits(DigitsCNN):
    """Waits at the beginning of an epoch until its run is asked to end or its process is killed."""

    def train(self, params: Params, run: Run) -> None:
        begun = run.epochs

        def epochs() -> Iterator[int]:
            for epoch in begun():
                hold(epoch, lambda: is_ending(run))
                yield epoch

        run.epochs = epochs  # type: ignore[method-assign]
        super().train(params, run)
