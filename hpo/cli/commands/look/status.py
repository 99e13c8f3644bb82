"""`hpo status`: the state of one study, once or until it is finished."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from hpo import formatting
from hpo.cli import options, output
from hpo.cli.options import option
from hpo.cli.types import DURATION
from objectives.trial_value import goal

if TYPE_CHECKING:
    from hpo.study.monitoring.study_status import StudyStatus


@click.command()
@options.study_option
@option("--watch", is_flag=True, show_default="off", help="Refresh until the study is finished.")
@option(
    "--every",
    metavar="TIME",
    type=DURATION,
    default="2s",
    help="Interval of --watch.",
)
@options.json_option
@options.storage_option
def status(study: str, watch: bool, every: float, as_json: bool, storage: str | None) -> None:
    """Show the state of a study.

    Shows progress, the best trial so far, live agents and running trials. With --watch and --json, prints
    one line of JSON per interval.
    """
    from hpo.study.monitoring.status import study_status

    checkpoints = options.settings(storage).checkpoints
    with options.opened(storage) as database:
        while True:
            found = study_status(database, study, checkpoints)
            if as_json:
                output.echo_json(found.to_json(), indent=None if watch else 2)
            else:
                if watch and output.on_terminal():
                    click.clear()
                click.echo(_status_text(found) + ("\n" if watch and not output.on_terminal() else ""))
            if not watch or found.state in ("finished", "stopped"):
                return
            time.sleep(every)


def _status_text(found: StudyStatus) -> str:
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in found.outcomes.items())
    facts = [
        ("study", f"{found.name}: {found.state}{_next_step(found)}"),
        ("objective", f"{found.objective}, {goal(found.direction, found.metric, found.value_rule)}"),
        (
            "trials",
            f"{found.finished} of {found.budget} finished, {found.running} running"
            + (f", {found.prepared} prepared" if found.prepared else "")
            + (f", {found.paused} paused" if found.paused else "")
            + f", {found.waiting} waiting"
            + (f" ({found.enqueued} enqueued)" if found.enqueued else "")
            + ", "
            f"{found.failed} failed" + (f" ({outcomes})" if outcomes else ""),
        ),
    ]
    if len(found.codes) > 1:
        versions = ", ".join(
            f"{formatting.counted(number, 'trial')} with {code}" for code, number in found.codes.items()
        )
        facts.append(("code", f"changed: {versions} (hpo report shows which)"))
    if found.best_number is not None:
        best = f"{formatting.metric(found.best_value)} in trial {found.best_number}: "
        facts.append(("best", best + formatting.parameters(found.best_params)))
    if found.retrain is not None:
        facts.append(("retrain", str(found.retrain)))
    if found.learned_from:
        facts.append(("learned", f"from {found.earlier_studies}"))
    if found.tags:
        facts.append(("tags", ", ".join(found.tags)))
    if found.note:
        facts.append(("note", " ".join(found.note.split())))
    if found.better_added is not None:
        facts.append(("note", found.better_added))
    if found.trial_timeout_seconds is not None:
        facts.append(
            ("limit", f"a trial trains for at most {formatting.duration(found.trial_timeout_seconds)}")
        )
    if found.constraints:
        facts.append(("bounds", ", ".join(found.constraints)))
    if found.also_minimize is not None:
        front = f"{found.also_minimize} is minimized too: hpo best --study {found.name} --front"
        facts.append(("front", front))
    if found.goals is not None:
        from hpo.study.definition.goal_text import goal_text

        facts.append(("goal", goal_text(found.goals)))
    if found.noise is not None:
        from hpo.study.definition.goal_text import noise_text

        facts.append(("noise", noise_text(found.noise)))
    mean = f", {found.mean_epochs:.1f} of {found.epochs_per_trial} per trial" if found.mean_epochs else ""
    facts.append(("epochs", f"{found.epochs_trained} trained{mean}"))
    left = f", about {formatting.duration(found.remaining_seconds)} left" if found.remaining_seconds else ""
    facts.append(("elapsed", f"{formatting.duration(found.elapsed_seconds)}{left}"))
    facts += [
        (
            "agent",
            f"{agent.pid} on {agent.host} ({formatting.counted(agent.slots, 'slot')}): "
            f"last heartbeat {formatting.duration(agent.seen_seconds)} ago",
        )
        for agent in found.agents
    ]
    facts += [
        (
            "expired",
            f"trial {row.number} after {formatting.counted(row.epoch, 'epoch')}:"
            f" the lease of {row.host} slot {row.slot} expired {formatting.duration(row.seconds)} ago",
        )
        for row in found.expired
    ]
    if found.expired:
        facts.append(("", f"any agent resumes these trials: hpo launch --study {found.name}"))
    return "\n".join([*output.fact_lines(facts, least=9), *_running_table(found)])


def _running_table(found: StudyStatus) -> list[str]:
    if not found.slots:
        return []
    rows = [
        (
            str(slot.number) if slot.number is not None else "",
            f"{slot.epoch}/{found.epochs_per_trial}",
            formatting.metric(slot.metric),
            formatting.duration(slot.seconds),
            str(slot.slot),
            slot.device,
            slot.host,
        )
        for slot in found.slots
    ]
    headers = ("running", "epoch", found.metric, "for", "slot", "device", "host")
    return ["", output.table_text(headers, rows, headers[:5], drop=("device", "slot", "for"))]


def _next_step(found: StudyStatus) -> str:
    if found.state == "finished" and found.best_number is None:
        return f", and no trial is complete (hpo trials --study {found.name} shows why each ended)"
    use = "retrain" if found.has_test_set else "export"
    if found.state == "idle" and found.goals is not None and found.goals.reached == "epochs":
        return f" (next: hpo {use} --study {found.name}, or a larger --max-epochs)"
    next_step = (
        f"hpo report --study {found.name}" if found.is_experiment else f"hpo {use} --study {found.name}"
    )
    more = "" if found.is_experiment else ", or more --trials"
    steps = {
        "finished": f" (next: {next_step}{more})",
        "idle": f" (no agent is alive; continue it: hpo launch --study {found.name})",
        "paused": f" (continue it: hpo resume --study {found.name})",
        "stopped": f" (continue it: hpo launch --study {found.name})",
    }
    return steps.get(found.state, "")
