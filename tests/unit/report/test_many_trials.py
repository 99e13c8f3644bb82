"""Charts of very many trials draw a part of them, so that pages stay small."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hpo.report import learning_curves, parameter_sections, search_sections
from hpo.report.trial_axes import MOST_POINTS
from tests.unit.made_trials import compared

COUNT = 3 * MOST_POINTS


def points(panel: Any) -> int:
    return sum(len(series.points) for series in panel.series)


def test_charts_of_parameters_draw_an_even_choice_by_rank() -> None:
    comparison = compared(COUNT, 0, lambda params: params["dropout"])
    slices = parameter_sections._slices(comparison)
    assert slices is not None
    assert {points(panel) for panel in slices.panels} == {MOST_POINTS}
    values = [one.value for one in comparison.trials]
    shown = {point.y for series in slices.panels[0].series for point in series.points}
    assert {min(values), max(values)} <= shown
    parallel = search_sections._parallel(comparison)
    assert parallel is not None
    names = len(comparison.varied)
    assert points(parallel.panels[0]) == MOST_POINTS * (names + 2)
    left_out = f" {MOST_POINTS} of {COUNT:,} trials are drawn, chosen evenly by rank."
    assert slices.caption.endswith(left_out)
    assert parallel.caption.endswith(left_out)


def test_long_learning_curves_have_fewer_points_and_their_ends() -> None:
    epochs = 3 * learning_curves.MOST_POINTS - 1
    rows = [SimpleNamespace(epoch=epoch, metrics={"val_loss": 1 / epoch}) for epoch in range(1, epochs + 1)]
    trial = SimpleNamespace(
        number=0, state="complete", epochs=epochs, params={}, value=rows[-1].metrics["val_loss"]
    )
    study = SimpleNamespace(metric="val_loss", maximize=False, spec_json={"epochs": epochs})
    history: Any = SimpleNamespace(
        study=study, best=trial, trials=[trial], complete=[trial], curves={0: rows}
    )
    figure = learning_curves.curves(history)
    [line] = figure.panels[0].series
    drawn = [point.x for point in line.points if point.x is not None]
    assert len(drawn) == learning_curves.MOST_POINTS
    assert drawn[-1] == epochs
    assert "One of 3 epochs is drawn." in figure.caption
