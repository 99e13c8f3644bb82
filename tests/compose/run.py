"""A study in real containers: scaled 1 → 4 → 2, a worker killed, PostgreSQL restarted, consistent records.

    python -m tests.compose.run [--build-option=--network=host …] [--trials 40]

Requirements and what it leaves behind (nothing): README.md.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from tests.acceptance.faults.chaos import AUDIT
from tests.acceptance.service import Service

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
EPOCHS = 10
EPOCH_SECONDS = 0.5
LEASE_SECONDS = 8
STOP_SECONDS = 10.0
"""Seconds that `docker stop` gives an agent by default."""


class Compose:
    """One project of Docker Compose, under a name of its own."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.project = f"hpo-test-{secrets.token_hex(4)}"
        self._file = folder / "env"
        self._file.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
        program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
        self._command = [
            *program, "--project-directory", str(ROOT), "--project-name", self.project,
            "--env-file", str(self._file),
            "-f", str(ROOT / "docker-compose.yml"), "-f", str(Path(__file__).with_name("override.yml")),
        ]  # fmt: skip

    def __call__(self, *words: object) -> str:
        """Run a command of compose and return its output."""
        return run([*self._command, *map(str, words)])

    def scale(self, workers: int) -> None:
        """Set the number of workers."""
        self("up", "-d", "--no-build", "--scale", f"worker={workers}")

    def containers(self, service: str, everything: bool = False) -> list[str]:
        """Ids of the containers of a service that run, or of all."""
        labels = [
            f"label=com.docker.compose.{k}={v}" for k, v in (("project", self.project), ("service", service))
        ]
        filters = [word for label in labels for word in ("--filter", label)]
        return run(["docker", "ps", "--quiet", *(["--all"] if everything else []), *filters]).split()

    def leftovers(self) -> list[str]:
        """Containers, volumes and networks of the project."""
        label = ["--filter", f"label=com.docker.compose.project={self.project}", "--quiet"]
        return [
            *run(["docker", "ps", "--all", *label]).split(),
            *run(["docker", "volume", "ls", *label]).split(),
            *run(["docker", "network", "ls", *label]).split(),
        ]


