"""`hpo ablate`: an experiment with real processes."""

from __future__ import annotations

import csv
import json
import re

from tests.acceptance.service import OBJECTIVES, Service


def test_experiment_keeps_the_backend_of_its_study(searched: Service) -> None:
    searched.rows("UPDATE hpo.studies SET spec = jsonb_set(spec::jsonb, '{backend}', '\"jax\"')::json")
    refused = searched.hpo("ablate", "--study", "s", "--backend", "tensorflow", "--dry-run").complaint()
    assert "study 's' trains with jax, and --backend tensorflow would give its trials other" in refused
    refused = searched.hpo("ablate", "--study", "s", "--lanes", 2, "--memory-per-worker", "1G", "--dry-run")
    # One of them, where JAX is not installed.
    assert re.search(
        "--memory-per-worker limits a process|backend jax is not installed", refused.complaint(2)
    )


def test_experiment_trains_its_runs_and_a_larger_one_what_is_new(service: Service) -> None:
    service.hpo("launch", "--study", "s", "--objective", f"{OBJECTIVES}:Counted", "--trials", 1).clean()
    options = ("--study", "s", "--seeds", 2, "--epochs", 2, "--workers", 2)
    planned = service.hpo("ablate", *options, "--values", 3, "--dry-run").clean()
    assert "runs: 8 = 4 configurations x 2 seeds, of 2 epochs each" in planned.out
    assert [row.name for row in service.rows("SELECT name FROM hpo.studies")] == ["s"]

    done = service.hpo("ablate", *options, "--values", 3).clean()
    assert "does not use its seed" in done.out
    folder = service.folder / "results" / "s-ablation"
    assert json.loads((folder / "ablation.json").read_text())["finished"] == 8
    assert (folder / "report.html").exists()
    assert "is an experiment" in service.hpo("launch", "--study", "s-ablation", "--trials", 99).complaint()

    again = service.hpo("ablate", "--study", "s", "--values", 4).clean()
    assert "2 runs more than so far" in again.out
    rows = list(csv.DictReader((folder / "ablation.csv").read_text().splitlines()))
    assert [row["n"] for row in rows] == ["2"] * 5
    seeds = service.rows(
        "SELECT seed, count(*) AS runs FROM hpo.trials JOIN hpo.studies USING (study_id)"
        " WHERE name = 's-ablation' GROUP BY seed"
    )
    assert [row.runs for row in seeds] == [5, 5]
