"""`hpo retrain`: several seeds of one configuration, and its results."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
import shutil
import signal
import statistics
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.service import OBJECTIVES, SOON, Service


def results(service: Service, study: str = "s") -> Path:
    return service.folder / "results" / study


def metrics(service: Service, study: str = "s") -> dict:
    return json.loads((results(service, study) / "metrics.json").read_text())


def test_retrain_summarizes_three_seeds(service: Service) -> None:
    assert service.launched("Counted", "--trials", 2, "--workers", 2, "--pruner", "none").code == 0
    ended = service.hpo("retrain", "--study", "s", "--workers", 2).clean()
    assert "n = 3 seeds" in ended.out
    assert "next: hpo report --study s" in ended.out
    assert f"results: {results(service)}" in ended.out

    found = metrics(service)
    accuracies = [run["test_accuracy"] for run in found["runs"]]
    assert len(set(accuracies)) == 3
    assert accuracies == [0.9 + (run["seed"] % 7) / 100 for run in found["runs"]]
    shown = found["summary"]["test_accuracy"]
    mean, deviation = statistics.fmean(accuracies), statistics.stdev(accuracies)
    from scipy.stats import t

    half = t.ppf(0.975, 2) * deviation / math.sqrt(3)
    assert (shown["mean"], shown["standard_deviation"], shown["n"]) == pytest.approx((mean, deviation, 3))
    assert shown["interval95"] == pytest.approx([mean - half, min(1.0, mean + half)])
    # Of the metrics, only loss and accuracy are summarized.
    assert found["summary"].keys() == {"test_accuracy", "test_images", "final_loss"}
    assert found["params"] == service.study().best_params
    assert found["seeds"] == [run["seed"] for run in found["runs"]]
    assert {"versions", "hardware", "working_directory_commit", "wall_seconds"} <= found.keys()
    assert (found["source"], found["sessions"]) == ("search", 1)
    assert found["backend"] == "tensorflow"
    assert found["objective_sha256"] == hashlib.sha256(OBJECTIVES.read_bytes()).hexdigest()

    assert {path.name for path in results(service).iterdir()} == {
        "metrics.json",
        "best_config.yaml",
        "confusion_matrix.csv",
        "history.csv",
        "model.keras",
        "MODEL.md",
    }
    with (results(service) / "history.csv").open(newline="") as file:
        history = [(int(row["seed"]), int(row["epoch"])) for row in csv.DictReader(file)]
    assert history == [(seed, epoch) for seed in found["seeds"] for epoch in (1, 2, 3, 4)]
    confusion = (results(service) / "confusion_matrix.csv").read_text().splitlines()
    assert confusion[1:] == ["a,3,1", "b,0,4"]
    # Nothing is left to resume.
    assert not list((service.folder / "checkpoints").rglob("*.npz"))
    (logged,) = service.rows("SELECT * FROM hpo.retrains")
    assert logged.metrics["summary"] == found["summary"]
    assert [logged.test_opened_at.isoformat()] == found["test_opened_at"]
    assert len(logged.metrics["detail"]["history"]) == 12
    assert found["test_openings"] == 1
    assert found["per_class"][0] == {
        "name": "a", "precision": 1.0, "recall": 0.75, "f1": pytest.approx(18 / 21), "images": 4
    }  # fmt: skip
    assert found["confused_pairs"] == [{"true": "a", "predicted": "b", "count": 3, "share": 0.25}]


IN_TERMINAL = """
import os, sys
terminal = os.open(sys.argv[1], os.O_RDWR)
for stream in (0, 1, 2):
    os.dup2(terminal, stream)
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""The first process of a session that opens a terminal makes it the session's terminal."""


