"""Values of parameters arrive as their space declares them, through every command."""

from __future__ import annotations

import csv
import io
import json

from tests.acceptance.hpo_commands import HpoCommands
from tests.acceptance.service import OBJECTIVES, Service


def test_choices_arrive_as_declared_in_every_command(service: Service, commands: HpoCommands) -> None:
    narrowed = ("--param", "state=(3,3),[5, 5]", "--param", 'value=1,"1",True,a,b')
    service.launched("Shaped", "--trials", 3, "--workers", 1, "--pruner", "none", *narrowed).clean()
    trials = json.loads(service.hpo("trials", "--study", "s", "--json").clean().out)
    assert {trial["state"] for trial in trials} == {"complete"}
    assert all(trial["params"]["state"] in ([3, 3], [5, 5]) for trial in trials)
    assert all(trial["params"]["value"] is not None for trial in trials)
    assert [tuple(trial["params"])[2:] for trial in trials] == [
        ("shape",),
        ("shape", "reduce"),
        ("depth", "shape", "reduce"),
    ]

    table = service.hpo("trials", "--study", "s", "--csv").clean().out
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["param_value"] for row in rows] == [str(trial["params"]["value"]) for trial in trials]
    assert [(row["shape"], row["reduce"], row["depth"]) for row in rows] == [
        ("ROUND", "", ""),
        ("FLAT", "max", ""),
        ("FLAT", "at_least", "2"),
    ]
    assert [float(row["value"]) for row in rows] == [trial["value"] for trial in trials]

    best = min(trials, key=lambda trial: (trial["value"], trial["number"]))
    service.hpo("export", "--study", "s", "--output", "train.py").clean()
    printed = service.python(commands, service.folder / "train.py").out
    assert f"loss = {best['value']}, as in the trial" in printed

    service.hpo("export", "--study", "s", "--output", "best.toml").clean()
    ended = service.hpo(
        "retrain", "--study", "s", "--config", "best.toml", "--seeds", 1, "--workers", 1
    ).clean()
    # The best trial's configuration is recognized.
    assert f"results: {service.folder / 'results' / 's'}\n" in ended.out
    found = json.loads((service.folder / "results/s/metrics.json").read_text())
    assert (found["params"], found["runs"][0]["test_loss"]) == (best["params"], 0.5)


def test_results_are_imported_and_noted(service: Service) -> None:
    prepare = ("launch", "--no-run", "--objective", f"{OBJECTIVES}:Kernels")
    service.hpo(*prepare, "--study", "s").clean()
    results = service.folder / "results.csv"
    results.write_text('value,param_state,param_value\n0.5,"(3, 3)","a,b"\n0.75,"[5, 5]",true\n')
    imported = service.hpo("import", "--study", "s", "results.csv").clean()
    assert "added 2 results to s (0 known already, 0 not complete)" in imported.out
    imported = service.hpo("import", "--study", "s", "results.csv").clean()
    assert "added 0 results to s (2 known already, 0 not complete)" in imported.out
    results.write_text('value,param_state,param_value\n0.5,"(3, 3)",1\n')
    refusal = service.hpo("import", "--study", "s", "results.csv").complaint()
    assert "parameter 'value' is '1', which may be" in refusal
    assert "use JSON" in refusal

    service.hpo("note", "--study", "s", "--trial", 1, "worth\na look").clean()
    assert "has no trial 9" in service.hpo("note", "--study", "s", "--trial", 9, "x").complaint(2)
    added = json.loads(service.hpo("trials", "--study", "s", "--json").clean().out)
    assert [(row["state"], row["params"], row["note"]) for row in added] == [
        ("added", {"state": [3, 3], "value": "a,b"}, ""),
        ("added", {"state": [5, 5], "value": True}, "worth\na look"),
    ]
    assert "note: worth a look" in service.hpo("trials", "--study", "s").clean().out
