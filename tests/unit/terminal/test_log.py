"""Format and context of log lines."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from hpo.outcomes import Outcome
from hpo.terminal.log import FORMATS, Format, LogHandler, lines_to
from hpo.terminal.progress import PlainProgress
from hpo.terminal.trial_lines import TrialEnd
from storage.budget import Counts

log = logging.getLogger("hpo.tests.log")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[io.StringIO, Terminal])
def handler(request: pytest.FixtureRequest) -> Iterator[LogHandler]:
    handler = LogHandler(request.param())
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    yield handler
    log.removeHandler(handler)


def written(handler: LogHandler) -> str:
    assert isinstance(handler.stream, io.StringIO)
    return handler.stream.getvalue()


def test_line_has_time_level_and_context_except_at_a_terminal(handler: LogHandler) -> None:
    handler.context.study = "cifar"
    log.warning("lost 100 % of it", extra={"attempt": 7, "trial": 3})
    log.info("best: 0.9")
    lines = written(handler).splitlines()
    if handler.stream.isatty():
        assert lines == ["trial 3: lost 100 % of it", "best: 0.9"]
        return
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "
    assert re.fullmatch(pattern + "WARNING study=cifar trial=3 attempt=7 lost 100 % of it", lines[0])
    assert re.fullmatch(pattern + "INFO study=cifar best: 0.9", lines[1])


def test_json_line_is_one_object_at_a_terminal_too(handler: LogHandler) -> None:
    handler.log_format = "json"
    handler.context.study = "cifar"
    log.info('two\nlines "quoted"', extra={"trial": 0, "attempt": None})
    (line,) = written(handler).splitlines()
    assert line.startswith('{"time": "')
    assert {name: value for name, value in json.loads(line).items() if name != "time"} == {
        "level": "INFO",
        "study": "cifar",
        "trial": 0,
        "message": 'two\nlines "quoted"',
    }


def test_end_of_a_trial_has_its_numbers_as_text_or_as_json_fields(
    handler: LogHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    log_of_progress = logging.getLogger("hpo.terminal.progress")
    end = TrialEnd(
        number=3,
        outcome=Outcome.DIVERGED,
        value=0.25,
        epochs=2,
        seconds=1.23456,
        params={"rate": 0.1, "layers": 2},
        error="loss is nan",
        attempt_id=7,
    )
    handler.context.study = "cifar"
    log_of_progress.addHandler(handler)
    try:
        log_of_progress.setLevel(logging.INFO)
        PlainProgress().trial_ended(end, Counts(budget=10, complete=1, pruned=4))
        handler.log_format = "json"
        PlainProgress().trial_ended(end, None)
        PlainProgress().trial_ended(end, Counts(budget=10, complete=1, pruned=4))
    finally:
        log_of_progress.removeHandler(handler)
    text, *objects = written(handler).splitlines()
    message = "diverged value=0.2500 epochs=2 seconds=1.2 rate=0.1 layers=2 (loss is nan) [5/10]"
    context = "trial 3: " if handler.stream.isatty() else "INFO study=cifar trial=3 attempt=7 "
    assert re.sub(r"^\S+Z ", "", text) == context + message
    ended = {
        "level": "INFO",
        "study": "cifar",
        "trial": 3,
        "attempt": 7,
        "message": "trial ended",
        "outcome": "diverged",
        "value": 0.25,
        "epochs": 2,
        "seconds": 1.235,
        "params": {"rate": 0.1, "layers": 2},
        "error": "loss is nan",
        "new_best": False,
    }
    assert [json.loads(line) | {"time": None} for line in objects] == [
        {"time": None} | ended,
        {"time": None} | ended | {"finished": 5, "budget": 10},
    ]


def test_error_while_writing_is_raised(handler: LogHandler) -> None:
    def fail(_: str) -> None:
        raise BrokenPipeError

    handler.write_line = fail
    with pytest.raises(BrokenPipeError):
        log.info("unread")


def test_view_takes_the_lines_of_the_service_for_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    from hpo.terminal import log as log_module

    log_module.configure()
    taken: list[str] = []
    with lines_to(taken.append):
        logging.getLogger("hpo").warning("above the view")
    logging.getLogger("hpo").warning("printed")
    assert len(taken) == 1
    assert taken[0].endswith("above the view")
    assert "printed" in capsys.readouterr().out
    assert "above" not in capsys.readouterr().out


def test_verbose_adds_debug_lines(capsys: pytest.CaptureFixture[str]) -> None:
    from hpo.terminal import log as log_module

    try:
        log_module.configure(verbose=True)
        logging.getLogger("hpo").debug("detail")
        log_module.configure(verbose=False)
        logging.getLogger("hpo").debug("hidden")
    finally:
        log_module.configure(verbose=False)
    assert "detail" in (out := capsys.readouterr().out)
    assert "hidden" not in out


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize(
    "text",
    [
        "no answer from http://me:zq1zq2@host:5000/api",
        "FATAL: zq1zq2 is no password of me",
        'connection to "host=db password=zq1zq2" failed',
        '{"password": "zq1zq2"}',
        "postgresql://me:zq1zq2@db/hpo",
    ],
)
def test_line_masks_passwords_and_stays_valid(
    handler: LogHandler, log_format: Format, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "zq1zq2")
    handler.log_format = log_format
    log.warning(text)
    log.warning("%s", text, extra={"fields": {"reason": text, "value": 0.5}})
    lines = written(handler).splitlines()
    assert len(lines) == 2
    assert all("***" in line and "zq" not in line for line in lines)
    if log_format == "json":
        assert json.loads(lines[1])["value"] == 0.5
