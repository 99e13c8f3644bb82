"""Studies, checkpoints, configurations and scripts of version 0.1 go on in real processes: see `tests/data/v0.1`."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

import hpo
from hpo.cli.main import run
from tests.acceptance.fork_server import ForkServer
from tests.acceptance.hpo_commands import HpoCommands
from tests.acceptance.service import Completed, Service
from tests.version_0_1 import FOLDER, STUDIES, interrupted_trial, read_json

PATIENCE = 240.0
"""Seconds for a command that imports TensorFlow, on a machine that has much else to do."""


def results(service: Service, study: str) -> Any:
    """Return the records of a study as pandas frames."""
    return hpo.load_study(study, storage=service.url).results()


def trials(service: Service, study: str) -> list[dict[str, Any]]:
    """Return the output of `hpo trials`, run in this process, which has imported the modules that it needs."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert run(["trials", "--study", study, "--json", "--storage", service.url]) == 0
    found: list[dict[str, Any]] = json.loads(printed.getvalue())
    # Version 0.1 had no notes and no figures.
    assert all((trial.pop("note"), trial.pop("figures")) == ("", {}) for trial in found)
    return found


def go_on(service: Service, study: str, *words: object) -> Completed:
    """Continue a study as a user does, by the same command."""
    ended = service.hpo("launch", "--study", study, "--workers", 1, *words, timeout=PATIENCE).clean()
    return ended


def check_resumed(service: Service, study: str) -> None:
    """Check that the budget is spent exactly, and that the interrupted trial went on at its next epoch."""
    old = STUDIES[study]["status"]
    number, before = interrupted_trial(study)
    found = trials(service, study)
    assert [trial["number"] for trial in found] == list(range(old["budget"]))
    assert {trial["state"] for trial in found} == {"complete"}
    frames = results(service, study)
    attempts = frames.attempts[frames.attempts["number"] == number].sort_index()
    assert attempts["outcome"].tolist()[-1] == "complete"
    assert attempts["resumed_from"].tolist()[-1] == before
    assert attempts["epochs"].tolist()[-1] == old["epochs_per_trial"] - before
    epochs = frames.epochs.loc[number]
    assert epochs.index.tolist() == list(range(1, old["epochs_per_trial"] + 1))


@pytest.mark.parametrize("study", ["interrupted", "killed"])
def test_an_interrupted_trial_goes_on_from_its_old_checkpoint(old_service: Service, study: str) -> None:
    go_on(old_service, study)
    check_resumed(old_service, study)
    assert trials(old_service, study)[0] == STUDIES[study]["trials"][0]
    # The objective adds the epochs up in its checkpoint.
    totals = results(old_service, study).epochs["total"].groupby("number").max()
    assert set(totals) == {78}


def test_an_interrupted_trial_goes_on_after_a_restore(moved_service: Service) -> None:
    moved_service.hpo("restore", FOLDER / "backups" / "interrupted.hpo.gz").clean()
    go_on(moved_service, "interrupted")
    check_resumed(moved_service, "interrupted")


def test_an_end_that_only_a_file_knows_is_recorded(old_service: Service) -> None:
    """The agent was killed before it could record that its trial had run out of memory."""
    number, epochs = interrupted_trial("ended")
    go_on(old_service, "ended")
    found = trials(old_service, "ended")
    assert [trial["state"] for trial in found] == ["complete", "oom", "complete"]
    ended = found[number]
    assert (ended["epochs"], ended["attempts"]) == (epochs, 2)
    assert "MemoryError: the model is too large" in ended["why"]


def test_paused_study_continues_by_hpo_resume(old_service: Service) -> None:
    assert old_service.hpo("resume", "--study", "paused").code == 0
    assert old_service.hpo("worker", "--study", "paused", "--slots", 1).code == 0
    found = trials(old_service, "paused")
    assert [trial["state"] for trial in found] == ["complete"] * 4
    assert found[:2] == STUDIES["paused"]["trials"]


def test_a_finished_study_is_extended(old_service: Service) -> None:
    go_on(old_service, "narrowed", "--trials", 8)
    found = trials(old_service, "narrowed")
    assert len(found) == 8
    assert found[:5] == STUDIES["narrowed"]["trials"]
    # They keep to the space that was narrowed when the study began.
    assert all(0 <= trial["params"]["x"] <= 3 and trial["params"]["letter"] == "b" for trial in found)


def test_an_interrupted_retrain_begins_again(old_service: Service) -> None:
    """Its folder does not name the code that began it."""
    ended = old_service.hpo("retrain", "--study", "retraining", "--seeds", 2, "--workers", 1).clean()
    assert "the objective's code has changed since this retrain was interrupted (unknown -> " in ended.out
    assert "resumes after epoch" not in ended.out
    folder = old_service.folder / "results" / "retraining"
    assert json.loads((folder / "metrics.json").read_text())["sessions"] == 1
    assert (folder / "model.keras").read_text() == "total 55"


@pytest.mark.parametrize("name", ["exports/moods.toml", "results/moods/best_config.yaml"])
def test_an_old_configuration_is_trained_again(old_service: Service, name: str) -> None:
    """Two of the formats are read; another test reads all of them."""
    old_service.hpo("retrain", "--study", "moods", "--config", FOLDER / name, "--seeds", 1).clean()
    (found,) = (old_service.folder / "results").rglob("metrics.json")
    metrics, old = json.loads(found.read_text()), read_json("results/moods/metrics.json")
    assert (metrics["params"], metrics["runs"][0]["test_accuracy"]) == (
        old["params"],
        old["runs"][0]["test_accuracy"],
    )


def copy_script(service: Service, study: str) -> Path:
    """Copy the exported script of a study."""
    script = service.folder / f"{study}.py"
    shutil.copyfile(FOLDER / "exports" / f"{study}.py.txt", script)
    return script


def test_an_old_script_gives_the_value_of_its_trial(old_service: Service, commands: HpoCommands) -> None:
    printed = old_service.python(commands, copy_script(old_service, "moods")).out.splitlines()
    assert printed[0].startswith("trial 1 of study moods: user_objectives:Moody loss 0.2500")
    assert printed[-1] == "loss = 0.25, as in the trial"


AND_IMPORT = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="__main__")
from tests.integration.test_compatibility import NEEDS_KERAS, check_names
for module in NEEDS_KERAS:
    check_names(module)
print("imported")
"""


def test_an_old_script_trains_a_network(old_service: Service, keras_commands: ForkServer) -> None:
    """Names of modules that import Keras are checked in the same process, for that import takes long."""
    root = Path(__file__).parents[3]
    old_service.set(PYTHONPATH=f"{FOLDER}:{root}")
    script = copy_script(old_service, "digits")
    printed = old_service.python(keras_commands, "-c", AND_IMPORT, script).out.splitlines()
    assert printed[-1] == "imported"
    value = float(printed[-2].split()[2].rstrip(","))
    # The very value only where the processor and the versions are the same.
    assert value == pytest.approx(STUDIES["digits"]["best"]["value"], abs=0.1)


def test_a_network_goes_on_from_its_old_checkpoint(old_keras_service: Service) -> None:
    old_service = old_keras_service
    number, _ = interrupted_trial("tiny")
    go_on(old_service, "tiny", "--precision", "float32")
    check_resumed(old_service, "tiny")
    accuracy = results(old_service, "tiny").epochs.loc[number]["val_accuracy"]
    assert accuracy.iloc[-1] > 0.5
