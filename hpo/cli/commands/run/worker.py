"""`hpo worker`: join a study as another agent."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options
from hpo.options.worker_request import WorkRequest


@click.command()
@options.request_options(WorkRequest)
@options.log_options
@options.data_dir_option
@options.storage_option
def worker(request: WorkRequest, data_dir: Path | None, storage: str | None) -> int:
    """Join a running study as another agent.

    Runs on any host that reaches the study's storage. Agents may join and leave at any time; trials of
    an agent that leaves resume elsewhere.
    """
    from hpo.agent.launch import work

    return work(request, options.settings(storage, data_dir))
