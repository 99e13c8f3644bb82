"""Commands that look at studies and objectives: ls, status, trials, best, objectives."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from hpo import formatting
from hpo.cli import options, output
from hpo.cli.options import Duration, ObjectiveName, option

if TYPE_CHECKING:
    from hpo.study.status import StudyStatus
    from objectives.base import Description


@click.command()
@options.json_option
@options.storage_option
def ls(as_json: bool, storage: str | None) -> None:
    """List all studies, the newest first."""
    from hpo.study.catalog import list_studies

    with options.opened(storage) as database:
        found = list_studies(database)
    if as_json:
        output.echo_json([study.to_json() for study in found])
        return
    if not found:
        click.echo("no study yet; begin one: hpo launch --study digits-cnn --trials 12")
        return
    output.echo_table(
        ("study", "condition", "finished", "failed", "running", "best", "metric", "objective", "created"),
        [
            (
                study.name,
                study.condition,
                f"{study.finished}/{study.budget}",
                str(study.failed),
                str(study.running),
                formatting.metric(study.best_value),
                study.metric,
                _short_objective(study.objective),
                f"{study.created_at:%Y-%m-%d %H:%M}Z",
            )
            for study in found
        ],
        right=("finished", "failed", "running", "best"),
        wrap=("study", "objective"),
        drop=("created", "metric", "objective", "failed", "running"),
    )


def _short_objective(reference: str) -> str:
    """A reference without the folders of its file."""
    return reference.rpartition("/")[2]


@click.command()
@options.study_option
@option("--watch", is_flag=True, show_default="off", help="Show it anew until the study is finished.")
@option(
    "--every",
    metavar="TIME",
    type=Duration(),
    default="2s",
    help="How often --watch looks.",
)
@options.json_option
@options.storage_option
def status(study: str, watch: bool, every: float, as_json: bool, storage: str | None) -> None:
    """Show where a study stands.

    Trials of the total, the best so far, agents that are alive, and what runs now.
    With --watch and --json, one line of JSON each time.
    """
    from hpo.study.status import study_status

    with options.opened(storage) as database:
        if not watch:
            found = study_status(database, study)
            if as_json:
                output.echo_json(found.to_json())
            else:
                click.echo(_status_text(found))
            return
        while True:
            found = study_status(database, study)
            if as_json:
                output.echo_json(found.to_json(), indent=None)
            else:
                if output.on_terminal():
                    click.clear()
                click.echo(_status_text(found) + ("" if output.on_terminal() else "\n"))
            if found.condition in ("finished", "stopped"):
                return
            time.sleep(every)


def _status_text(found: StudyStatus) -> str:
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in found.outcomes.items())
    facts = [
        ("study", f"{found.name}: {found.condition}{_next_step(found)}"),
        ("objective", f"{found.objective}, {found.direction} {found.metric}"),
        (
            "trials",
            f"{found.finished} of {found.budget} finished, {found.running} running, {found.waiting} waiting, "
            f"{found.failed} failed" + (f" ({outcomes})" if outcomes else ""),
        ),
    ]
    if found.best_number is not None:
        best = f"{formatting.metric(found.best_value)} in trial {found.best_number}: "
        facts.append(("best", best + formatting.parameters(found.best_params)))
    mean = f", {found.mean_epochs:.1f} of {found.epochs_per_trial} a trial" if found.mean_epochs else ""
    facts.append(("epochs", f"{found.epochs_trained} trained{mean}"))
    left = f", about {formatting.duration(found.remaining_seconds)} left" if found.remaining_seconds else ""
    facts.append(("elapsed", f"{formatting.duration(found.elapsed_seconds)}{left}"))
    facts += [
        (
            "agent",
            f"{agent.host} pid {agent.pid}: {agent.slots} slot{'s' if agent.slots > 1 else ''}, "
            f"seen {formatting.duration(agent.seen_seconds)} ago",
        )
        for agent in found.agents
    ]
    facts += [
        (
            "expired",
            f"trial {row.number} after {formatting.counted(row.epoch, 'epoch')}:"
            f" the lease of {row.host} slot {row.slot} ran out {formatting.duration(row.seconds)} ago",
        )
        for row in found.expired
    ]
    if found.expired:
        facts.append(("", f"any agent resumes these trials: hpo launch --study {found.name}"))
    lines = [f"{name:<9}  {value}" for name, value in facts]
    if found.slots:
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
        lines += ["", *output.plain_table(headers, rows, ("running", "epoch", found.metric, "for", "slot"))]
    return "\n".join(lines)


def _next_step(found: StudyStatus) -> str:
    steps = {
        "finished": f" (next: hpo retrain --study {found.name}, or more --trials)",
        "idle": f" (no agent is alive; continue it: hpo launch --study {found.name})",
        "paused": f" (go on: hpo resume --study {found.name})",
        "stopped": f" (continue it: hpo launch --study {found.name})",
    }
    return steps.get(found.condition, "")


_TRIAL_FACTS = ("number", "state", "value", "epochs", "seconds", "attempts")


@click.command()
@options.study_option
@option(
    "--sort",
    type=options.NearestChoice(("number", "value", "seconds")),
    default="number",
    help="Order: by number, the best value first, or the longest first.",
)
@option("--csv", "as_csv", is_flag=True, show_default="off", help="Print CSV with numbers in full precision.")
@options.json_option
@options.storage_option
def trials(study: str, sort: str, as_csv: bool, as_json: bool, storage: str | None) -> None:
    """List a study's trials: values, parameters, why each ended."""
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other", click.get_current_context())
    from hpo.study.trials import sorted_trials, trial_rows

    with options.opened(storage) as database:
        rows = sorted_trials(database, study, sort) if sort != "number" else trial_rows(database, study)
    if as_json:
        output.echo_json([row.to_json() for row in rows])
        return
    names = list(dict.fromkeys(name for row in rows for name in row.params))
    headers = (*_TRIAL_FACTS, *names, "why")
    if as_csv:
        output.echo_csv(
            headers,
            [
                (
                    row.number,
                    row.state,
                    row.value,
                    row.epochs,
                    round(row.seconds, 3),
                    row.attempts,
                    *(row.params.get(name) for name in names),
                    row.why,
                )
                for row in rows
            ],
        )
        return
    if not rows:
        click.echo(f"study {study} has no trial yet")
        return
    facts = [
        (
            "" if row.number is None else str(row.number),
            row.state,
            formatting.metric(row.value),
            str(row.epochs),
            f"{row.seconds:.1f}",
            str(row.attempts),
        )
        for row in rows
    ]
    cells: list[tuple[str, ...]] = [
        (
            *fact,
            *(formatting.parameter(row.params[name]) if name in row.params else "" for name in names),
            row.why,
        )
        for fact, row in zip(facts, rows, strict=True)
    ]
    if not output.fits(headers, cells):
        headers = (*_TRIAL_FACTS, "params", "why")
        cells = [
            (*fact, formatting.parameters(row.params), row.why) for fact, row in zip(facts, rows, strict=True)
        ]
    output.echo_table(
        headers,
        cells,
        right=("number", "value", "epochs", "seconds", "attempts"),
        wrap=("params", "why"),
        drop=("attempts", "seconds", "epochs"),
    )


