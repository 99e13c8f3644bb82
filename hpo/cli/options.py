"""Options of commands: those of a request's fields, those that several commands share, and their types."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource

from hpo.cli.types import (
    OBJECTIVE,
    NamedPath,
    NearestChoice,
    Number,
    OutputPath,
    click_type,
    is_utf8,
)
from hpo.options.fields import ANY_NUMBER
from hpo.options.launch_request import LaunchRequest
from hpo.options.retrain_request import RetrainRequest
from hpo.settings import Settings
from hpo.terminal import log
from hpo.terminal.log import FORMATS

if TYPE_CHECKING:
    from click.types import OptionHelpExtra

    from storage.engine import Database


_Command = TypeVar("_Command", bound=Callable[..., Any])
_Request = TypeVar("_Request")


class Option(click.Option):
    """An option with earlier spellings that are accepted and not shown, and errors that name the variable."""

    def __init__(self, *args: Any, hidden_names: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.hidden_names = hidden_names
        self._hidden_dest = f"{self.name} by an earlier name"

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        if self.hidden_names:
            parser.add_option(self, self.hidden_names, dest=self._hidden_dest)

    def consume_value(self, ctx: click.Context, opts: Any) -> tuple[Any, ParameterSource]:
        if self._hidden_dest in opts:
            value = opts[self._hidden_dest]
            if opts.get(self.name, value) != value:
                raise click.UsageError(
                    f"{self.opts[0]} {opts[self.name]} contradicts {self.hidden_names[0]} {value}, "
                    f"its earlier name: use {self.opts[0]} alone",
                    ctx,
                )
            opts = {**opts, self.name: value}
        return super().consume_value(ctx, opts)

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        found = super().type_cast_value(ctx, value)
        # Names of files, which are paths here, may be any bytes.
        for text in found if isinstance(found, tuple) else (found,):
            if isinstance(text, str) and not is_utf8(text):
                raise click.BadParameter(f"{text!a} is not UTF-8", ctx, self)
        return found

    def get_error_hint(self, ctx: click.Context | None) -> str:
        if ctx is not None and ctx.get_parameter_source(str(self.name)) is ParameterSource.ENVIRONMENT:
            return str(self.envvar)
        return super().get_error_hint(ctx)

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default
        if isinstance(self.type, Number) and self.type.min == ANY_NUMBER.low:
            extra.pop("range", None)
        return extra


def option(*names: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """`click.option` with `Option`, its environment variable shown."""
    return click.option(*names, cls=Option, show_envvar=True, **attributes)


def field_option(request: type, name: str, **changes: Any) -> Callable[[_Command], _Command]:
    """Return the option of a request's field, with perhaps some of its attributes changed."""
    field = next(field for field in dataclasses.fields(request) if field.name == name)
    attributes = {**field.metadata, **changes}
    names = attributes.pop("names", ()) or (f"--{name.replace('_', '-')}",)
    kind, word = attributes.pop("kind", "text"), attributes.pop("word", None)
    if field.default is dataclasses.MISSING:
        attributes.setdefault("required", True)
    else:
        shown = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        attributes = {"default": field.default, "show_default": shown} | attributes
    if kind == "flag":
        attributes["flag_value"] = not field.default
    elif kind == "switch":
        attributes["is_flag"] = True
    else:
        attributes["type"], metavar = click_type(kind, word)
        attributes.setdefault("metavar", metavar)
    return option(*names, name, **attributes)


