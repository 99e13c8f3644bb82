"""`python -m hpo.cli.docs`: writes docs/reference/commands.md from the commands' own help texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from hpo.cli.main import SECTIONS, cli

PATH = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"
_WIDTH = 100
_INTRODUCTION = """\
# Commands

Written by `make docs` (`python -m hpo.cli.docs`) from the commands' own help; a test fails when it is stale.

Exit codes: 0 done, 1 error, 2 usage, 130 interrupted. An error is one line on stderr that begins with
`hpo:`; a bug says where its traceback is, and `HPO_DEBUG=1` prints it. Paths come from `HPO_HOME` (default
`~/.local/share/hpo`, for root `/var/lib/hpo`), `HPO_RESULTS_DIR` (`results`) and `HPO_CHECKPOINTS`
(`HPO_HOME/checkpoints`). Shell completion: `eval "$(_HPO_COMPLETE=bash_source hpo)"` in `~/.bashrc`, or
`zsh_source`, `fish_source` in those shells.
"""


def render() -> str:
    """The whole page."""
    with click.Context(cli, info_name="hpo", terminal_width=_WIDTH, **cli.context_settings) as root:
        parts = [_INTRODUCTION]
        for title, commands in SECTIONS.items():
            parts.append(f"## {title}\n")
            for name in commands:
                command = cli.get_command(root, name)
                assert command is not None
                parts += _pages(command, name, root, "###")
    return "\n".join(parts)


def _pages(command: click.Command, name: str, parent: click.Context, heading: str) -> Iterator[str]:
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=_WIDTH, **command.context_settings
    )
    yield f"{heading} `{context.command_path}`\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from _pages(found, below, context, heading + "#")


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(render(), encoding="utf-8")
    click.echo(f"wrote {PATH}")
