"""Passwords are never printed, written, served or stored, nor passed to a process that does not need them."""

from __future__ import annotations

import base64
import gzip
import os
import re
import signal
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from sqlalchemy import make_url

from tests.acceptance.service import Completed, Service

PASSWORD = "zq1/zq2 zq3'zq4\"zq5:zq6@zq7%zq8"
"""Each part is distinguishable from all other text in any encoding."""
LEAK = re.compile(r"(?i)zq\d")
PACKED = re.compile(r'<script type="text/plain" id="\w+">([^<]+)</script>')
"""Part of a page in base64, in which chance makes any three letters."""

TELLING = """
import os
import time

from optuna.distributions import FloatDistribution

from objectives.base import Objective

print("imported with", dict(os.environ), flush=True)


class Telling(Objective):
    metric, direction, epochs = "loss", "minimize", 2
    space = {"x": FloatDistribution(0.0, 1.0)}

    def prepare(self, data, final):
        print("prepared with", dict(os.environ), flush=True)

    def train(self, params, run):
        print("trained with", dict(os.environ), flush=True)
        for epoch in run.epochs():
            while not os.path.exists(os.environ["TEST_GATE"]):
                run.tick(0, 1)
                time.sleep(0.02)
            run.report(loss=params["x"] / epoch)
        if run.final:
            run.record(test_accuracy=0.9)
        elif params["x"] > 0.99:
            raise ValueError(f"failed with {dict(os.environ)}")
"""


@pytest.fixture
def secretive(service: Service) -> Service:
    """A service whose user has a password for each setting; the tests' server accepts any."""
    (service.folder / "telling.py").write_text(TELLING)
    url = make_url(service.url).set(password=PASSWORD).render_as_string(hide_password=False)
    service.set(
        HPO_STORAGE=url,
        PGPASSWORD="zq21/zq22",
        PGPASSFILE=str(service.folder / "zq31"),
        HPO_DASHBOARD_PASSWORD="zq41",
        TEST_GATE=service.folder / "gate",
    )
    return service


def check(ended: Completed, code: int = 0) -> None:
    assert ended.code == code, ended.out + ended.err
    assert not LEAK.search(ended.out), ended.out
    assert not LEAK.search(ended.err), ended.err


def readable(content: bytes) -> str:
    """Return content as text, and the packed parts of a page as the browser unpacks them."""
    return PACKED.sub(
        lambda part: gzip.decompress(base64.b64decode(part[1])).decode("latin-1"), content.decode("latin-1")
    )


def check_files(folder: Path) -> None:
    for file in folder.rglob("*"):
        assert not LEAK.search(str(file))
        if file.is_file():
            assert not LEAK.search(readable(file.read_bytes())), file


def check_rows(service: Service) -> None:
    tables = service.rows(
        "SELECT table_schema AS schema, table_name AS name FROM information_schema.tables"
        " WHERE table_schema IN ('hpo', 'public') AND table_type = 'BASE TABLE'"
    )
    assert len(tables) > 10
    for table in tables:
        for (row,) in service.rows(f'SELECT t::text FROM {table.schema}."{table.name}" t'):
            assert not LEAK.search(row), (table, row)


def test_passwords_stay_out_of_a_study_from_launch_to_report(secretive: Service) -> None:
    service = secretive
    objective = f"{service.folder / 'telling.py'}:Telling"
    launched = service.start(
        "launch", "--study", "s", "--objective", objective, "--trials", 2, "--workers", 2, "--pruner", "none"
    )
    service.wait_for(lambda: len(service.trainers()) == 2)
    for process in service.processes():
        assert not LEAK.search(" ".join(process.cmdline()))
    for pid in (launched.template.pid, *service.trainers()):
        # Not only hidden from `os.environ`, because child processes would inherit it.
        assert not LEAK.search(str(psutil.Process(pid).environ()))
    check_files(service.folder / "home")
    (service.folder / "gate").touch()
    check(launched.wait())
    logs = service.hpo("logs", "--study", "s")
    check(logs)
    assert "trained with" in logs.out

    dashboard = service.start("dashboard", "--port", 0)
    (url,) = service.wait_for(lambda: re.findall(r"dashboard: (http://\S+)/ ", dashboard.output()))
    user = base64.b64encode(b"hpo:zq41").decode()
    for path in ("/", "/api/studies", "/api/studies/1", "/reports/s/report.html"):
        request = urllib.request.Request(url + path, headers={"Authorization": f"Basic {user}"})
        with urllib.request.urlopen(request) as answer:
            content = answer.read()
        assert not LEAK.search(readable(content))
    # The report, whose charts are packed.
    assert len(PACKED.findall(content.decode("latin-1"))) == 2
    dashboard.send_signal(signal.SIGTERM)
    dashboard.wait()
    assert not LEAK.search(dashboard.output())

    for words in (
        ("--version",),
        ("ls",),
        ("status", "--study", "s"),
        ("trials", "--study", "s"),
        ("best", "--study", "s"),
        ("retrain", "--study", "s", "--seeds", 1, "--workers", 1),
        ("report", "--study", "s"),
        ("export", "--study", "s", "-o", "best.py"),
        ("backup", "--study", "s", "-o", "backup.gz"),
    ):
        check(service.hpo(*words))
    assert not LEAK.search(service.hpo("doctor").out)
    check_rows(service)
    # The input of the commands is not their output.
    for folder in (service.folder / "home", service.folder / "results", service.folder / "checkpoints"):
        check_files(folder)
    for file in ("best.py", "backup.gz"):
        check_files(service.folder / file)


def test_failing_commands_show_no_password(secretive: Service) -> None:
    service = secretive
    raw = f"postgresql://me:{PASSWORD}@127.0.0.1:1/hpo"
    away = f"postgresql://me:{quote(PASSWORD, safe='')}@127.0.0.1:1/hpo"
    as_typed = f"postgresql://me:{PASSWORD.replace('%', '%25').replace('@', '%40')}@127.0.0.1:1/hpo"
    objective = f"{service.folder / 'telling.py'}:Telling"
    # Without Ray, no address is looked at.
    ray = 2 if find_spec("ray") else 1
    service.set(HPO_DEBUG=1)
    for words, code in (
        (("status", "--study", "none"), 2),
        (("status", "--study", "none", "--storage", raw), 2),
        (("launch", "--study", "s", as_typed), 2),
        (("launch", "--study", "s", "--trials", away), 2),
        (("launch", "--study", "s", "--storage", *raw.split()), 2),
        (("restore", as_typed), 1),
        (("health", "--study", "s", "--storage", as_typed), 1),
        (("doctor", "--storage", away), 1),
        (("launch", "--study", "s", "--engine", "ray", "--address", as_typed, "--objective", objective), ray),
    ):
        check(service.hpo(*words), code)
    service.set(HPO_STORAGE=as_typed)
    failed = service.hpo("health", "--study", "s")
    check(failed, 1)
    assert "the database at 127.0.0.1:1 does not answer" in failed.complaint()
    check_files(service.folder / "home")


def test_objective_that_fails_with_its_environment(secretive: Service) -> None:
    service = secretive
    broken = service.folder / "broken.py"
    broken.write_text("import os\n\nraise ValueError(dict(os.environ))\n")
    failed = service.hpo("launch", "--study", "s", "--objective", f"{broken}:Broken", "--workers", 1)
    check(failed, 1)
    assert "ValueError" in failed.err
    assert os.environ["PATH"] in failed.err
    check_files(service.folder / "home")