def request_options(
    request: type[_Request], omit: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of a request's fields but those of `omit`; it receives them as `request`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_request(**values: Any) -> Any:
            made = _build(request, values)
            return command(request=made, **values)

        for owner, name in reversed(list(_flat_fields(request))):
            if name not in omit:
                with_request = field_option(owner, name)(with_request)
        return with_request

    return decorate


def _flat_fields(request: type[Any]) -> Iterator[tuple[type[Any], str]]:
    """Yield each field that has an option, those of nested dataclasses included, with its class."""
    for field in dataclasses.fields(request):
        if dataclasses.is_dataclass(field.default):
            yield from _flat_fields(cast("type[Any]", type(field.default)))
        else:
            yield request, field.name


def _build(request: type[_Request], values: dict[str, Any]) -> _Request:
    """Take the values of a request's fields out of `values` and build it."""
    given: dict[str, Any] = {}
    for field in dataclasses.fields(cast("Any", request)):
        if dataclasses.is_dataclass(field.default):
            given[field.name] = _build(type(field.default), values)
        elif field.name in values:
            given[field.name] = values.pop(field.name)
    return request(**given)


study_option = field_option(LaunchRequest, "study")
_any_study_option = field_option(LaunchRequest, "study", required=False, show_default="none")
trial_option = field_option(RetrainRequest, "trial")
storage_option = option(
    "--storage",
    metavar="URL",
    envvar="HPO_STORAGE",
    show_default="an embedded PostgreSQL in HPO_HOME",
    help="URL of a PostgreSQL database: postgresql://user:password@host:5432/name. Put a password into the "
    "variable rather than on the command line.",
)
data_dir_option = option(
    "--data-dir",
    metavar="DIR",
    envvar="HPO_DATA_DIR",
    type=NamedPath(files=False),
    show_default="HPO_HOME/data",
    help="Folder with the data sets as <name>.npz; a missing one is downloaded.",
)


STANDARD_OUTPUT = "standard output"
"""Default of `--output`."""


def output_option(metavar: str, default: str | None, help_text: str) -> Callable[[_Command], _Command]:
    """Return `--output` for a FILE or a DIR, as `metavar` says; required unless it has a default."""
    is_file = metavar == "FILE"
    return option(
        "--output",
        "-o",
        metavar=metavar,
        type=(OutputPath if default == STANDARD_OUTPUT else NamedPath)(files=is_file, folders=not is_file),
        **({"show_default": default} if default else {"required": True}),
        help=help_text,
    )


def study_or_model(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--study`, `--model` and `--objective`; it receives `study` or `model`, and the other as None."""

    @functools.wraps(command)
    def with_choice(**values: Any) -> Any:
        context = click.get_current_context()
        study, model = values["study"], values["model"]
        if model is not None and context.get_parameter_source("study") is ParameterSource.ENVIRONMENT:
            values["study"] = study = None
        if (study is None) is (model is None):
            both = "exclude each other" if study else "are missing: name a study, or the folder of a model"
            raise click.UsageError(f"--study and --model {both}", context)
        if model is None and values["objective"] is not None:
            raise click.UsageError("--objective belongs to --model, because a study has its own", context)
        return command(**values)

    for decorator in reversed(
        (
            _any_study_option,
            option(
                "--model",
                metavar="PATH",
                type=NamedPath(),
                show_default="the study's",
                help="Folder of a retrain, or the model.keras in it, in place of --study; needs no database.",
            ),
            option(
                "--objective",
                metavar="REF",
                type=OBJECTIVE,
                show_default="none",
                help="With --model: the objective whose code the model holds, which is then run.",
            ),
        )
    ):
        with_choice = decorator(with_choice)
    return with_choice


json_option = option("--json", "as_json", is_flag=True, show_default="off", help="Print JSON.")


def settings(storage: str | None = None, data_dir: Path | None = None) -> Settings:
    """Return the settings of the environment, overridden by those of the command line."""
    found = Settings.from_environment()
    if storage:
        found = dataclasses.replace(found, storage=storage)
    if data_dir is not None:
        found = dataclasses.replace(found, data_dir=data_dir.expanduser().absolute())
    return found


def format_of(form: str | None, output: Path | None, by_suffix: str | None) -> str | None:
    """Return the format of an output: that of `--format`, else of the file's suffix; None if neither names one.

    Raises:
        click.UsageError: they name different ones.
    """
    if form and by_suffix and form != by_suffix:
        raise click.UsageError(
            f"--format {form} contradicts --output {output}, whose suffix means {by_suffix}: use one of the two",
            click.get_current_context(),
        )
    return form or by_suffix


@contextmanager
def opened(storage: str | None, *, starts: bool = False) -> Iterator[Database]:
    """Open the database of `--storage`; nothing is imported or started before.

    `starts`: a server that starts together with the command is waited for.
    """
    from storage.opening import STARTUP_SECONDS, open_database

    found, seconds = settings(storage), STARTUP_SECONDS if starts else None
    with open_database(found.storage, found.home, wait_seconds=seconds) as database:
        yield database


def log_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of commands that log; they take effect at once and are not passed on."""

    def configure(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if not ctx.resilient_parsing:
            log.configure(**{str(param.name): value})

    function = option(
        "--verbose",
        "-v",
        is_flag=True,
        show_default="off",
        expose_value=False,
        callback=configure,
        help="Log details: every epoch, and each trainer that starts.",
    )(function)
    return option(
        "--log-format",
        type=NearestChoice(FORMATS),
        default="text",
        envvar="HPO_LOG_FORMAT",
        expose_value=False,
        callback=configure,
        help="Format of log lines: text, or json with one object a line and no live view.",
    )(function)
