"""`hpo plan`: the cost of a search before it begins."""

from __future__ import annotations

import json

from tests.acceptance.service import OBJECTIVES, Service


def test_plan_leaves_nothing_behind_but_the_estimate_that_its_launch_stores(service: Service) -> None:
    options = ("--trials", 4, "--workers", 2, "--pruner", "none")
    objective = ("--study", "s", "--objective", f"{OBJECTIVES}:Counted")
    planned = service.hpo("plan", *objective, *options, "--json", "--timeout", "1h")
    assert planned.code == 0
    found = json.loads(planned.out)
    assert (found["trials"], found["slots"], found["epochs"], found["most_epochs"]) == (4, 2, 4, 16)
    assert found["params"] == {"x": 2.0, "letter": "a"}
    assert (found["fewest_trials_within_timeout"], found["most_trials_within_timeout"]) == (4, 4)
    assert found["trial_seconds"] > 0
    assert found["checkpoint_bytes"] > 0
    assert service.rows("SELECT * FROM hpo.studies") == []
    assert service.rows("SELECT * FROM public.studies") == []
    left = {path.name for path in (service.folder / "home").rglob("*") if path.is_file()}
    assert len(left - {"plan"}) == 1, left
    assert not list((service.folder / "checkpoints").rglob("*"))

    refused = service.hpo("plan", "--study", "s", "--objective", f"{OBJECTIVES}:Count")
    assert "Count" in refused.complaint()
    for words, reason in (
        (("--epochs", 0), "from 1"),
        (("--param", "y=1"), "y"),
        (("--engine", "ray"), "--engine"),
        (("--probe-time", "soon"), "soon"),
    ):
        assert reason in service.hpo("plan", *objective, *words).complaint(2)

    launched = service.hpo("launch", *objective, *options).clean()
    assert "the estimate of hpo plan is kept" in launched.out
    assert service.hpo("report", "--study", "s").code == 0
    report = json.loads((service.folder / "results" / "s" / "report.json").read_text())
    assert report["estimate"]["planned"]["most_epochs"] == report["estimate"]["search"]["epochs"] == 16
    assert "nothing is left to plan" in service.hpo("plan", "--study", "s").complaint(2)
    more = service.hpo("plan", "--study", "s", "--trials", 6, "--workers", 1)
    assert "search: 2 trials, 8 epochs" in more.out
    assert more.code == 0


def test_plan_of_a_broken_objective_prints_its_traceback(service: Service) -> None:
    service.set(TEST_ILL="bug")
    failed = service.hpo("plan", "--study", "s", "--objective", f"{OBJECTIVES}:Moody", "--param", "mood=fine")
    assert failed.code == 1
    assert failed.err.splitlines()[-1].startswith("hpo: the default configuration has failed with ValueError")
    assert "Traceback" in failed.err
    assert service.rows("SELECT * FROM hpo.studies") == []
