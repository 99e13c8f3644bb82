"""The stages in which an objective is loaded, each either in the template or in every trainer."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
from optuna.distributions import BaseDistribution

from hpo.errors import HpoError
from hpo.trainer.template.data_digest import arrays_of
from hpo.trainer.template.messages import Load
from objectives import backend, loader
from objectives.base import Objective
from objectives.data.read_ahead import release
from objectives.description import Description
from objectives.device import Device
from objectives.keras_objective import KerasObjective
from objectives.spaces.space import stored_space
from objectives.values import text


class ObjectiveLoader:
    """An objective, as far as it has been loaded in this process."""

    def __init__(self, load: Load, objective: Objective | None = None) -> None:
        """`objective` is given if it has been prepared."""
        self.load = load
        self._cls: type[Objective] | None = None
        self._objective = objective
        self._inherited: dict[str, object] = {}

    @property
    def prepared(self) -> bool:
        """Whether everything was loaded before the fork."""
        return self._objective is not None

    def freeze(self) -> None:
        """Note, before a fork, the attributes that all trainers share, and release the pages of large arrays."""
        self.note_attributes()
        for array in arrays_of(self._objective):
            release(array)

    def note_attributes(self) -> None:
        """Note the attributes that the objective has, which `drop` leaves."""
        self._inherited = dict(getattr(self._objective, "__dict__", {}))

    def drop(self) -> None:
        """Release the attributes that this trainer has set: their files and the like are closed with them."""
        attributes = getattr(self._objective, "__dict__", {})
        for name in [name for name, value in attributes.items() if self._inherited.get(name) is not value]:
            del attributes[name]

    def import_class(self) -> type[Objective]:
        """Return the objective's class, imported before frameworks because its module may configure them.

        Raises:
            HpoError: the class cannot be imported.
        """
        if self._cls is None:
            # Its module may import Keras.
            backend.postpone_parts()
            self._cls = loader.load(self.load.objective)
            if self.load.modules:
                backend.before_import()
            for name in self.load.modules:
                # The objective's own import of it reports the reason.
                with suppress(ImportError):
                    importlib.import_module(name)
        return self._cls

    def describe(self) -> Description:
        """Return the declarations of the objective's class, with the digest of its code."""
        reference = self.load.objective
        cls = self.import_class()
        # The task that the data are given for decides on metric and direction.
        given = (
            partial(cls.describe, options=self.load.data) if issubclass(cls, KerasObjective) else cls.describe
        )
        return replace(given(reference), code=loader.code_digest(reference))

    def prepare(self) -> Objective:
        """Return the objective with its data loaded."""
        if self._objective is None:
            self._seed()
            objective = self.import_class()()
            objective.study_space = self._space()
            objective.prepare(self.load.data, self.load.final)
            self._objective = objective
        return self._objective

    def _space(self) -> Mapping[str, BaseDistribution] | None:
        space = self.load.space
        if not callable(space):
            return space
        # The agent refuses what cannot be narrowed.
        with suppress(HpoError):
            return space(stored_space(self.import_class().space))
        return None

    def describe_data(self) -> str:
        """Return the objective's line on its data; empty if it has not been loaded here."""
        # Only a line for display, so an error must not fail the objective.
        with suppress(Exception):
            return text(str(self._objective.describe_data())) if self._objective is not None else ""
        return ""

    def data_warning(self) -> str:
        """Return a line on a part that the data loaded here lack; empty if they are complete."""
        with suppress(Exception):
            return self._objective.data_warning() if isinstance(self._objective, KerasObjective) else ""
        return ""

    def _seed(self) -> None:
        """Let random numbers start from the same seed wherever data are loaded: all trials must train on the same.

        Generators of an objective's own are left alone; `data_digest` shows what they change.
        """
        seed = self.load.data.split_seed
        random.seed(seed)
        np.random.seed(seed % 2**32)

    def prepare_in_trainer(self, device: Device) -> Objective:
        """Return the objective with its data loaded, if need be in this trainer.

        Its threads and GPU memory are then those of the trainer's device.
        """
        if not self.prepared:
            seed = self.load.data.split_seed
            if issubclass(self.import_class(), KerasObjective):
                backend.before_import()
                backend.configure(device, seed)
            elif "keras" in sys.modules:
                sys.modules["keras"].utils.set_random_seed(seed % 2**32)
        return self.prepare()