def test_closed_terminal_lets_epochs_end(searched: Service) -> None:
    service, retrain = searched, ("retrain", "--study", "s", "--workers", 2, "--epochs", 20)
    service.set(TEST_EPOCH_SECONDS=0.4, TEST_HOLD=4)
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    service.before = [sys.executable, "-c", IN_TERMINAL, os.ttyname(theirs)]
    running = service.start(*retrain)
    shown = b""

    def trained() -> bool:
        nonlocal shown
        with suppress(BlockingIOError):
            # Read all the time, as a terminal does; otherwise the command would block.
            shown += os.read(ours, 65536)
        return len([*(service.folder / "checkpoints").rglob("epoch-000003.npz")]) == 2

    service.wait_for(trained)
    assert b"retrain s" in shown
    os.close(ours)
    assert running.wait(SOON).code == 130
    os.close(theirs)
    assert not (service.folder / "home" / "crashes").exists()

    service.before = ()
    service.set(TEST_EPOCH_SECONDS=0, TEST_HOLD="")
    continued = service.hpo(*retrain).clean()
    assert continued.out.count("resumes after epoch") == 2
    assert metrics(service)["sessions"] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_retrain_continues_from_last_epoch(searched: Service, number: int) -> None:
    service, retrain = searched, ("retrain", "--study", "s", "--workers", 2, "--epochs", 20)
    service.set(TEST_EPOCH_SECONDS=0.4, TEST_HOLD=4)
    running = service.start(*retrain)
    checkpoints = service.folder / "checkpoints"
    service.wait_for(lambda: len([*checkpoints.rglob("epoch-000003.npz")]) == 2)
    running.send_signal(number)
    interrupted = running.wait(SOON).clean(130)
    assert "run the same command to continue from the last epochs" in interrupted.out
    assert ("Ctrl-C again" in interrupted.out) == (number == signal.SIGINT)
    assert not (results(service) / "metrics.json").exists()

    service.set(TEST_EPOCH_SECONDS=0, TEST_HOLD="")
    continued = service.hpo(*retrain).clean()
    assert continued.out.count("resumes after epoch") == 2
    # The objective's running sum fails the run if an epoch was skipped or repeated.
    assert (results(service) / "model.keras").read_text() == "total 210"
    found = metrics(service)
    assert [run["seed"] for run in found["runs"]] == found["seeds"]
    # At least three epochs of 0.4 s before the interruption count as well, three seeds on two slots.
    assert found["sessions"] == 2
    assert found["wall_seconds"] > sum(run["seconds"] for run in found["runs"]) / 2


def _folders_beyond(service: Service, epoch: int) -> set[Path]:
    """Return the folders of runs that have a checkpoint of that epoch or a later one."""
    found = (service.folder / "checkpoints").rglob("epoch-*.npz")
    return {path.parent for path in found if path.stem >= f"epoch-{epoch:06d}"}


def test_retrain_continues_only_with_the_code_that_began_it(service: Service) -> None:
    objective = service.folder / "edited.py"

    def write(version: int) -> None:
        objective.write_text(OBJECTIVES.read_text() + f"\nVERSION = {version}\n")

    write(1)
    launch = ("launch", "--study", "s", "--objective", f"{objective}:Counted", "--epochs", 20)
    service.hpo(*launch, "--trials", 1, "--workers", 1).clean()
    service.set(TEST_EPOCH_SECONDS=0.4, TEST_HOLD=4)
    shown = ""
    for version in (2, 3):
        write(version)
        running = service.start("retrain", "--study", "s", "--workers", 1, "--seeds", 1)
        # Older checkpoints than the last two are deleted meanwhile.
        service.wait_for(lambda: len(_folders_beyond(service, epoch=3)) == version - 1)  # noqa: B023
        running.send_signal(signal.SIGINT)
        shown = running.wait(SOON).clean(130).out
        assert "the objective's code has changed since trial 0 (" in shown
    ((second, third),) = re.findall(
        r"this retrain was interrupted \((\S+) -> (\S+)\): it begins again", shown
    )
    assert second != third
    service.set(TEST_EPOCH_SECONDS=0, TEST_HOLD="")
    write(2)
    ended = service.hpo("retrain", "--study", "s", "--workers", 1, "--seeds", 1).clean()
    assert ended.out.count("resumes after epoch") == 1
    assert "begins again" not in ended.out
    assert (results(service) / "model.keras").read_text() == "total 210"
    assert metrics(service)["objective_code"] == second
    assert not list((service.folder / "checkpoints").rglob("*.npz"))


