"""`hpo logs`: the output of every attempt, bounded in size, and followed while it runs."""

from __future__ import annotations

import json
import os
import re
import signal

from tests.acceptance.service import Running, Service


def launch(
    service: Service, prints: str, trials: int = 1, opened: bool = True, objective: str = "Loud"
) -> Running:
    gate = service.folder / "gate"
    if opened:
        gate.touch()
    service.set(TEST_GATE=gate)
    return service.launch(
        objective, "--trials", trials, "--workers", 1, "--param", f"prints={prints}", "--pruner", "none"
    )


def shown(service: Service, *arguments: object) -> str:
    logs = service.hpo("logs", "--study", "s", *arguments).clean()
    return logs.out


def test_logs_of_one_trial_and_of_all(service: Service) -> None:
    assert launch(service, "little", trials=2).wait().code == 0
    everything = shown(service)
    assert re.findall(r"^== trial (\d), attempt \d+ on \S+ slot 0 \(.*\), complete$", everything, re.M) == [
        "0",
        "1",
    ]
    assert everything.count("epoch 3 has ended\n") == 2
    assert shown(service, "--trial", 1).count("==") == 1
    unknown = service.hpo("logs", "--study", "s", "--trial", 7)
    assert ("no trial 7" in unknown.complaint(2), unknown.out) == (True, "")
    assert list(service.logs.glob("trial-*")) == []


def test_log_of_bytes_that_are_not_utf8(service: Service) -> None:
    assert launch(service, "raw").wait().code == 0
    text = shown(service)
    assert "NUL ?, not UTF-8 ?, UTF-8 café\nepoch 1 has ended\n" in text
    assert "only its end" not in text


def test_long_log_keeps_its_end(service: Service) -> None:
    assert launch(service, "much").wait().code == 0
    text = shown(service)
    assert "(only its end was kept)" in text
    assert "line  2999" in text
    assert "line     0" not in text
    (kept,) = service.rows("SELECT octet_length(tail) AS tail, bytes FROM hpo.attempt_logs")
    assert kept.tail == 64 * 1024
    assert kept.bytes > 150_000


def test_log_of_flooding_trial_is_bounded(service: Service) -> None:
    agent = launch(service, "flood", opened=False)
    service.wait_for_epoch(1)
    folder = service.logs
    service.wait_for(lambda: sum(path.stat().st_size for path in folder.glob("trial-*")) < 1 << 20)
    (service.folder / "gate").touch()
    assert agent.wait().code == 0
    assert shown(service).endswith("epoch 1 has ended\nepoch 2 has ended\nepoch 3 has ended\n")
    assert service.value("SELECT bytes FROM hpo.attempt_logs") == 9 * (1 << 20) + 3 * len(
        "epoch 1 has ended\n"
    )


def test_followed_logs_end_with_the_study(service: Service) -> None:
    agent = launch(service, "raw", trials=2, opened=False)
    service.wait_for_epoch(1)
    followed = service.start("logs", "--study", "s", "-f")
    service.wait_for(lambda: "epoch 2 has ended" in followed.output())
    (service.folder / "gate").touch()
    assert agent.wait().code == 0
    ended = followed.wait().clean()
    # Every line once, however it was split.
    for epoch in (1, 2, 3):
        assert ended.out.count(f"epoch {epoch} has ended\n") == 2
    assert ended.out.count("NUL ?") == 2
    assert ended.out.count("== trial") == 2


def test_last_output_of_killed_trainer_and_agent_is_kept(service: Service) -> None:
    """The next agent of a host saves the logs that a killed agent left."""
    agent = launch(service, "raw", opened=False)
    service.wait_for_epoch(1)
    (trainer,) = service.trainers()
    os.kill(trainer, signal.SIGKILL)
    service.wait_for(lambda: service.value("SELECT count(*) FROM hpo.attempts WHERE resumed_from = 1"))
    files = service.logs
    # The agent has not read this output yet.
    service.wait_for(lambda: any("epoch 2" in path.read_text() for path in files.glob("trial-*-2.log")))
    agent.kill()
    assert launch(service, "raw").wait().code == 0
    parts = re.split(r"^== trial 0.*, (\w+).*\n", shown(service), flags=re.M)
    assert parts[1::2] == ["lost", "lost", "complete"]
    assert "NUL ?" in parts[2]
    assert parts[4] == "epoch 2 has ended\n"
    assert parts[6] == "epoch 2 has ended\nepoch 3 has ended\n"
    assert list(files.glob("trial-*")) == []