def run(command: Sequence[str]) -> str:
    """Run a command and return its output; raise AssertionError if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def inspect(container: str, form: str) -> str:
    return run(["docker", "inspect", "--format", form, container]).strip()


@dataclass
class Scenario:
    """The steps of the test."""

    compose: Compose
    password: str
    dashboard_password: str
    folder: Path
    trials: int

    def __call__(self) -> None:
        self.say("one command starts it")
        self.compose.scale(1)
        service = self.service()
        service.rows(AUDIT)
        service.wait_for_epoch(1)
        (first,) = self.compose.containers("worker")
        self.say(f"the user in the containers: {run(['docker', 'exec', first, 'id']).strip()}")
        self.say(f"hpo health: {run(['docker', 'exec', first, 'hpo', 'health']).strip()}")

        self.look_at_dashboard()
        self.look_at_rights(service)

        self.say("1 -> 4 workers")
        self.compose.scale(4)
        service.wait_for(lambda: len(self.hosts(service)) == 4, 120)
        self.say(f"four agents at work: {', '.join(sorted(self.hosts(service)))}")

        # One with a checkpoint, to show that it is used.
        (victim,) = service.wait_for(
            lambda: service.rows(
                "SELECT host FROM hpo.attempts WHERE ended_at IS NULL AND epochs BETWEEN 2 AND :e LIMIT 1",
                e=EPOCHS // 2,
            )
        )
        victim = victim.host
        self.say(f"docker kill {victim}")
        run(["docker", "kill", victim])
        lost = "SELECT count(*) FROM hpo.attempts WHERE outcome = 'lost' AND host = :h"
        service.wait_for(lambda: service.value(lost, h=victim) == 1, 60)
        resumed = (
            "SELECT count(*) FROM hpo.attempts a JOIN hpo.attempts b USING (reservation_id) WHERE a.host = :h"
            " AND a.outcome = 'lost' AND b.host <> a.host AND b.resumed_from > 0"
        )
        service.wait_for(lambda: service.value(resumed, h=victim) == 1, 60)
        self.say("its trial was lost, and resumed from its checkpoint by another")

        self.say("restart PostgreSQL")
        before = service.value("SELECT count(*) FROM hpo.epochs")
        self.compose("restart", "postgres")
        service = self.service()
        service.wait_for(lambda: service.value("SELECT count(*) FROM hpo.epochs") > before + 3, 60)
        assert service.value("SELECT count(*) FROM hpo.attempts WHERE outcome = 'lost'") == 1

        self.say("-> 2 workers")
        there = set(self.compose.containers("worker"))
        began = time.monotonic()
        self.compose.scale(2)
        seconds = time.monotonic() - began
        left = set(self.compose.containers("worker"))
        assert len(left) == 2, left
        # Compose may have started the killed one again, whose first agent had no last word.
        gone = {container[:12] for container in there - left} - {victim}
        ended = "SELECT count(*) FROM hpo.agents WHERE host = ANY(:h) AND ended_at IS NULL"
        assert service.value(ended, h=list(gone)) == 0, "an agent was stopped without its last word"
        self.say(f"{len(gone)} agents gave their trials back and left; compose took {seconds:.1f} s")

        stopped = next(container for container in left if container[:12] != victim)
        began = time.monotonic()
        run(["docker", "stop", "--time", str(int(STOP_SECONDS)), stopped])
        seconds = time.monotonic() - began
        code = inspect(stopped, "{{.State.ExitCode}}")
        assert code == "130", f"docker stop ended an agent with {code}"
        assert service.value(ended, h=[stopped[:12]]) == 0
        self.say(f"docker stop: {seconds:.1f} s, exit code {code}")
        self.compose.scale(2)

        watched = self.compose.containers("worker")[0]
        service.wait_for(lambda: inspect(watched, "{{.State.Health.Status}}") != "starting", 90)
        self.say(f"health as Docker sees it: {inspect(watched, '{{.State.Health.Status}}')}")
        assert inspect(watched, "{{.State.Health.Status}}") == "healthy"

        service.wait_for(lambda: not self.compose.containers("worker"), 600)
        self.say(self.compose("run", "--rm", "-T", "hpo", "status"))
        service.check_records(self.trials, EPOCHS, study="compose")
        twice = service.rows("SELECT trial_id FROM audit_tells GROUP BY trial_id HAVING count(*) > 1")
        assert twice == [], "a trial was reported to Optuna twice"
        reported = service.value("SELECT count(*) FROM audit_tells")
        outcomes = service.rows(
            "SELECT outcome, count(*) AS n FROM hpo.attempts GROUP BY outcome ORDER BY outcome"
        )
        attempts = ", ".join(f"{row.n} {row.outcome}" for row in outcomes)
        hosts = service.value("SELECT count(DISTINCT host) FROM hpo.attempts")
        self.say(
            f"the records are consistent: {self.trials} trials, {reported} reported to Optuna, each once;"
            f" attempts: {attempts}; on {hosts} containers;"
            f" {service.value('SELECT count(*) FROM hpo.epochs')} epochs, each once"
        )
        self.say(self.compose("run", "--rm", "-T", "hpo", "export"))
        self.say(self.compose("run", "--rm", "-T", "retrain"))
        results = self.compose(
            "run", "--rm", "-T", "--entrypoint", "ls", "hpo", "/var/lib/hpo/results/compose"
        )
        assert "metrics.json" in results, results

    def look_at_dashboard(self) -> None:
        """The published dashboard requires the password, and is read-only."""
        (container,) = self.compose.containers("dashboard")
        published = run(["docker", "port", container, "8080/tcp"]).split()[0]
        assert published.startswith("127.0.0.1:"), published

        def status(path: str, password: str | None = None, method: str = "GET") -> int:
            request = Request(f"http://{published}{path}", method=method)
            if password is not None:
                request.add_header("Authorization", "Basic " + b64encode(f"hpo:{password}".encode()).decode())
            try:
                with urlopen(request, timeout=30) as answer:
                    return int(answer.status)
            except HTTPError as refused:
                return refused.code
            except OSError:
                return 0

        until(lambda: status("/healthz") == 200, 60)
        answers = {
            "without a password": status("/api/studies"),
            "with another": status("/api/studies", "another"),
            "with it": status("/api/studies", self.dashboard_password),
            "deleting with it": status("/api/studies/1", self.dashboard_password, "DELETE"),
            "the report": status("/reports/compose/report.html", self.dashboard_password),
        }
        self.say(f"dashboard at {published}: {answers}")
        assert list(answers.values()) == [401, 401, 200, 403, 200], answers

    def look_at_rights(self, service: Service) -> None:
        """Containers log in as a role that owns its database only, and show no password in a list of processes."""
        rights = (
            "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication FROM pg_roles WHERE rolname = "
        )
        assert service.value(f"{rights} current_user") is False
        (postgres,) = self.compose.containers("postgres")
        superusers = (
            "SELECT count(*) FROM pg_authid WHERE rolcanlogin AND rolsuper AND rolpassword IS NOT NULL"
        )
        psql = ["docker", "exec", postgres, "psql", "--username=postgres", "--dbname=hpo", "-tAc", superusers]
        assert run(psql).strip() == "0", "a superuser can log in over the network"
        processes = ""
        for name in ("postgres", "worker", "dashboard"):
            (container,) = self.compose.containers(name)
            processes += run(["docker", "top", container])
        assert self.password not in processes
        assert self.dashboard_password not in processes
        self.say(
            "the role of the containers is not a superuser; no password is among the arguments of processes"
        )

    def hosts(self, service: Service) -> set[str]:
        """Return the hosts that train trials."""
        rows = service.rows(
            "SELECT DISTINCT host FROM hpo.attempts WHERE ended_at IS NULL AND pid IS NOT NULL"
        )
        return {row.host for row in rows}

    def service(self) -> Service:
        """The database of the study, by the address that PostgreSQL has at the moment."""
        (container,) = self.compose.containers("postgres")
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = until(lambda: inspect(container, form), 30)
        url = f"postgresql+psycopg2://optuna:{quote(self.password, safe='')}@{address}/hpo"
        return Service(self.folder, url)

    def say(self, message: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {message}", flush=True)


def until(condition: Callable[[], T], seconds: float) -> T:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)
    return value


@contextmanager
def project(folder: Path, settings: dict[str, str]) -> Iterator[Compose]:
    """A project that is removed at the end in any case."""
    compose = Compose(folder, settings)
    try:
        yield compose
    except BaseException:
        print(compose("logs", "--no-color", "--tail=40"), file=sys.stderr)
        raise
    finally:
        compose("--profile", "tools", "--profile", "retrain", "down", "--volumes", "--timeout", "30")
        assert compose.leftovers() == [], compose.leftovers()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--build-option", action="append", default=[], help="passed on to docker build")
    parser.add_argument("--postgres", default="17.6-bookworm", help="tag of the image postgres")
    arguments = parser.parse_args()
    # Such as would break a URL, a shell and an interpolation.
    password = "p@ss: w/rd%25#" + secrets.token_hex(8)
    dashboard_password = "d@sh: b%rd" + secrets.token_hex(8)
    os.environ["DOCKER_BUILDKIT"] = "1"
    began = time.monotonic()
    print(run(["docker", "build", *arguments.build_option, "--tag", "hpo-service:test", str(ROOT)]), end="")
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)
    settings = {
        "POSTGRES_PASSWORD": password,
        "DASHBOARD_PASSWORD": dashboard_password,
        # Any that is free.
        "DASHBOARD_PORT": "0",
        "POSTGRES_TAG": arguments.postgres,
        "HPO_TAG": "test",
        "STUDY": "compose",
        "OBJECTIVE": "objectives_for_tests.py:Counted",
        "TRIALS": str(arguments.trials),
        "LAUNCH_OPTIONS": f"--epochs {EPOCHS} --pruner none",
        "CODE_DIR": str(ROOT / "tests" / "acceptance"),
        "LEASE_SECONDS": str(LEASE_SECONDS),
        "TEST_EPOCH_SECONDS": str(EPOCH_SECONDS),
        "SEEDS": "2",
    }
    with tempfile.TemporaryDirectory() as folder, project(Path(folder), settings) as compose:
        Scenario(compose, password, dashboard_password, Path(folder), arguments.trials)()
    print("nothing is left of it but the image hpo-service:test")


if __name__ == "__main__":
    main()
