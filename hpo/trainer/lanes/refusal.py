"""Whether a host may train several trials at once in one process."""

from __future__ import annotations

from hpo.errors import UsageError
from hpo.options.hosts import AgentOptions
from objectives import backend
from objectives.description import Description

_OR = "or leave --lanes and HPO_LANES out"


def check_lanes(options: AgentOptions) -> AgentOptions:
    """Check options that ask for a number of lanes, and return them.

    Raises:
        UsageError: lanes cannot work with the others, or with the backend of Keras.
    """
    if not _asks(options):
        return options
    if (used := backend.chosen()) != "jax":
        raise UsageError(
            f"--lanes {options.slots.lanes} needs JAX, and Keras uses {used}: add --backend jax, {_OR}"
        )
    if options.memory_bytes is not None:
        raise UsageError(
            "--memory-per-worker limits a process, and the trials of all lanes share one: leave it out,"
            f" {_OR}"
        )
    if options.fresh_processes:
        raise UsageError(f"--fresh-processes gives each trial a process of its own: leave it out, {_OR}")
    return options


def check_objective(options: AgentOptions, description: Description) -> Description:
    """Check that the trials of an objective can train in a number of lanes, and return its description.

    Raises:
        UsageError: lanes are asked for, and they cannot.
    """
    if _asks(options) and not description.builds_models:
        raise UsageError(
            f"{description.name} does not train by the loop of KerasObjective, which --lanes {options.slots.lanes}"
            f" needs: write build() in place of train(), {_OR}"
        )
    return description


def obstacle(options: AgentOptions, description: Description) -> str | None:
    """Return why `--lanes auto` gives each trial a process of its own, as the end of a sentence; None: it measures."""
    if (used := backend.chosen()) != "jax":
        return f"lanes need JAX, and Keras uses {used} (--backend jax)"
    if options.memory_bytes is not None:
        return "--memory-per-worker limits a process, and the trials of all lanes share one"
    if options.fresh_processes:
        return "--fresh-processes asks for it"
    if not description.builds_models:
        return f"{description.name} does not train by the loop of KerasObjective"
    return None


def _asks(options: AgentOptions) -> bool:
    lanes = options.slots.lanes
    return isinstance(lanes, int) and lanes > 1
