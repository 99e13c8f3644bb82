"""`hpo objectives`: the shipped objectives, or one of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hpo import formatting
from hpo.cli import options, output
from hpo.cli.output import echo_text
from hpo.cli.types import OBJECTIVE
from objectives.trial_value import goal

if TYPE_CHECKING:
    from objectives.description import Description


_SIMPLE = ("name", "summary", "dataset", "epochs", "metric", "direction")


@click.command()
@click.argument("reference", metavar="[NAME]", required=False, type=OBJECTIVE)
@options.json_option
def objectives(reference: str | None, as_json: bool) -> None:
    """Show the shipped objectives, or one objective.

    NAME may also be package.module:Class or path/to/file.py:Class.
    """
    from objectives.loader import describe, names

    found = [describe(name) for name in ([reference] if reference else names())]
    if as_json:
        from hpo.search.spec import space_to_json

        output.echo_json(
            [
                {name: getattr(one, name) for name in _SIMPLE}
                | {"space": space_to_json(one.space), "first": list(one.first)}
                for one in found
            ]
        )
        return
    for index, one in enumerate(found):
        if index:
            echo_text()
        _echo_objective(one)


def _echo_objective(one: Description) -> None:
    from hpo.search.space import describe_parameter

    data = one.dataset or ("yours (--data)" if one.takes_images else "its own")
    echo_text(f"{click.style(one.name, bold=True)}: {one.summary or 'no summary'}")
    echo_text(
        f"  data {data}; {formatting.counted(one.epochs, 'epoch')}; "
        f"{goal(one.direction, one.metric, one.value)}"
    )
    space = [(f"  {name}", describe_parameter(one.space, name)) for name in one.space]
    for line in output.fact_lines(space):
        click.echo(line)
    for params in one.first:
        echo_text(f"  tried first: {formatting.parameters(params)}")
