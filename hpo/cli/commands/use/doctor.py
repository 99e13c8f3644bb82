"""`hpo doctor`: checks of this machine."""

from __future__ import annotations

from pathlib import Path

import click

from hpo.cli import options, output
from hpo.options.hosts import AgentOptions, SlotOptions
from hpo.options.launch_request import LaunchRequest


@click.command()
@options.field_option(LaunchRequest, "workers", help="Worker slots to show, with the devices of each.")
@options.field_option(SlotOptions, "gpus")
@options.field_option(SlotOptions, "device")
@options.field_option(AgentOptions, "backend", show_default="KERAS_BACKEND, or tensorflow")
@options.field_option(SlotOptions, "lanes")
@options.data_dir_option
@options.json_option
@options.storage_option
def doctor(
    workers: int | None,
    gpus: str | None,
    device: str | None,
    backend: str | None,
    lanes: int | None,
    data_dir: Path | None,
    as_json: bool,
    storage: str | None,
) -> int:
    """Check this machine, with a remedy for each problem.

    Checks storage, data, accelerators, versions, disk, cores and memory, and shows the devices of each
    worker slot. Exit code 1 if a required check fails.
    """
    from hpo.doctor import examine

    checks = examine(
        options.settings(storage, data_dir),
        workers,
        SlotOptions(gpus=gpus, device=device, lanes=lanes),
        backend,
    )
    if as_json:
        output.echo_json([check.to_json() for check in checks])
    else:
        colours = {"ok": "green", "warn": "yellow", "fail": "red"}
        facts = []
        for check in checks:
            result = click.style(check.result.ljust(4), fg=colours[check.result])
            facts.append((f"{result}  {check.name}", check.detail))
            if check.remedy:
                facts.append(("", f"-> {check.remedy}"))
        click.echo("\n".join(output.fact_lines(facts)))
    return 1 if any(check.result == "fail" for check in checks) else 0
