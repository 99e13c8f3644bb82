"""The modules that trials were seen to import, and that templates import for them."""

from __future__ import annotations

import logging

from hpo.trainer.messages import Imported

log = logging.getLogger(__name__)

MOST_ROUNDS = 3
"""Number of times that more modules are learnt: trials of other branches may import others."""


class LearntImports:
    """Modules that the trials of an objective import, as far as templates may import them."""

    def __init__(self, objective: str) -> None:
        self.modules: tuple[str, ...] = ()
        self.pending = False
        """Whether the template is importing them, and forks no trainers."""
        self._objective = objective
        self._rounds = MOST_ROUNDS
        self._problem = ""

    def add(self, found: Imported) -> bool:
        """Add the modules of a trial; return whether the template has something to change."""
        if found.obstacle:
            had_modules = bool(self.modules)
            self.give_up(found.obstacle)
            return had_modules
        new = tuple(name for name in found.modules if name not in self.modules)
        if self.pending or not self._rounds or not new:
            return False
        self._rounds -= 1
        self.modules += new
        return True

    def end(self, problem: str) -> bool:
        """Note that the template has imported them; return whether trainers can be forked from it."""
        if problem:
            self._problem = problem
            return False
        self.pending = False
        log.debug(f"trials of {self._objective} start with their modules imported: {', '.join(self.modules)}")
        return True

    def lose_template(self) -> None:
        """Note that the template has ended; if it was importing them, no other one tries to."""
        if self.pending:
            self.give_up(self._problem or "the process that imported them ended")

    def give_up(self, reason: str) -> None:
        """Leave the modules to each trial from now on."""
        if self._rounds or self.modules:
            log.debug(f"each trial of {self._objective} imports its modules itself: {reason}")
        self.modules, self.pending, self._rounds = (), False, 0
