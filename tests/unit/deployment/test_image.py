"""The Dockerfile: hadolint accepts it, and it has all that the service needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.unit.deployment.files import IMAGE, ROOT, check_command

TEXT = IMAGE.read_text()
FINAL = TEXT[TEXT.rindex("\nFROM ") :]


def instruction(name: str) -> str:
    """Return the last instruction of that name in the final stage, its lines joined."""
    found = re.findall(rf"^{name} ((?:.*\\\n)*.*)", FINAL, re.MULTILINE)
    assert found, f"no {name}"
    return str(found[-1]).replace("\\\n", " ")


def test_hadolint() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, IMAGE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_signals_reach_hpo() -> None:
    """A shell as process 1 would keep SIGTERM from it."""
    assert json.loads(instruction("ENTRYPOINT")) == ["tini", "--", "hpo"]
    check_command(["health", "--study", "s"])
    assert instruction("HEALTHCHECK").endswith('CMD ["hpo", "health"]')


def test_not_root_and_the_same_id_everywhere() -> None:
    uid, _, gid = instruction("USER").partition(":")
    assert int(uid) > 0
    assert f"useradd --uid {uid} --gid {gid}" in FINAL
    # Docker gives a new volume the owner of the folder that it covers.
    owned = re.search(rf"install --directory --owner={uid} --group={gid} ((?:.*\\\n)*.*)", FINAL)
    assert owned is not None
    variables = dict(re.findall(r"(\w+)=(/var/lib/hpo/\S+)", instruction("ENV")))
    for name in ("HPO_HOME", "HPO_CHECKPOINTS", "HPO_DATA_DIR", "HPO_RESULTS_DIR"):
        assert variables[name] in owned[1].split()


def test_the_dependencies_are_the_locked_ones_and_their_layer_comes_before_the_code() -> None:
    assert "uv sync --locked" in TEXT
    assert TEXT.index("uv sync --locked") < TEXT.index("COPY hpo hpo")
    assert FINAL.index("COPY --from=dependencies") < FINAL.index("--mount=type=bind,from=wheel")
    assert "HPO_EMBEDDED=off" in instruction("ENV")


def test_the_context_holds_what_is_copied_and_no_secrets() -> None:
    patterns = (ROOT / ".dockerignore").read_text().split()
    assert "*" in patterns
    for line in re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert f"!{source}" in patterns
            assert (ROOT / source).exists()
