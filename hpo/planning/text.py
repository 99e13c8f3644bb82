"""A planned search as lines of text and as JSON."""

from __future__ import annotations

from typing import Any

from hpo import formatting
from hpo.planning.plan import Planned
from hpo.study.estimates import Estimate


def lines_of(planned: Planned) -> list[str]:
    """Return the estimate for people."""
    estimate = planned.estimate
    lines = [
        f"default configuration: {formatting.parameters(planned.params)}",
        _trial(planned),
        *_memory(estimate),
        _search(planned),
    ]
    if planned.affordable is not None and planned.timeout_seconds is not None:
        fewest, most = planned.affordable
        lines.append(
            f"--timeout {formatting.duration(planned.timeout_seconds)}: {_range(str(fewest), str(most))} of"
            f" {formatting.counted(estimate.trials, 'trial')} can finish"
        )
    if planned.stops_early:
        lines.append("a goal (--target, --patience, --stop-when-flat) may end the search earlier")
    lines.append("Other configurations may take more or less; this one stands for all of them.")
    lines.append(
        "next: hpo launch with the same options; hpo report then compares this estimate with the search"
    )
    return lines


def json_of(planned: Planned) -> dict[str, Any]:
    """Return the estimate for programs."""
    fewest, most = planned.affordable or (None, None)
    return {
        "study": planned.study,
        "objective": planned.objective,
        "params": planned.params,
        **planned.estimate.to_json(),
        "ended_after_epoch": planned.ended_after,
        "timeout_seconds": planned.timeout_seconds,
        "fewest_trials_within_timeout": fewest,
        "most_trials_within_timeout": most,
    }


def _trial(planned: Planned) -> str:
    estimate, shown = planned.estimate, formatting.duration
    busy = formatting.counted(estimate.slots, "slot")
    if estimate.epochs is None:
        return f"trial: {shown(estimate.trial_seconds)}, with {busy} busy"
    counted = formatting.counted(estimate.epochs, "epoch")
    by = (
        f"median of {formatting.counted(estimate.measured_epochs, 'epoch')}"
        if estimate.measured_epochs
        else "from a part of the first epoch"
    )
    line = (
        f"trial: {shown(estimate.trial_seconds)} = {shown(estimate.start_seconds)} to start + {counted} of"
        f" {formatting.fine_duration(estimate.epoch_seconds)} ({by}, with {busy} busy)"
    )
    if planned.ended_after is not None and planned.ended_after < estimate.epochs:
        line += f"; this one ended itself after epoch {planned.ended_after}"
    return line


def _memory(estimate: Estimate) -> list[str]:
    fit = estimate.slots_that_fit
    if fit is None or estimate.trial_bytes is None or estimate.shared_bytes is None:
        return ["memory: not measured, because the probe was too short"]
    size = formatting.size
    room = f"room for {formatting.counted(fit, 'trial')} at a time"
    if fit < estimate.slots:
        room += f", not for {estimate.slots}: use fewer --workers"
    lines = [
        f"memory: {size(estimate.trial_bytes)} for each trial, {size(estimate.shared_bytes)} for all together,"
        f" {size(estimate.free_bytes)} free: {room}"
    ]
    if estimate.checkpoint_bytes:
        lines.append(f"checkpoints: {size(estimate.checkpoint_bytes)} for each trial that trains or waits")
    return lines


def _search(planned: Planned) -> str:
    estimate, shown = planned.estimate, formatting.duration
    spent = _range(shown(estimate.least_seconds), shown(estimate.most_seconds))
    epochs = ""
    if estimate.most_epochs is None and planned.pruner != "none":
        # How much the pruner leaves of them is not known either.
        spent = f"up to {spent}"
    if estimate.most_epochs is not None:
        least, most = f"{estimate.least_epochs:,}", f"{estimate.most_epochs:,}"
        epochs = f"{_range(least, most)} {'epoch' if most == '1' else 'epochs'}, "
    reason = f" (the less, the more the pruner {planned.pruner} ends early)" if " to " in epochs else ""
    return (
        f"search: {formatting.counted(estimate.trials, 'trial')}, {epochs}{spent} on"
        f" {formatting.counted(estimate.slots, 'slot')}{reason}, after {shown(estimate.load_seconds)} to load"
    )


def _range(least: str, most: str) -> str:
    return most if least == most else f"{least} to {most}"
