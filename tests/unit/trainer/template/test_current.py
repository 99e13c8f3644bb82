"""The template of a pool: its loading, its reports and refusals, and its replacement, without processes."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hpo.errors import HpoError, ObjectiveBrokenError, UsageError
from hpo.trainer.messages import Loaded, Started
from hpo.trainer.pipe import encode
from hpo.trainer.template import current as current_template
from hpo.trainer.template.messages import LoadFailed, Loading, Preload, Unforkable
from tests.unit.trainer.pool_host import DESCRIBED, DONE, READY, Host, described


def test_template_describes_the_objective_then_is_ready(host: Host) -> None:
    host.template.send(DESCRIBED)
    assert host.pool.describe() == DESCRIBED.description
    assert not host.pool.ready
    assert host.events(READY) == []
    assert (host.pool.ready, host.pool.versions) == (True, {"keras": "3"})
    host.pool.close()
    assert not host.log.exists(), "the log of a template that did not fail is of no use"


def test_warning_on_the_data_is_logged_once(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        host.events(replace(READY, warning="there is no test set"))
    (warning,) = caplog.messages
    assert warning.endswith("there is no test set")


def test_notes_on_the_data_are_logged_once_and_progress_is_shown(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    host.events(Loading("reading train", 1500, 0))
    assert host.pool.stage == "reading train: 1,500 rows"
    host.events(Loading("reading train", 1500, 60000))
    assert host.pool.stage == "reading train: 1,500 of 60,000 rows"
    for _ in range(2):
        host.events(replace(READY, notes=("it is read once", "and again")))
    assert caplog.messages == ["it is read once", "and again"]


def test_template_whose_variables_cannot_be_handed_over_loads_less(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.events(DESCRIBED, Unforkable("", Preload.IMPORTS, ("keras",), "VOCABULARY"), READY)
    assert [template.load.preload for template in host.templates] == [Preload.ALL, Preload.IMPORTS]
    (warning,) = caplog.messages
    assert warning.startswith("the data function of o sets VOCABULARY, which its process cannot hand over: ")


def test_template_that_loads_less_replaces_one_with_threads(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.events(DESCRIBED, Unforkable("3 threads of JAX", Preload.IMPORTS, ("keras",)))
    host.events(DESCRIBED, Unforkable("1 thread (reader)", Preload.NOTHING))
    host.events(READY)
    loads = [(template.load.preload, template.load.modules) for template in host.templates]
    assert loads == [(Preload.ALL, ()), (Preload.IMPORTS, ("keras",)), (Preload.NOTHING, ())]
    (warning,) = caplog.messages
    assert warning.startswith("loading o has started 3 threads of JAX, and threads do not survive a fork: ")
    assert host.pool.ready
    host.template.die()
    host.pool.wait(0.0)
    assert host.template.load.preload is Preload.NOTHING


@pytest.mark.parametrize(
    ("digests", "warnings"), [(["a", "a", "a"], 0), (["a", "b", "c"], 1), (["", "", ""], 0), (["", "a"], 1)]
)
def test_trainers_that_load_different_data_are_reported_once(
    host: Host, caplog: pytest.LogCaptureFixture, digests: list[str], warnings: int
) -> None:
    host.events(DESCRIBED, READY)
    for pid, digest in enumerate(digests, 100):
        serial = host.start(0, pid)
        trainer = host.template.trainers[serial]
        trainer.send_bytes(encode(Started(pid, 0)))
        trainer.send_bytes(encode(Loaded(digest)))
        trainer.send_bytes(encode(DONE))
        assert [event for _, event in host.events()] == [Started(pid, 0), DONE]
    assert len(caplog.messages) == warnings
    assert all("load different data" in message for message in caplog.messages)


def test_restarted_template_with_changed_code_ends_the_agent(host: Host) -> None:
    host.events(described("c0de1"), READY)
    host.template.die()
    assert host.events() == []
    with pytest.raises(
        ObjectiveBrokenError, match="was changed while it was being trained: run the same command"
    ):
        host.events(described("c0de2"))


def test_wait_for_a_description_can_be_ended(host: Host) -> None:
    def end() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        host.pool.describe(end)


@pytest.mark.parametrize(
    ("name", "error"),
    [("UsageError", UsageError), ("NoSuchError", ObjectiveBrokenError)],
)
def test_load_failure_is_raised_by_name_and_its_log_is_kept(
    host: Host, name: str, error: type[HpoError]
) -> None:
    with pytest.raises(error, match="no file") as failed:
        host.events(LoadFailed(name, "no file", "Traceback"))
    assert failed.value.__notes__ == ["Traceback"]
    host.pool.close()
    assert host.log.exists()


def test_template_that_loads_for_too_long_breaks_the_objective(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.pool.check_loading(0.0)
    monkeypatch.setattr(current_template, "LEAST_LOADING_SECONDS", -1.0)
    host.pool.check_loading(60.0)
    with pytest.raises(ObjectiveBrokenError, match=r"not loaded within -1 s: see .*template\.log"):
        host.pool.check_loading(-2.0)
    host.events(READY)
    host.pool.check_loading(-2.0)


def test_time_in_which_this_process_was_stopped_is_no_time_of_loading(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.monotonic() + 7200.0
    monkeypatch.setattr("hpo.process.listening_clock.time", SimpleNamespace(monotonic=lambda: later))
    host.pool.check_loading(60.0)
