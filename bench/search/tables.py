"""Read a table of learning curves from a study: `python -m bench.search.tables --study NAME [--study NAME2]`.

The study is one of the service, without a pruner. Further studies of the same objective add rows, such as the same
configurations from another seed. The database is only read.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import hpo
from bench.search.curves import FOLDER, CurveTable
from hpo.search.spec import StudySpec, default_params
from hpo.study.history import StudyHistory

Point = tuple[float, float, float]
"""Metric, validation loss and seconds of an epoch."""


def table_of(histories: list[StudyHistory], name: str) -> CurveTable:
    """Return the curves of all complete trials.

    Raises:
        ValueError: the studies differ in objective, metric, epochs or space, or no trial is complete.
    """
    specs = [StudySpec.from_json(history.study.spec_json) for history in histories]
    first = specs[0]
    if any(
        (spec.objective, spec.metric, spec.epochs, spec.space)
        != (first.objective, first.metric, first.epochs, first.space)
        for spec in specs
    ):
        raise ValueError("the studies differ in objective, metric, epochs or space: export them one by one")
    if first.epochs is None:
        raise ValueError("the objective's epochs are not known: a table needs trials of equal length")
    rows = [
        (spec.seed, params, curve)
        for spec, history in zip(specs, histories, strict=True)
        for params, curve in _complete(history, first)
    ]
    if not rows:
        raise ValueError("no trial is complete: wait for the first one")
    return CurveTable(
        name=name,
        objective=first.objective,
        metric=first.metric,
        direction=first.direction,
        space=first.space,
        first=default_params(histories[0].study.spec_json) or {},
        asked=sum(history.study.budget for history in histories),
        limit=first.data.limit,
        configurations=np.array(
            [
                [dist.to_internal_repr(params[key]) for key, dist in first.space.items()]
                for _, params, _ in rows
            ]
        ),
        seeds=np.array([seed for seed, _, _ in rows]),
        values=np.array([[point[0] for point in curve] for _, _, curve in rows]),
        losses=np.array([[point[1] for point in curve] for _, _, curve in rows]),
        seconds=np.array([[point[2] for point in curve] for _, _, curve in rows]),
    )


def _complete(history: StudyHistory, spec: StudySpec) -> Iterator[tuple[Mapping[str, Any], list[Point]]]:
    """Yield the configuration and the epochs of each complete trial."""
    for trial in history.trials:
        rows = history.curves.get(trial.number or 0, [])
        if trial.state == "complete" and len(rows) == spec.epochs:
            yield (
                trial.params,
                [
                    (
                        row.metrics.get(spec.metric, math.nan),
                        row.metrics.get("val_loss", math.nan),
                        row.seconds,
                    )
                    for row in rows
                ],
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", action="append", required=True, help="name of a study; repeatable")
    parser.add_argument("--name", help="name of the table; by default, that of the objective")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    histories = [hpo.load_study(name).history() for name in options.study]
    name = options.name or StudySpec.from_json(histories[0].study.spec_json).objective
    table = table_of(histories, name)
    path = table.save(options.folder)
    state = f"partial, of {table.asked}" if table.partial else "all"
    print(
        f"{path}: {len(table.values)} configurations ({state}) of {table.epochs} epochs, {path.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main()