def test_sigterm_abandons_endless_epochs_of_retrain(service: Service) -> None:
    """They are abandoned in time, and previous epochs are kept."""
    assert service.launched("Gated", "--trials", 1, "--workers", 1, "--epochs", 16).code == 0
    gate = service.folder / "gate"
    service.set(TEST_GATE=gate)
    running = service.start("retrain", "--study", "s", "--workers", 2, "--seeds", 2)
    checkpoints = service.folder / "checkpoints"
    service.wait_for(lambda: len([*checkpoints.rglob("epoch-000015.npz")]) == 2)
    running.send_signal(signal.SIGTERM)
    interrupted = running.wait(SOON)
    assert (interrupted.code, interrupted.err) == (130, "")
    assert len([*checkpoints.rglob("epoch-000015.npz")]) == 2
    assert not (results(service) / "metrics.json").exists()

    gate.touch()
    continued = service.hpo("retrain", "--study", "s", "--workers", 2, "--seeds", 2).clean()
    assert continued.out.count("resumes after epoch 15") == 2
    # The objective's running sum fails the run if an epoch was skipped or repeated.
    assert (results(service) / "model.keras").read_text() == "total 136"


def test_retrain_from_exported_config(searched: Service) -> None:
    service = searched
    config = service.folder / "best.toml"
    service.hpo("export", "--study", "s", "-o", config).clean()
    ended = service.hpo(
        "retrain", "--study", "elsewhere", "--config", config, "--seeds", 1, "--epochs", 2
    ).clean()
    found = metrics(service, "elsewhere")
    assert (found["epochs"], found["params"]) == (2, service.study().best_params)
    assert found["summary"]["test_accuracy"]["n"] == 1
    assert found["summary"]["test_accuracy"]["interval95"] is None
    # The opening is recorded for the config's study, not for the given name.
    assert found["test_openings"] == 1
    assert "opened once by retrains of study s\n" in ended.out
    assert "next: hpo report --study s\n" in ended.out
    opened = (
        "SELECT name FROM hpo.retrains JOIN hpo.studies USING (study_id) WHERE test_opened_at IS NOT NULL"
    )
    assert [row.name for row in service.rows(opened)] == ["s"]


def test_wrong_configs_are_refused(searched: Service) -> None:
    service = searched
    config = service.folder / "best.json"
    service.hpo("export", "--study", "s", "-o", config).clean()
    exported = json.loads(config.read_text())
    for change, code, message in (
        ({"params": {}}, 1, "lacks parameter 'x'"),
        ({"params": {"x": 50, "letter": "a"}}, 1, "'x' is 50, but must be -5 to 5"),
        ({"objective": "digits-cnn"}, 2, "configures objective digits-cnn"),
        ({"objective": "digits-cnn"}, 2, "give it a study name of its own"),
    ):
        config.write_text(json.dumps({**exported, **change}))
        assert message in service.hpo("retrain", "--study", "s", "--config", config).complaint(code)
    for words in (("--config", "b", "--top", 2), ("--trial", 1, "--top", 2), ("--config", "b", "--trial", 1)):
        refused = service.hpo("retrain", "--study", "s", *words)
        assert f"{words[0]} and {words[2]} exclude each other" in refused.complaint(2)
    assert service.rows("SELECT * FROM hpo.retrains") == []


