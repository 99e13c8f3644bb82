"""Lanes of `digits-cnn` from the command line: as many as were measured, and seeds of a retrain."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.acceptance.service import Service

SEARCH = (
    *("--objective", "digits-cnn", "--limit", 300, "--epochs", 1, "--workers", 1, "--seed", 3),
    *("--pruner", "none", "--sampler", "random", "--backend", "jax", "--lanes", "auto"),
)


def test_lanes_are_measured_once(service: Service) -> None:
    first = service.hpo("launch", "--study", "s", *SEARCH, "--trials", 2, timeout=240).clean()
    assert "--lanes auto: measuring how many trials of digits-cnn train fastest at once" in first.out
    assert " trial" in (chosen := line_of(first.out))
    assert "(images/s 1: " in chosen
    again = service.hpo("launch", "--study", "again", *SEARCH, "--trials", 2, timeout=240).clean()
    assert line_of(again.out).startswith(chosen.removesuffix(")"))
    assert ", measured 20" in line_of(again.out)
    assert "--lanes auto has chosen: digits-cnn: " in service.hpo("doctor").out
    assert service.value("SELECT count(*) FROM hpo.trials WHERE outcome = 'complete'") == 4


def line_of(text: str) -> str:
    """Return the line on the lanes that were chosen, from that on."""
    [found] = [line for line in text.splitlines() if "--lanes auto: " in line and "measuring" not in line]
    return found[found.index("--lanes auto: ") :]


def test_seeds_of_a_retrain_in_lanes_equal_those_of_processes(service: Service) -> None:
    service.hpo("launch", "--study", "s", *SEARCH[:-2], "--trials", 1, timeout=240).clean()
    alone = retrained(service, "--workers", 1)
    lanes = retrained(service, "--workers", 1, "--lanes", 2)
    assert len(lanes["slots"]) == 2
    assert all("/" in slot for slot in lanes["slots"])
    assert len(alone["slots"]) == 1
    runs = [found["runs"] for found in (lanes, alone)]
    assert [run["seed"] for run in runs[0]] == [run["seed"] for run in runs[1]]
    for mine, expected in zip(*runs, strict=True):
        assert mine["test_loss"] == pytest.approx(expected["test_loss"], rel=1e-3)


def retrained(service: Service, *options: Any) -> dict[str, Any]:
    """Retrain with two seeds and return the metrics."""
    service.hpo("retrain", "--study", "s", "--seeds", 2, *options, timeout=240).clean()
    found: dict[str, Any] = json.loads((service.folder / "results" / "s" / "metrics.json").read_text())
    return found
