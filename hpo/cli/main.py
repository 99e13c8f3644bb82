"""The root command: groups of `hpo --help`, and the one place that turns errors into a line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from itertools import chain
from keyword import iskeyword
from typing import NoReturn

import click

from hpo.cli.errors import (
    EXIT_BROKEN_PIPE,
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    bug,
    is_of_deleted_folder,
    message,
    one_line,
    print_error,
    print_redacted,
)
from hpo.cli.streams import discard_output, flush_output, is_of_output, open_standard_streams, output_lost
from hpo.errors import HpoError, ObjectiveFailedError, UsageError
from hpo.process.signals import handle_interrupts

SECTIONS: dict[str, tuple[str, ...]] = {
    "Run": (
        "plan",
        "launch",
        "worker",
        "pause",
        "resume",
        "stop",
        "kill",
        "enqueue",
        "note",
        "tag",
        "ablate",
        "retrain",
    ),
    "Look": ("ls", "status", "trials", "best", "logs", "objectives"),
    "Results": ("report", "compare", "predict"),
    "Serve": ("dashboard",),
    "Use": ("export", "import", "copy", "rename", "data", "doctor", "delete"),
    "Operate": ("init", "health", "backup", "restore"),
}
"""Titles of the help's groups, each with its commands, and in lower case a package of `hpo.cli.commands`."""

_SHARED_MODULES = dict.fromkeys(("pause", "resume", "stop"), "control") | {"restore": "backup"}
"""Modules that hold several commands; every other command has one named after it."""


class RootGroup(click.Group):
    """Imports the module of a command on its first use, and lists commands in groups."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        return list(chain(*SECTIONS.values()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        section = next((title.lower() for title, commands in SECTIONS.items() if cmd_name in commands), None)
        if section is None:
            return None
        name = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        module = importlib.import_module(f"hpo.cli.commands.{section}.{_SHARED_MODULES.get(name, name)}")
        command = getattr(module, name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and not name.startswith("-"):
            from hpo.suggestions import did_you_mean

            raise click.UsageError(
                f"unknown command {name!r}{did_you_mean(name, self.list_commands(ctx))}", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in self.list_commands(ctx))
        for title, commands in SECTIONS.items():
            rows = []
            for name in commands:
                command = self.get_command(ctx, name)
                assert command is not None
                rows.append((name.ljust(width), command.get_short_help_str(formatter.width)))
            with formatter.section(title):
                formatter.write_dl(rows)


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"hpo {version('hpo-service')}")
        except PackageNotFoundError:
            click.echo("hpo (not installed, run from sources)")
        ctx.exit()


@click.group(
    cls=RootGroup,
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Start here:         hpo launch --study digits-cnn --workers 2 --trials 12
Help of a command:  hpo COMMAND --help
""",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Hyperparameter optimization for Keras image models.

    A study searches an objective's hyperparameters in many trials, on this machine and on any
    other that reaches the same PostgreSQL. You can stop and continue it at any time.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `hpo` and exit: 0 done, 1 error, 2 usage, 130 interrupted, 141 closed pipe."""
    code = EXIT_INTERRUPTED
    try:
        open_standard_streams()
        handle_interrupts()
        code = run(sys.argv[1:] if arguments is None else list(arguments))
        code = flush_output(code)
    except BrokenPipeError:
        # Also if stderr is closed and the error could not be printed.
        discard_output()
        code = EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except OSError:
        # Standard error cannot be written either.
        discard_output()
        code = EXIT_ERROR
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; print an error as one line on stderr."""
    from hpo.terminal.safe_output import safe_streams

    with safe_streams():
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    streams = sys.stdout, sys.stderr
    try:
        result = cli.main(list(arguments), prog_name="hpo", standalone_mode=False)
    except HpoError as error:
        if isinstance(error, ObjectiveFailedError) and error.traceback:
            print_redacted(error.traceback.rstrip(), arguments)
        # Tracebacks of the user's code, from a process that has ended.
        for note in getattr(error, "__notes__", ()):
            print_redacted(note.rstrip(), arguments)
        print_error(message(error), arguments)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_ERROR
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "hpo"
        print_error(f"{one_line(error.format_message()).rstrip('.')} (see {where} --help)", arguments)
        return EXIT_USAGE
    except click.ClickException as error:
        print_error(one_line(error.format_message()), arguments)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt):
            return EXIT_INTERRUPTED
        print_error("aborted: standard input ended before an answer; use --yes", arguments)
        return EXIT_ERROR
    except BrokenPipeError:
        discard_output()
        return EXIT_BROKEN_PIPE
    except SystemExit as stop:
        # Click exits after shell completion, and on a broken pipe, after it has wrapped both streams.
        if (sys.stdout, sys.stderr) != streams:
            sys.stdout, sys.stderr = streams
            discard_output()
            return EXIT_BROKEN_PIPE
        return stop.code if isinstance(stop.code, int) else EXIT_ERROR
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes a line
        if isinstance(error, OSError) and is_of_output(error):
            discard_output()
            return output_lost(error)
        if is_of_deleted_folder(error):
            print_error("the working directory is deleted: change to another one", arguments)
            return EXIT_ERROR
        return bug(error, arguments)
    return result if isinstance(result, int) else 0
