"""The root command: groups of `hpo --help`, and the one place that turns errors into a line."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from keyword import iskeyword
from typing import NoReturn

import click

from hpo.errors import HpoError, ObjectiveFailedError, UsageError

SECTIONS: dict[str, tuple[str, ...]] = {
    "Run": ("launch", "worker", "pause", "resume", "stop", "kill", "note", "retrain"),
    "Look": ("ls", "status", "trials", "best", "logs", "objectives"),
    "Results": ("report", "compare"),
    "Serve": ("dashboard",),
    "Use": ("export", "import", "data", "doctor", "delete"),
    "Operate": ("init", "health", "backup", "restore"),
}
"""Titles of the help's groups, each with its commands, and in lower case a package of `hpo.cli.commands`."""

_SHARED_MODULES = dict.fromkeys(("pause", "resume", "stop"), "control") | {"restore": "backup"}
"""Modules that hold several commands; every other command has one named after it."""

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141
"""141 is 128 + SIGPIPE, the exit code of a program that a closed pipe ended."""

_OUTPUT_LOST = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


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
Start here:   hpo launch --study digits-cnn --workers 2 --trials 12
Help of a command: hpo COMMAND --help
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
        _open_standard_streams()
        # SIGTERM acts as Ctrl-C unless a command handles it, so that child processes are ended.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        code = run(sys.argv[1:] if arguments is None else list(arguments))
        code = _flush_output(code)
    except BrokenPipeError:
        # Also if stderr is closed and the error could not be printed.
        _discard_output()
        code = EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except OSError:
        # Standard error cannot be written either.
        _discard_output()
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
            _print(error.traceback.rstrip(), arguments)
        # Tracebacks of the user's code, from a process that has ended.
        for note in getattr(error, "__notes__", ()):
            _print(note.rstrip(), arguments)
        _print_error(_message(error), arguments)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_ERROR
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "hpo"
        _print_error(f"{_one_line(error.format_message()).rstrip('.')} (see {where} --help)", arguments)
        return EXIT_USAGE
    except click.ClickException as error:
        _print_error(_one_line(error.format_message()), arguments)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt):
            return EXIT_INTERRUPTED
        _print_error("aborted: standard input ended before an answer; use --yes", arguments)
        return EXIT_ERROR
    except BrokenPipeError:
        _discard_output()
        return EXIT_BROKEN_PIPE
    except SystemExit as stop:
        # Click exits after shell completion, and on a broken pipe, after it has wrapped both streams.
        if (sys.stdout, sys.stderr) != streams:
            sys.stdout, sys.stderr = streams
            _discard_output()
            return EXIT_BROKEN_PIPE
        return stop.code if isinstance(stop.code, int) else EXIT_ERROR
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes a line
        if isinstance(error, OSError) and _is_of_output(error):
            _discard_output()
            return _output_lost(error)
        return _bug(error, arguments)
    return result if isinstance(result, int) else 0


def _message(error: HpoError) -> str:
    text = _one_line(str(error))
    return text or _one_line((type(error).__doc__ or type(error).__name__).splitlines()[0])


def _one_line(text: str) -> str:
    from hpo.formatting import printable

    return printable(" ".join(text.split()))


def _print_error(message: str, arguments: Sequence[str]) -> None:
    _print(f"hpo: {message}", arguments)


def _print(text: str, arguments: Sequence[str]) -> None:
    click.echo(_redacted(text, arguments), err=True)


def _redacted(text: str, arguments: Sequence[str]) -> str:
    """Remove the passwords given to this process from a text, and other texts that look like one."""
    from storage.redaction import passwords_given, redacted

    return redacted(text, passwords_given(arguments, os.environ))


def _bug(error: Exception, arguments: Sequence[str]) -> int:
    summary = _one_line(f"{type(error).__name__}: {error}")
    if os.environ.get("HPO_DEBUG") == "1":
        _print("".join(traceback.format_exception(error)).rstrip(), arguments)
        _print_error(f"{summary} — this is a bug", arguments)
    else:
        where = _write_crash(error, arguments)
        _print_error(f"{summary} — this is a bug; its traceback is in {where}", arguments)
    return EXIT_ERROR


def _write_crash(error: Exception, arguments: Sequence[str]) -> str:
    """Write the traceback to the home, or to the temporary folder if that is not writable, and return the path."""
    import tempfile
    import time
    from pathlib import Path

    from hpo.ownership import make_private_folder
    from hpo.settings import Settings

    text = f"hpo {' '.join(arguments)}\n\n{''.join(traceback.format_exception(error))}"
    prefix = time.strftime("hpo-%Y%m%d-%H%M%S-")
    folders = [Path(tempfile.gettempdir())]
    with suppress(HpoError):
        folders.insert(0, Settings.from_environment().home / "crashes")
    for folder in folders:
        try:
            make_private_folder(folder)
            # A new file, which only its user can read, under a name that nobody can predict.
            descriptor, path = tempfile.mkstemp(prefix=prefix, suffix=".txt", dir=folder)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(_redacted(text, arguments))
        except OSError:
            continue
        return path
    return "no file: neither the home nor the temporary folder is writable (set HPO_DEBUG=1 to print it)"


def _open_standard_streams() -> None:
    """Open closed standard streams on the null device, or the next file opened would get their output.

    Raises:
        SystemExit: standard output is closed, so the command's output would be lost.
    """
    closed = [descriptor for descriptor in (0, 1, 2) if not _is_open(descriptor)]
    for descriptor in closed:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
    if 2 in closed:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if 1 in closed:
        sys.stdout = os.fdopen(1, "w", closefd=False)
        _print_error("standard output is closed: redirect it to a file or to /dev/null", [])
        sys.exit(EXIT_ERROR)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _is_of_output(error: OSError) -> bool:
    """Whether `error` is of standard output, which cannot be written."""
    if error.filename is not None or error.errno not in _OUTPUT_LOST:
        return False
    try:
        os.write(1, b"\n")
    except OSError:
        return True
    return False


def _flush_output(code: int) -> int:
    """Write the rest of the output, and return `code`, or 1 if it cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output()
        return _output_lost(error)
    return code


def _output_lost(error: OSError) -> int:
    _print_error(f"cannot write the output ({error.strerror}): redirect it elsewhere", [])
    return EXIT_ERROR


def _discard_output() -> None:
    """Redirect streams that cannot be written to the null device, so that the interpreter's last flush succeeds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
