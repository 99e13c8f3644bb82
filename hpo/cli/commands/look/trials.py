"""`hpo trials`: the trials of a study, as a table, CSV or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hpo import formatting
from hpo.cli import options, output
from hpo.cli.options import option
from hpo.cli.output import echo_text
from hpo.cli.types import NearestChoice
from objectives.runs.figures import plain

if TYPE_CHECKING:
    from hpo.study.results.trials import TrialRow

_FACTS = ("number", "state", "value", "epochs", "seconds", "attempts")


@click.command()
@options.study_option
@option(
    "--sort",
    type=NearestChoice(("number", "value", "seconds")),
    default="number",
    help="Order: by number, best value first, or longest first.",
)
@option("--csv", "as_csv", is_flag=True, show_default="off", help="Print CSV with numbers in full precision.")
@options.json_option
@options.storage_option
def trials(study: str, sort: str, as_csv: bool, as_json: bool, storage: str | None) -> None:
    """List a study's trials, with values, parameters and reasons.

    A parameter named like another column is in column param_NAME.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other", click.get_current_context())
    from hpo.study.results.trials import sorted_trials, trial_rows

    with options.opened(storage) as database:
        rows = sorted_trials(database, study, sort) if sort != "number" else trial_rows(database, study)
    if as_json:
        output.echo_json([row.to_json() for row in rows])
        return
    if as_csv:
        _echo_csv(rows)
    elif rows:
        _echo_table(rows)
    else:
        echo_text(f"study {study} has no trial yet")


def _columns(rows: Sequence[TrialRow]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the columns of figures and of parameters by their names."""
    from hpo.study.results.columns import of_figures, of_parameters

    figures = of_figures(dict.fromkeys(name for row in rows for name in row.figures))
    return figures, of_parameters((name for row in rows for name in row.params), figures.values())


def _echo_csv(rows: Sequence[TrialRow]) -> None:
    figures, names = _columns(rows)
    output.echo_csv(
        (*_FACTS, *figures.values(), *names.values(), "why", "note"),
        [
            (
                row.number,
                row.state,
                row.value,
                row.epochs,
                round(row.seconds, 3),
                row.attempts,
                *(row.figures.get(name) for name in figures),
                *(row.params.get(name) for name in names),
                row.why,
                row.note,
            )
            for row in rows
        ],
    )


def _echo_table(rows: Sequence[TrialRow]) -> None:
    """Print a column per parameter, or all parameters in one column if the terminal is too narrow."""
    figures, names = _columns(rows)
    facts = [
        (
            "" if row.number is None else str(row.number),
            row.state,
            formatting.metric(row.value),
            str(row.epochs),
            f"{row.seconds:.1f}",
            str(row.attempts),
            *(plain(row.figures[name]) if name in row.figures else "-" for name in figures),
        )
        for row in rows
    ]
    own = (*_FACTS, *figures.values())
    headers: tuple[str, ...] = (*own, *names.values(), "why")
    cells: list[tuple[str, ...]] = [
        (
            *fact,
            *(formatting.parameter(row.params[name]) if name in row.params else "" for name in names),
            _remarks(row),
        )
        for fact, row in zip(facts, rows, strict=True)
    ]
    if not output.fits(headers, cells):
        headers = (*own, "params", "why")
        cells = [
            (*fact, formatting.parameters(row.params), _remarks(row))
            for fact, row in zip(facts, rows, strict=True)
        ]
    output.echo_table(
        headers,
        cells,
        right=("number", "value", "epochs", "seconds", "attempts", *figures.values()),
        wrap=("params", "why"),
        drop=("attempts", "seconds", "epochs"),
    )


def _remarks(row: TrialRow) -> str:
    return "; ".join(filter(None, (row.why, row.note and f"note: {' '.join(row.note.split())}")))
