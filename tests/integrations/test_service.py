"""A study in real processes, logged to TensorBoard although its agent is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.service import Service

pytest_plugins = ("tests.acceptance.conftest",)
pytestmark = pytest.mark.filterwarnings("default")


def test_killed_agent_leaves_nothing_out(service: Service, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    service.set(TEST_EPOCH_SECONDS=0.3)
    target = ("--log-to", f"tensorboard:{tmp_path}/runs")
    agent = service.launch("Counted", "--trials", 4, "--workers", 2, "--pruner", "none", *target)
    service.wait_for_epoch(2)
    agent.kill()
    again = service.hpo("launch", "--study", "s", *target)
    assert (again.code, again.err) == (0, "")
    service.check_records(4, epochs=4)
    folders = sorted(tmp_path.glob("runs/s@*/trial-*"))
    assert [folder.name for folder in folders] == [f"trial-{number}" for number in range(4)]
    for folder, trial in zip(folders, service.study().trials, strict=True):
        events = event_accumulator.EventAccumulator(str(folder)).Reload()
        curve = {event.step: event.value for event in events.Scalars("loss")}
        assert len(events.Scalars("loss")) == 4
        assert curve == pytest.approx(trial.intermediate_values, rel=1e-5)
        assert [event.value for event in events.Scalars("hpo.value")] == pytest.approx(
            [trial.value], rel=1e-5
        )
