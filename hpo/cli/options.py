"""Options of commands: those of a request's fields, those that several commands share, and their types."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import click

from hpo.options import Kind, LaunchRequest, OptionSpec, Range, RetrainRequest, SlotOptions
from hpo.settings import Settings
from hpo.terminal import log
from hpo.terminal.log import FORMATS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem
    from click.types import OptionHelpExtra

    from storage.engine import Database

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Request = TypeVar("_Request")


class Option(click.Option):
    """An option whose `show_default` may be a text, and some of whose spellings may be hidden."""

    def __init__(self, *args: Any, hidden_names: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.hidden_names = hidden_names

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        shown = copy.copy(self)
        shown.opts = [name for name in self.opts if name not in self.hidden_names]
        return click.Option.get_help_record(shown, ctx)

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default
        return extra


def option(*names: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """`click.option` with `Option`, its environment variable shown."""
    return click.option(*names, cls=Option, show_envvar=True, **attributes)


class NearestChoice(click.Choice[str]):
    """A choice whose error names the nearest value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in self.choices:
            return str(value)
        from hpo.suggestions import did_you_mean

        self._refuse(value, did_you_mean(str(value), self.choices), param, ctx)

    def _refuse(
        self, value: Any, hint: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> NoReturn:
        self.fail(f"{value!r} is not one of {', '.join(self.choices)}{hint}", param, ctx)


class Quantity(click.ParamType[Any]):
    """A positive number with a unit, the first of `units` if it has none."""

    def __init__(self, name: str, units: dict[str, int], examples: str, *, whole: bool = False) -> None:
        self.name, self.units, self.examples, self.whole = name, units, examples, whole

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value).strip().lower()
        unit = next((unit for unit in sorted(self.units, key=len, reverse=True) if text.endswith(unit)), "")
        try:
            number = float(text.removesuffix(unit)) * (self.units[unit] if unit else 1)
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf") or (self.whole and number < 1):
            self.fail(f"{value!r} is not a {self.name}: use e.g. {self.examples}", param, ctx)
        return int(number) if self.whole else number

    def text(self, number: float) -> str:
        """Return a number as a user would type it, e.g. `30m`."""
        unit = max(
            (unit for unit, factor in self.units.items() if number % factor == 0), key=self.units.__getitem__
        )
        return f"{number / self.units[unit]:g}{unit}"


DURATION = Quantity("duration", {"s": 1, "m": 60, "h": 3600, "d": 86400}, "90, 90s, 15m, 2h or 1d")
SIZE = Quantity(
    "size",
    {
        f"{letter}{suffix}".strip(): 1024**power
        for power, letter in enumerate(" kmgt")
        for suffix in ("", "b", "ib")
    },
    "500M, 4G or 1.5GiB",
    whole=True,
)
"""Binary units, in which memory and quotas are counted."""


class ImageCount(click.ParamType[Any]):
    """A positive whole number, or `all`."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value).strip().lower()
        if text == "all":
            return text
        if not text.isdecimal() or int(text) < 1:
            self.fail(f"{value!r} is not a number of images: use a whole number, or all", param, ctx)
        return int(text)


class ShippedName(click.ParamType[str]):
    """A name or reference; a shell completes the shipped names, or else files."""

    def __init__(self, name: str, shipped: Callable[[], Iterable[str]]) -> None:
        self.name, self._shipped = name, shipped

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name) for name in self._shipped() if name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="file")]


def _shipped_objectives() -> Iterable[str]:
    from objectives.loader import names

    return names()


def _shipped_data() -> Iterable[str]:
    from objectives.data.datasets import SHIPPED

    return SHIPPED


OBJECTIVE = ShippedName("ref", _shipped_objectives)
DATA = ShippedName("name", _shipped_data)

_TYPES: dict[str, tuple[Any, str | None]] = {
    "text": (str, None),
    "objective": (OBJECTIVE, "REF"),
    "time": (DURATION, "TIME"),
    "size": (SIZE, "SIZE"),
    "images": (ImageCount(), "N|all"),
    "file": (click.Path(path_type=Path, dir_okay=False), "FILE"),
}
"""Click's type and the placeholder of each named kind."""


def click_type(kind: Kind) -> tuple[Any, str | None]:
    """Return the type for Click, and the placeholder that the help shows; None: Click's own."""
    match kind:
        case Range(int(low), int(high)):
            return click.IntRange(low, high), "N"
        case Range(low, high, low_open):
            return click.FloatRange(low, high, min_open=low_open), None
        case tuple():
            return NearestChoice(kind), None
    return _TYPES[kind]


def field_option(request: type, name: str, help_text: str | None = None) -> Callable[[_Command], _Command]:
    """Return the option of a request's field, perhaps with another help text."""
    field = next(field for field in dataclasses.fields(request) if field.name == name)
    spec: OptionSpec = field.metadata["option"]
    attributes: dict[str, Any] = {
        "help": help_text or spec.help,
        "hidden_names": spec.hidden_names,
        "envvar": spec.variable,
        "multiple": spec.multiple,
    }
    if field.default is dataclasses.MISSING:
        attributes["required"] = True
    else:
        attributes |= {
            "default": field.default,
            "show_default": spec.default_text or _shown(spec, field.default),
        }
    if spec.kind == "flag":
        attributes["flag_value"] = not field.default
    else:
        attributes["type"], metavar = click_type(spec.kind)
        attributes["metavar"] = spec.metavar or metavar
    names = spec.names or (f"--{name.replace('_', '-')}",)
    return option(*names, *spec.hidden_names, name, **attributes)


def _shown(spec: OptionSpec, default: Any) -> str:
    if spec.kind == "time":
        return DURATION.text(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


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
    type=click.Path(path_type=Path, file_okay=False),
    show_default="HPO_HOME/data",
    help="Folder with the data sets as <name>.npz; a missing one is downloaded.",
)
json_option = option("--json", "as_json", is_flag=True, show_default="off", help="Print JSON.")


def settings(storage: str | None = None, data_dir: Path | None = None) -> Settings:
    """Return the settings of the environment, overridden by those of the command line."""
    found = Settings.from_environment()
    if storage:
        found = dataclasses.replace(found, storage=storage)
    if data_dir is not None:
        found = dataclasses.replace(found, data_dir=data_dir.expanduser().absolute())
    return found


@contextmanager
def opened(storage: str | None) -> Iterator[Database]:
    """Open the database of `--storage`; nothing is imported or started before."""
    from storage.engine import open_database

    found = settings(storage)
    with open_database(found.storage, found.home) as database:
        yield database


def slot_options(function: _Command) -> _Command:
    """Options that restrict the devices of a host's worker slots; they arrive as `gpus` and `device`."""
    return field_option(SlotOptions, "gpus")(field_option(SlotOptions, "device")(function))


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
