"""The deployment files of the repository, and the `hpo` commands that stand in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from hpo.cli.main import cli

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "docker-compose.yml"
KUBERNETES = sorted((ROOT / "examples" / "kubernetes").glob("*.yaml"))
SBATCH = ROOT / "examples" / "slurm.sbatch"
IMAGE = ROOT / "Dockerfile"


def compose() -> dict[str, Any]:
    """The compose file, its anchors resolved and its variables not."""
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def manifests() -> Iterator[dict[str, Any]]:
    """Every Kubernetes object."""
    for path in KUBERNETES:
        yield from yaml.safe_load_all(path.read_text())


def check_command(words: Sequence[str]) -> None:
    """That `hpo` knows the command and all its options; values are checked too."""
    # With its settings, because a command keeps the help option names of its first context.
    with click.Context(cli, info_name="hpo", **cli.context_settings) as root:
        command = cli.get_command(root, words[0])
        assert command is not None, words
        command.make_context(words[0], list(words[1:]), parent=root)
