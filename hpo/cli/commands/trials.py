"""`hpo trials`: the trials of a study, as a table, CSV or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hpo import formatting
from hpo.cli import options, output
from hpo.cli.options import option

if TYPE_CHECKING:
    pass

_TRIAL_FACTS = ("number", "state", "value", "epochs", "seconds", "attempts")


@click.command()
@options.study_option
@option(
    "--sort",
    type=options.NearestChoice(("number", "value", "seconds")),
    default="number",
    help="Order: by number, best value first, or longest first.",
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
