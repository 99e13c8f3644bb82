"""The messages of `hpo retrain` about its configurations and results."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hpo import formatting
from hpo.export.config import Config
from hpo.retrain.model_use import loading_lines
from hpo.retrain.plan import Plan
from hpo.retrain.results import SeedResult, summaries
from hpo.retrain.selection import Selection
from hpo.retrain.selection_text import fresh_seeds, selection_lines

log = logging.getLogger(__name__)


def report_other_code(codes: Mapping[int, Collection[str]], code: str) -> None:
    """Log that a configuration's trial was trained with other code than the retrain; `codes` has those of each."""
    trials = [number for number, found in codes.items() if set(found) - {code}]
    if trials:
        earlier = ", ".join(sorted(set().union(*codes.values()) - {code}))
        log.warning(
            f"the objective's code has changed since {'trial' if len(trials) == 1 else 'trials'}"
            f" {formatting.ranges(trials)} ({earlier} -> {code}): the retrain may not repeat the search's result;"
            " hpo report shows which code trained which trial"
        )


def report_epochs(config: Config) -> None:
    """Log that the final runs train for longer than the trial did to its value."""
    if config.value_epoch is not None and config.epochs is not None and config.value_epoch < config.epochs:
        log.info(
            f"trial {config.trial} had its value after epoch {config.value_epoch}, and the final runs train up"
            f" to {formatting.counted(config.epochs, 'epoch')}: --epochs {config.value_epoch} ends them there"
        )


def report_selection(selection: Selection) -> None:
    """Log the results of the candidates."""
    shown, config = selection.to_json(), selection.winner
    limit = config.data.get("limit")
    fresh = fresh_seeds(shown)
    images = "all" if limit is None else f"{limit:,}"
    log.info(
        f"{shown['metric']} from {fresh}:"
        if config.epochs is None
        else f"{shown['metric']} on validation examples from {fresh}, {config.epochs}"
        f" epochs of {images} training examples:"
    )
    for line in selection_lines(shown):
        log.info(f"  {line}")


def report_results(plan: Plan, metric: str, results: Sequence[SeedResult], about: Mapping[str, Any]) -> None:
    """Log the final metrics, the folder of the results and the next step."""
    for name, interval in summaries(results, metric).items():
        if name.startswith("test_") or (name == f"final_{metric}" and not about["test_openings"]):
            log.info(f"{name}: {interval.describe()}", extra={"is_result": True})
    if plan.study is not None and about["test_openings"]:
        opened = formatting.times(about["test_openings"])
        log.info(f"test set: opened {opened} by retrains of study {plan.study.name}")
    log.info(f"results: {plan.folder}")
    if lines := loading_lines(results[0].recorded):
        log.info(f"model.keras holds code of your own: load it with {'; '.join(lines)}")
    if plan.study is not None:
        log.info(f"next: hpo report --study {plan.study.name}")