def test_log_file_waits_for_an_agent_of_its_folder(service: Service) -> None:
    """An agent was killed in a container, so its death is not detected; its trial continues in another HPO_HOME."""
    service.set(HPO_LEASE_SECONDS=2)
    agent = launch(service, "raw", opened=False)
    service.wait_for_epoch(1)
    (file,) = service.logs.glob("trial-*")
    service.wait_for(lambda: file.read_text(errors="replace").endswith("epoch 2 has ended\n"))
    agent.kill()
    service.rows("UPDATE hpo.agents SET process = 'boot/elsewhere:1:1'")
    service.rows("DELETE FROM hpo.attempt_logs")
    service.set(HPO_HOME=service.folder / "another")
    assert launch(service, "raw").wait().code == 0
    assert file.exists()
    service.set(HPO_HOME=service.folder / "home")
    assert launch(service, "raw", trials=2).wait().code == 0
    assert not file.exists()
    parts = re.split(r"^== trial 0.*, (\w+).*\n", shown(service, "--trial", 0), flags=re.M)
    assert parts[1::2] == ["lost", "complete"]
    assert parts[2].endswith("café\nepoch 1 has ended\nepoch 2 has ended\n")


def test_flood_of_killed_agent_is_counted(service: Service) -> None:
    agent = launch(service, "flood", opened=False)
    service.wait_for_epoch(1)
    (file,) = service.logs.glob("trial-*")
    service.wait_for(
        lambda: file.stat().st_size < 1 << 20 and file.read_text().endswith("epoch 2 has ended\n")
    )
    agent.kill()
    assert launch(service, "flood").wait().code == 0
    first = service.value("SELECT bytes FROM hpo.attempt_logs ORDER BY attempt_id")
    assert first == 9 * (1 << 20) + 2 * len("epoch 1 has ended\n")
    assert "cut off" not in shown(service)


def test_output_of_retrain_is_bounded(service: Service) -> None:
    assert launch(service, "flood").wait().code == 0
    gate = service.folder / "gate"
    gate.unlink()
    retrain = service.start("retrain", "--study", "s", "--seeds", 1)
    file = service.logs / "retrain-seed-3000000000.log"
    service.wait_for(lambda: file.exists() and file.read_bytes().endswith(b"epoch 2 has ended\n"))
    service.wait_for(lambda: file.stat().st_size < 1 << 20)
    gate.touch()
    assert retrain.wait().code == 0
    printed = file.read_text()
    assert printed.startswith("[hpo: ")
    assert printed.endswith("xepoch 1 has ended\nepoch 2 has ended\nepoch 3 has ended\n")


def test_output_while_objective_loads_is_bounded(service: Service) -> None:
    agent = launch(service, "little", opened=False, objective="LoudWhenLoaded")
    service.wait_for_epoch(1)
    (file,) = (service.folder / "home" / "logs").glob("template-s-*")
    service.wait_for(lambda: file.stat().st_size < 1 << 20)
    assert file.read_text().startswith("[hpo: ")
    (service.folder / "gate").touch()
    assert agent.wait().code == 0
    assert "xxx" not in shown(service)


def test_output_of_objective_that_fails_to_load_is_bounded(service: Service) -> None:
    failed = service.launched("LoudWhenLoaded", "--workers", 1)
    assert failed.code == 1
    assert "there is no gate" in failed.err
    (file,) = (service.folder / "home" / "logs").glob("template-s-*")
    assert file.stat().st_size < 1 << 20


def test_log_lines_as_json_have_time_level_study_trial_and_attempt(service: Service) -> None:
    ended = service.launched(
        "Counted", "--trials", 2, "--workers", 1, "--log-format", "json", "--verbose"
    ).clean()
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert all({"time", "level", "message"} <= line.keys() and line["study"] == "s" for line in lines)
    rows = service.rows("SELECT attempt_id, number FROM hpo.attempts JOIN hpo.trials USING (reservation_id)")
    ends = [line for line in lines if line["message"] == "trial ended"]
    assert {(line["attempt"], line["trial"]) for line in ends} == {tuple(row) for row in rows}
    assert {(line["outcome"], line["epochs"], line["budget"]) for line in ends} == {("complete", 4, 2)}
    trials = {trial.number: (trial.value, trial.params) for trial in service.study().trials}
    assert {line["trial"]: (line["value"], line["params"]) for line in ends} == trials
    assert sum("process" in line["message"] and line["message"].endswith("starts") for line in lines) == 2
    assert {line["level"] for line in lines} == {"DEBUG", "INFO"}
    assert "2 of 2 trials finished" in lines[-3]["message"]