@click.command()
@options.study_option
@options.json_option
@options.storage_option
def best(study: str, as_json: bool, storage: str | None) -> None:
    """Show the best complete trial: value, parameters, metrics."""
    from hpo.study.trials import best_trial

    with options.opened(storage) as database:
        found = best_trial(database, study)
    if as_json:
        output.echo_json(found.to_json())
        return
    output.echo_facts(
        [
            ("study", f"{found.study} ({found.objective})"),
            ("trial", str(found.number)),
            (found.metric, f"{formatting.metric(found.value)} ({found.direction}d)"),
            ("epochs", str(found.epochs)),
            ("seed", str(found.seed)),
            *((name, formatting.parameter(value)) for name, value in found.params.items()),
        ]
    )
    others = " ".join(
        f"{name}={formatting.parameter(value) if name == 'learning_rate' else formatting.metric(value)}"
        for name, value in found.metrics.items()
        if name != found.metric
    )
    if others:
        click.echo(f"after its last epoch: {others}")
    click.echo(f"next: hpo retrain --study {study}, or hpo export --study {study}")


@click.command()
@click.argument("reference", metavar="[NAME]", required=False, type=ObjectiveName())
@options.json_option
def objectives(reference: str | None, as_json: bool) -> None:
    """Show what can be tuned: the shipped objectives, or one.

    NAME may also be package.module:Class or path/to/file.py:Class.
    """
    from objectives.loader import describe, names

    found = [describe(name) for name in ([reference] if reference else names())]
    if as_json:
        from hpo.search.spec import space_to_json

        output.echo_json(
            [
                {
                    "name": one.name,
                    "summary": one.summary,
                    "dataset": one.dataset,
                    "epochs": one.epochs,
                    "metric": one.metric,
                    "direction": one.direction,
                    "space": space_to_json(one.space),
                    "first": list(one.first),
                }
                for one in found
            ]
        )
        return
    for index, one in enumerate(found):
        if index:
            click.echo()
        _echo_objective(one)


def _echo_objective(one: Description) -> None:
    from hpo.search.space_format import in_words

    click.echo(f"{click.style(one.name, bold=True)}: {one.summary or 'no summary'}")
    click.echo(
        f"  data {one.dataset or 'of its own'}; {one.epochs} epoch{'s' if one.epochs != 1 else ''}; "
        f"{one.direction} {one.metric}"
    )
    width = max((len(name) for name in one.space), default=0)
    for name, distribution in one.space.items():
        click.echo(f"  {name.ljust(width)}  {in_words(distribution)}")
    for params in one.first:
        click.echo(f"  tried first: {formatting.parameters(params)}")


@click.command()
@options.study_option
@option(
    "--trial",
    "number",
    metavar="N",
    type=click.IntRange(min=0),
    show_default="all trials",
    help="Only the attempts of this trial.",
)
@option(
    "--follow",
    "-f",
    is_flag=True,
    show_default="end",
    help="Go on printing until the study or the trial ends.",
)
@options.storage_option
def logs(study: str, number: int | None, follow: bool, storage: str | None) -> None:
    """Show what trials printed, wherever they ran.

    The last 64 KiB of each attempt are kept.
    """
    from hpo.study.logs import follow_logs, read_logs

    with options.opened(storage) as database:
        if follow:
            for piece in follow_logs(database, study, number):
                click.echo(piece, nl=False)
            return
        for attempt in read_logs(database, study, number):
            click.echo(attempt.heading)
            if attempt.tail:
                click.echo(attempt.tail, nl=not attempt.tail.endswith("\n"))