def test_failed_retrain_writes_no_results(service: Service) -> None:
    assert service.launched("Moody", "--trials", 1, "--workers", 1, "--param", "mood=fine").code == 0
    service.set(TEST_ILL="bug")
    failed = service.hpo("retrain", "--study", "s", "--seeds", 2)
    assert failed.code == 1
    # The objective's traceback stands above the one line.
    complaint = failed.err.splitlines()[-1]
    assert "ended as bug after epoch 1: ValueError: the objective is broken" in complaint
    assert f"{service.logs}/retrain-seed-" in complaint
    assert not results(service).exists()
    service.set(TEST_ILL="")
    assert service.hpo("retrain", "--study", "s", "--seeds", 2).code == 0
    assert metrics(service)["summary"]["test_accuracy"]["n"] == 2


def test_unwritable_results_are_refused_before_training(searched: Service) -> None:
    service = searched
    in_the_way = service.folder / "results"
    in_the_way.write_bytes(b"")
    for folder in (in_the_way, "/proc/r"):
        service.set(HPO_RESULTS_DIR=folder)
        refused = service.hpo("retrain", "--study", "s", "--seeds", 1)
        assert f"results cannot be written to {folder}/s" in refused.complaint()
        assert "seed" not in refused.out
        assert service.rows("SELECT * FROM hpo.retrains") == []


def test_second_retrain_of_same_study_is_refused(service: Service) -> None:
    assert service.launched("Gated", "--trials", 1, "--workers", 1, "--epochs", 16).code == 0
    gate = service.folder / "gate"
    service.set(TEST_GATE=gate)
    running = service.start("retrain", "--study", "s", "--seeds", 1)
    service.wait_for(lambda: [*(service.folder / "checkpoints").rglob("lock")])
    # With other options too: both would write the same files.
    for words in ((), ("--epochs", 1)):
        refused = service.hpo("retrain", "--study", "s", "--seeds", 1, *words)
        assert "another hpo retrain" in refused.complaint()
    gate.touch()
    assert running.wait().code == 0


def test_selection_prefers_the_better_mean_to_the_luckiest_trial(service: Service) -> None:
    tally = service.folder / "tally"
    service.set(TEST_TALLY=tally)
    assert service.launched("Lucky", "--trials", 4, "--workers", 2, "--pruner", "none").code == 0
    assert service.study().best_params["x"] == 3.0
    tally.unlink()
    ended = service.hpo("retrain", "--study", "s", "--top", 2, "--seeds", 2, "--workers", 2).clean()
    found = metrics(service)
    assert found["params"]["x"] == 2.0
    lucky, better = found["selection"]["candidates"]
    assert (lucky["trial"], lucky["chosen"], better["chosen"]) == (0, False, True)
    assert lucky["search_value"] < better["search_value"]
    assert lucky["mean"] > better["mean"]
    seeds = {(float(x), int(seed)) for x, seed, _ in map(str.split, tally.read_text().splitlines())}
    # Candidates use seeds of their own, and the winner alone those of final runs.
    assert seeds == {(3.0, 4_000_000_000), (3.0, 4_000_000_001), (2.0, 4_000_000_000), (2.0, 4_000_000_001),
                     (2.0, 3_000_000_000), (2.0, 3_000_000_001)}  # fmt: skip
    assert "test set: opened once" in ended.out
    assert not list((service.folder / "checkpoints").rglob("*.npz"))


def test_interrupted_selection_repeats_no_epoch_and_opens_test_set_once(
    service: Service,
) -> None:
    tally = service.folder / "tally"
    service.set(TEST_TALLY=tally)
    assert service.launched("Lucky", "--trials", 2, "--workers", 2, "--pruner", "none").code == 0
    tally.unlink()
    command = ("retrain", "--study", "s", "--top", 2, "--seeds", 2, "--workers", 2)
    for seed in (4000000001, 3000000000):
        service.set(TEST_HOLD=f"{seed}:3")
        running = service.start(*command)
        service.wait_for(lambda: tally.exists() and f" {seed} 2\n" in tally.read_text())  # noqa: B023
        running.send_signal(signal.SIGINT)
        running.wait(SOON).clean(130)
    service.set(TEST_HOLD="")
    ended = service.hpo(*command).clean()
    assert "trial 1 was chosen before" in ended.out
    lines = tally.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 6 * 4
    openings = service.rows("SELECT test_opened_at FROM hpo.retrains WHERE test_opened_at IS NOT NULL")
    assert len(openings) == metrics(service)["test_openings"] == 1


