"""`hpo best`: the best complete trial of a study."""

from __future__ import annotations

import click

from hpo import formatting
from hpo.cli import options, output
from hpo.cli.options import option
from hpo.cli.output import echo_text
from objectives.runs.figures import SPEED, plain


@click.command()
@options.study_option
@option(
    "--front",
    is_flag=True,
    show_default="off",
    help="Show the trials of which none is better both in the metric and in the figure of --also-minimize.",
)
@options.json_option
@options.storage_option
def best(study: str, front: bool, as_json: bool, storage: str | None) -> None:
    """Show the best complete trial: value, parameters, metrics."""
    from hpo.study.results.best_trials import best_trial

    if front:
        _echo_front(study, as_json, storage)
        return
    with options.opened(storage) as database:
        found = best_trial(database, study)
    if as_json:
        output.echo_json(found.to_json())
        return
    own = ("study", "trial", "epochs", "seed", "speed")
    [metric] = formatting.apart([found.metric], own, "metric_").values()
    names = formatting.apart(found.params, (*own, metric), "param_")
    output.echo_facts(
        [
            ("study", f"{found.study} ({found.objective})"),
            ("trial", str(found.number)),
            (metric, f"{formatting.metric(found.value)} ({found.direction}d{_of_epoch(found.value_epoch)})"),
            ("epochs", str(found.epochs)),
            ("seed", str(found.seed)),
            *(
                (("speed", f"{speed:,.0f} images/s"),)
                if (speed := found.metrics.get(SPEED)) is not None
                else ()
            ),
            *((names[name], formatting.parameter(value)) for name, value in found.params.items()),
        ]
    )
    others = " ".join(
        f"{name}={formatting.parameter(value) if name == 'learning_rate' else formatting.metric(value)}"
        for name, value in found.metrics.items()
        if name not in (found.metric, SPEED)
    )
    if others:
        epoch = "its last epoch" if found.value_epoch is None else f"epoch {found.value_epoch}"
        echo_text(f"after {epoch}: {others}")
    if found.better_added is not None:
        echo_text(f"note: {found.better_added}")
    retrain = f"hpo retrain --study {study}, or " if found.has_test_set else ""
    echo_text(f"next: {retrain}hpo export --study {study}")


def _of_epoch(epoch: int | None) -> str:
    return "" if epoch is None else f", after epoch {epoch}"


def _echo_front(study: str, as_json: bool, storage: str | None) -> None:
    from hpo.study.results.front import read_front

    with options.opened(storage) as database:
        found = read_front(database, study)
    if as_json:
        output.echo_json([trial.to_json() for trial in found.trials])
        return
    names = dict.fromkeys(name for trial in found.trials for name in trial.params)
    headers = ("trial", *formatting.apart((found.metric, found.figure), ("trial",), "metric_").values())
    output.echo_table(
        (*headers, *formatting.apart(names, headers, "param_").values()),
        [
            (
                str(trial.number),
                formatting.metric(trial.value),
                plain(trial.figures[found.figure]),
                *(formatting.parameter(trial.params[name]) if name in trial.params else "" for name in names),
            )
            for trial in found.trials
        ],
        right=headers,
    )
    echo_text(
        f"next: hpo retrain --study {study} --trial N or hpo export --study {study} --trial N, with the trial that you"
        " choose"
    )
