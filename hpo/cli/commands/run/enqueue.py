"""`hpo enqueue`: a configuration to try next."""

from __future__ import annotations

import click

from hpo import formatting
from hpo.cli import options
from hpo.cli.options import option
from hpo.cli.output import echo_text


@click.command()
@options.study_option
@option(
    "--param",
    "-p",
    "params",
    metavar="NAME=VALUE",
    multiple=True,
    required=True,
    help="Value of a parameter, e.g. learning_rate=1e-3 or 'kernel=[3, 3]'. Repeatable; the sampler draws the others.",
)
@options.storage_option
def enqueue(study: str, params: tuple[str, ...], storage: str | None) -> None:
    """Enqueue a configuration, or a part of one, to try next.

    It is tried once, before and while agents run, in place of a trial that the sampler would propose, so it counts
    towards --trials. Trials that are prepared already and the objective's known good configurations come first.
    """
    from hpo.study.changes.enqueue import enqueue as enqueue_trial

    with options.opened(storage) as database:
        done = enqueue_trial(database, study, params)
    state = "is enqueued" if done.new else "is enqueued already"
    echo_text(f"trial {done.number} of {study} {state}: {formatting.parameters(done.params)}")
    if done.unknown:
        echo_text(
            f"no trial of {study} has had a parameter {', '.join(map(repr, done.unknown))} so far: check the spelling,"
            " because a value that the objective does not ask for has no effect"
        )
    if not done.left:
        echo_text(f"the budget of {study} is spent: extend it with hpo launch --study {study} --trials N")