def test_each_opening_of_the_test_set_is_counted(searched: Service) -> None:
    service = searched
    assert service.hpo("retrain", "--study", "s", "--seeds", 1).code == 0
    in_the_way = results(service) / "metrics.json"
    in_the_way.unlink()
    (in_the_way / "full").mkdir(parents=True)
    failed = service.hpo("retrain", "--study", "s", "--seeds", 2)
    assert "results cannot be written" in failed.complaint()
    assert service.value("SELECT count(test_opened_at) FROM hpo.retrains") == 2
    shutil.rmtree(in_the_way)
    # The retrain that could not write its results continues: no third opening.
    again = service.hpo("retrain", "--study", "s", "--seeds", 2).clean()
    assert again.out.count("resumes after epoch 4") == 2
    assert "test set: opened 2 times" in again.out
    assert (results(service) / "model.keras").read_text() == "total 10"
    assert metrics(service)["test_openings"] == 2


def test_retrain_of_a_trial_other_than_the_best(service: Service) -> None:
    assert service.launched("Counted", "--trials", 2, "--workers", 1, "--pruner", "none").code == 0
    assert service.study().best_trial.number == 0
    config = service.folder / "second.json"
    assert service.hpo("export", "--study", "s", "--trial", 1, "-o", config).code == 0
    params = service.study().trials[1].params
    assert json.loads(config.read_text())["params"] == params
    ended = service.hpo("retrain", "--study", "s", "--trial", 1, "--seeds", 1).clean()
    # Next to the search's choice, which is the study's result.
    assert not (results(service) / "metrics.json").exists()
    second = metrics(service, "s/trial-1")
    assert (second["params"], second["source"]) == (params, "trial")
    assert service.hpo("report", "--study", "s").code == 0
    assert "hpo retrain --study s --seeds 1 --trial 1" in (results(service) / "report.md").read_text()
    ended = service.hpo("retrain", "--study", "s", "--config", config, "--seeds", 1, "--epochs", 2)
    assert ended.code == 0
    assert metrics(service, "s/config-second")["source"] == "file"
    # The best trial is the search's choice, even if it is named.
    assert service.hpo("retrain", "--study", "s", "--trial", 0, "--seeds", 1).code == 0
    assert metrics(service)["source"] == "search"
    assert service.hpo("report", "--study", "s").code == 0
    assert "trial 0, retrained" in (results(service) / "report.md").read_text()
    refused = service.hpo("retrain", "--study", "s", "--trial", 2)
    assert "has no trial 2, its trials are 0-1" in refused.complaint()


def test_hung_retrain_is_ended(service: Service) -> None:
    fine = ("--param", "mood=fine", "--workers", 1, "--trials", 1)
    assert service.launched("Moody", *fine).code == 0
    service.set(TEST_ILL="hang")
    retrain = ("retrain", "--study", "s", "--seeds", 1, "--workers", 1)
    ended = service.hpo(*retrain, "--hung-after", "1s")
    assert "was lost 3 times, the last time: no progress for 1 s" in ended.complaint()
    service.set(TEST_ILL="")
    assert service.hpo(*retrain).code == 0


def test_second_ctrl_c_ends_at_once(searched: Service) -> None:
    service = searched
    service.set(TEST_EPOCH_SECONDS=300)
    running = service.start("retrain", "--study", "s", "--workers", 1, "--verbose")
    # A run that has not begun is released by the first Ctrl-C.
    service.wait_for(lambda: re.search(r"process \d+ starts", running.output()))
    running.send_signal(signal.SIGINT)
    service.wait_for(lambda: "Ctrl-C again" in running.output())
    assert running.alive
    running.send_signal(signal.SIGINT)
    assert running.wait(SOON).code == 130
