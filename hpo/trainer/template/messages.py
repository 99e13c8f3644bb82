"""Messages between an agent and its template; those to the agent are JSON, see `template.pipe`.

agent --Load--> template --Described, Loading, Ready | LoadFailed | Unforkable--> agent
agent --Fork (+ one end of a pipe)--> template --Forked | NotForked, Exited--> agent
agent --Import--> template --ImportEnded--> agent
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from optuna.distributions import BaseDistribution

from objectives.base import DataOptions
from objectives.description import Description
from objectives.device import Device
from objectives.spaces.space import Space

StudySpace = Mapping[str, BaseDistribution] | Callable[[Space], Space] | None
"""Space of a study, or the function that narrows the declared one to it; None: the declared one."""


class Preload(Enum):
    """The part of an objective that a template loads before it forks; each trainer loads the rest itself."""

    ALL = "its class and its data"
    IMPORTS = "its class"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Load:
    """Import this objective and its data once."""

    objective: str
    data: DataOptions
    final: bool
    """Whether the test set is needed, for a retrain."""
    preload: Preload = Preload.ALL
    modules: tuple[str, ...] = ()
    """Modules to import after the class, because `prepare` is known to import them."""
    space: StudySpace = None
    """Space that the objective is loaded for."""


@dataclass(frozen=True)
class Described:
    """The objective's class is imported."""

    description: Description


@dataclass(frozen=True)
class Ready:
    """Trainers can be forked."""

    versions: Mapping[str, str]
    warning: str = ""
    """A line on a part that the loaded data lack; empty if they are complete."""
    notes: tuple[str, ...] = ()
    """Sentences on how the data were read."""


@dataclass(frozen=True)
class Loading:
    """Progress of loading."""

    stage: str
    done: int
    total: int
    """Number of rows in all; 0: not known."""


@dataclass(frozen=True)
class LoadFailed:
    """The objective or its data could not be loaded; the template ends."""

    error: str
    """Name of the `HpoError` class to raise."""
    message: str
    traceback: str = ""


@dataclass(frozen=True)
class Unforkable:
    """Loading has left something behind that trainers would not have after a fork; the template ends."""

    threads: str
    """Threads that run, as the subject of a sentence; empty: the data function has set variables."""
    preload: Preload
    """The part that the next template may load."""
    modules: tuple[str, ...] = ()
    """The modules that it may import."""
    variables: str = ""
    """Names of variables that the data function has set in its process, and that cannot be handed over."""


@dataclass(frozen=True)
class Fork:
    """Fork a trainer; its connection follows as a file descriptor."""

    serial: int
    """Number of the request, because slots are used again."""
    device: Device
    lanes: bool = False
    """Whether it trains several attempts at once: then its connection is that of a lane host."""


@dataclass(frozen=True)
class Import:
    """Import modules that trials import, before the next trainer is forked."""

    modules: tuple[str, ...]


@dataclass(frozen=True)
class ImportEnded:
    """The modules were imported; with a problem, no trainer can be forked any more, and the template ends."""

    problem: str = ""


@dataclass(frozen=True)
class Forked:
    """The trainer of a request was forked; its process id is that of its process group too."""

    serial: int
    pid: int


@dataclass(frozen=True)
class NotForked:
    """No process could be started for a request: the host's limit or memory is exhausted."""

    serial: int
    reason: str


@dataclass(frozen=True)
class Exited:
    """A trainer ended with an exit code, or minus the signal that killed it."""

    pid: int
    status: int


FromTemplate = (
    Described | Loading | Ready | LoadFailed | Unforkable | ImportEnded | Forked | NotForked | Exited
)
