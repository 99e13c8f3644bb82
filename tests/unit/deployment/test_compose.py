"""The compose file: valid by the published schema, safe by default, and its commands are known to `hpo`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.deployment.files import COMPOSE, ROOT, check_command, compose

EXAMPLE = ROOT / ".env.example"
OVERRIDE = ROOT / "tests" / "compose" / "override.yml"
SERVICES: dict[str, Any] = compose()["services"]
OURS = {name: service for name, service in SERVICES.items() if name != "postgres"}
INSTALLED = Path(sys.prefix) / "compose" / "bin"
"""Folder of the docker-compose that `make test` installs next to the project's packages."""
PROGRAM = shutil.which("docker-compose") or shutil.which("docker-compose", path=INSTALLED)
VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?([^}]*)\}")


def interpolated(value: str, given: Mapping[str, str] = {}) -> str:
    """Replace each variable by its given value, else by its default."""
    return VARIABLE.sub(lambda found: given.get(found[1]) or (found[3] if found[2] == ":-" else "x"), value)


def test_the_schema() -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [program, "--builtin-schema", "vendor.compose-spec", COMPOSE, OVERRIDE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(
    PROGRAM is None,
    reason="the compose file in docker-compose (install docker-compose)",
)
def test_docker_compose_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "env"
    command = [str(PROGRAM), "--env-file", str(file), "-f", str(COMPOSE), "-f", str(OVERRIDE), "config"]
    environment = {name: value for name, value in os.environ.items() if "PASSWORD" not in name}
    file.write_text(EXAMPLE.read_text())
    refused = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert refused.returncode != 0
    assert "choose one in .env (see .env.example)" in refused.stderr
    file.write_text(re.sub(r"(_PASSWORD)=$", r"\1='p@ss w/rd$$'", EXAMPLE.read_text(), flags=re.MULTILINE))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_password_is_an_error_and_none_is_written_down() -> None:
    text = COMPOSE.read_text()
    for name, kind, rest in VARIABLE.findall(text):
        if "PASSWORD" in name:
            assert (kind, rest) == (":?", "choose one in .env (see .env.example)")
    for line in EXAMPLE.read_text().splitlines():
        name, _, value = line.partition("=")
        assert not ("PASSWORD" in name and value)
    ignored = (ROOT / ".gitignore").read_text().split()
    assert "/.env" in ignored


def test_every_variable_is_in_the_example() -> None:
    there = set(re.findall(r"^#?(\w+)=", EXAMPLE.read_text(), re.MULTILINE))
    asked = {name for name, _, _ in VARIABLE.findall(COMPOSE.read_text())} - {"HPO_TAG", "GPU_SLOTS"}
    assert asked == there
    for name, kind, default in VARIABLE.findall(COMPOSE.read_text()):
        shown = re.search(rf"^{name}=(.+)$", EXAMPLE.read_text(), re.MULTILINE)
        if shown and kind == ":-":
            assert shown[1] == default, f"{name}: another default than in the compose file"


def test_published_ports_are_of_this_machine_alone() -> None:
    published = {
        name: [interpolated(port) for port in service["ports"]]
        for name, service in SERVICES.items()
        if "ports" in service
    }
    assert published == {"dashboard": ["127.0.0.1:8080:8080"]}


@pytest.mark.parametrize("name", OURS)
def test_the_command_is_one_of_hpo(name: str) -> None:
    command = OURS[name]["command"]
    words = shlex.split(interpolated(command)) if isinstance(command, str) else map(interpolated, command)
    environment = {key: interpolated(value) for key, value in OURS[name]["environment"].items()}
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environment.items():
            patch.setenv(key, value)
        check_command(list(words))


@pytest.mark.parametrize("name", OURS)
def test_a_container_may_do_little(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service
    assert not any(volume.startswith("/var/run") for volume in service["volumes"])


def test_what_waits_for_what() -> None:
    def condition(name: str, on: str) -> str:
        return str(SERVICES[name]["depends_on"][on]["condition"])

    assert condition("init", "postgres") == "service_healthy"
    assert condition("study", "init") == "service_completed_successfully"
    for worker in ("worker", "worker-gpu"):
        assert condition(worker, "study") == "service_completed_successfully"
        assert condition(worker, "postgres") == "service_healthy"
        # SIGTERM ends an agent within 10 s.
        assert int(SERVICES[worker]["stop_grace_period"].removesuffix("s")) >= 20
        assert SERVICES[worker]["healthcheck"]["test"] == ["CMD", "hpo", "health"]
    assert SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == [
        "gpu"
    ]
    assert {name: service.get("profiles") for name, service in SERVICES.items() if "profiles" in service} == {
        "worker-gpu": ["gpu"],
        "retrain": ["retrain"],
        "hpo": ["tools"],
    }


def test_scripts_are_bash() -> None:
    for script in (ROOT / "tests" / "compose" / "base_images.sh",):
        subprocess.run(["bash", "-n", script], check=True)


def documented() -> list[str]:
    """Every command of compose that a page shows."""
    pages = (ROOT / "README.md", ROOT / "docs" / "how-to" / "containers.md", COMPOSE)
    text = "\n".join(page.read_text() for page in pages)
    found = re.findall(r"docker compose (?:up|run|logs|--profile)[^`#|>'\n]*", text)
    return sorted({line.strip() for line in found})


@pytest.mark.parametrize("line", documented())
def test_commands_on_pages_name_what_is_there(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line.replace("(", "").replace(")", ""))[2:]
    if words[0] == "--profile":
        assert words[1] in {
            profile for service in SERVICES.values() for profile in service.get("profiles", ())
        }
        words = words[2:]
    scaled = [words[at + 1] for at, word in enumerate(words) if word == "--scale"]
    assert all(scale.partition("=")[0] in SERVICES for scale in scaled)
    if words[0] != "run":
        return
    rest = words[1:]
    while rest[0].startswith("-"):
        rest = rest[1:] if rest[0] in ("--rm", "-T") else rest[2:]
    assert rest[0] in SERVICES
    if "--entrypoint" not in words and len(rest) > 1:
        monkeypatch.setenv("HPO_STUDY", "s")
        check_command(rest[1:])


def test_the_readme_shows_the_four_commands() -> None:
    shown = [line for line in documented() if line in (ROOT / "README.md").read_text()]
    assert [" ".join(line.split()[2:4]) for line in shown] == ["run --rm", "run --rm", "up -d", "up -d"]


def test_containers_log_in_as_a_role_without_superuser() -> None:
    postgres = SERVICES["postgres"]
    assert postgres["environment"]["POSTGRES_USER"] == "postgres"
    assert "./examples/postgres-role.sh:/docker-entrypoint-initdb.d/role.sh:ro" in postgres["volumes"]
    script = (ROOT / "examples" / "postgres-role.sh").read_text()
    assert "CREATE ROLE optuna LOGIN NOSUPERUSER" in script
    for service in OURS.values():
        assert service["environment"]["HPO_STORAGE"].startswith("postgresql://optuna@")


def test_images_are_of_exact_versions() -> None:
    tags = [interpolated(SERVICES["postgres"]["image"])]
    tags += re.findall(r"^ARG PYTHON_IMAGE=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(tags) == 2
    for tag in tags:
        assert re.fullmatch(r"postgres:\d+\.\d+-\w+|python:\d+\.\d+\.\d+-slim-\w+", tag)
