"""Options that several commands share, and the kinds of value they take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from hpo.options import DEVICES, PRECISIONS, AgentOptions
from hpo.settings import Settings
from hpo.terminal import log
from hpo.terminal.log import FORMATS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem
    from click.types import OptionHelpExtra

    from storage.engine import Database

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Option(click.Option):
    """An option whose `show_default` may be words, shown as they are."""

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default
        return extra


MOST_COUNTED = 1_000_000
"""Upper bound of options that count from 1, where `MOST` has none of its own."""
MOST_NUMBER = 2**31 - 1
"""Upper bound of options that number from 0: seeds and trials, which the database holds in 32 bits."""
MOST = {"--workers": 1024, "--slots": 1024}


def option(*names: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """`click.option` with `Option`, its environment variable shown; no whole number is without a bound."""
    kind = attributes.get("type")
    if isinstance(kind, click.IntRange) and kind.max is None:
        usual = MOST_COUNTED if kind.min else MOST_NUMBER
        attributes["type"] = click.IntRange(kind.min, MOST.get(names[0], usual))
    return click.option(*names, cls=Option, show_envvar=True, **attributes)


class NearestChoice(click.Choice[str]):
    """A choice whose complaint names the nearest value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in self.choices:
            return str(value)
        from hpo.suggestions import did_you_mean

        self._refuse(value, did_you_mean(str(value), self.choices), param, ctx)

    def _refuse(
        self, value: Any, hint: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> NoReturn:
        self.fail(f"{value!r} is not one of {', '.join(self.choices)}{hint}", param, ctx)


class Duration(click.ParamType[float]):
    """`90`, `90s`, `15m`, `2h`, `1.5h`, `1d`: seconds."""

    name = "duration"
    _UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().lower()
        number, unit = (text[:-1], text[-1]) if text[-1:] in self._UNITS else (text, "s")
        try:
            seconds = float(number) * self._UNITS[unit]
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} is not a length of time: give 90, 90s, 15m, 2h or 1d", param, ctx)
        return seconds


class Size(click.ParamType[int]):
    """`500M`, `4G`, `1.5GiB`: bytes; units are binary, as memory and quotas are counted."""

    name = "size"
    _POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().upper().removesuffix("IB").removesuffix("B")
        number, unit = (text[:-1], text[-1]) if text[-1:] in self._POWERS else (text, "")
        try:
            size = float(number) * 1024.0 ** self._POWERS[unit]
        except ValueError:
            size = 0.0
        if not 1 <= size < float("inf"):
            self.fail(f"{value!r} is not a size: give 500M, 4G or 1.5GiB", param, ctx)
        return int(size)


class ImageCount(click.ParamType[Any]):
    """A positive whole number, or `all`."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value).strip().lower()
        if text == "all":
            return text
        if not text.isdecimal() or int(text) < 1:
            self.fail(f"{value!r} is not a number of images: give a whole number, or all", param, ctx)
        return int(text)


class StudyName(click.ParamType[str]):
    """The name of a study; a shell completes it."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        return str(value)

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from hpo.study.completion import study_names_if_near

        names = study_names_if_near(settings(ctx.params.get("storage")))
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class ObjectiveName(click.ParamType[str]):
    """A reference to an objective; a shell completes the shipped ones."""

    name = "ref"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        return str(value)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from objectives.loader import names

        shipped = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
        return shipped or [CompletionItem(incomplete, type="file")]


class DataName(click.ParamType[str]):
    """The name of a data set; a shell completes the shipped ones."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        return str(value)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from objectives.data.datasets import SHIPPED

        return [CompletionItem(name) for name in SHIPPED if name.startswith(incomplete)]


study_option = option(
    "--study", required=True, metavar="NAME", envvar="HPO_STUDY", type=StudyName(), help="Name of the study."
)
trial_option = option(
    "--trial",
    metavar="N",
    type=click.IntRange(min=0),
    show_default="the best one",
    help="Number of a complete trial, as hpo trials shows it.",
)
storage_option = option(
    "--storage",
    metavar="URL",
    envvar="HPO_STORAGE",
    show_default="an embedded PostgreSQL in HPO_HOME",
    help="URL of a PostgreSQL database: postgresql://user:password@host:5432/name. A password is safer in "
    "the variable than on the command line.",
)
data_dir_option = option(
    "--data-dir",
    metavar="DIR",
    envvar="HPO_DATA_DIR",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="HPO_HOME/data",
    help="Folder that holds the data sets as <name>.npz; one that is not there is downloaded.",
)
json_option = option("--json", "as_json", is_flag=True, show_default="off", help="Print JSON.")


def settings(storage: str | None = None, data_dir: Path | None = None) -> Settings:
    """The environment's settings with what was given on the command line over them."""
    found = Settings.from_environment()
    if storage:
        found = dataclasses.replace(found, storage=storage)
    if data_dir is not None:
        found = dataclasses.replace(found, data_dir=data_dir.expanduser().absolute())
    return found


@contextmanager
def opened(storage: str | None) -> Iterator[Database]:
    """The database that the command's `--storage` names; nothing is imported or started before."""
    from storage.engine import open_database

    found = settings(storage)
    with open_database(found.storage, found.home) as database:
        yield database


def workers_option(help_text: str) -> Callable[[_Command], _Command]:
    """`--workers`: slots of this host."""
    return option(
        "--workers",
        "-w",
        metavar="N",
        type=click.IntRange(min=1),
        envvar="HPO_WORKERS",
        show_default="one for each GPU, or else for each usable core",
        help=help_text,
    )


def slot_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what the slots of a host may use; they arrive as `gpus` and `device`."""
    function = option(
        "--device",
        type=NearestChoice(DEVICES),
        envvar="HPO_DEVICE",
        show_default="GPUs where there are any",
        help="cpu: use no GPU. gpu: fail where there is none.",
    )(function)
    return option(
        "--gpus",
        metavar="LIST",
        envvar="HPO_GPUS",
        show_default="all",
        help="GPUs used: none, all, or indices or UUIDs as nvidia-smi shows them, as 0,1. Slots are spread over "
        "them; those that share one are each limited to their part of its memory.",
    )(function)


def log_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of the commands that log; they take effect at once and are not passed on."""

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


precision_option = option(
    "--precision",
    type=NearestChoice(PRECISIONS),
    default="auto",
    envvar="HPO_PRECISION",
    help="What models compute in; auto: bfloat16 where the device has instructions for it, else float32. "
    "Weights are float32 in either case.",
)


def agent_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of the commands that train on this host; they arrive as `hung_after` and `memory_per_worker`."""
    function = option(
        "--memory-per-worker",
        metavar="SIZE",
        type=Size(),
        envvar="HPO_MEMORY_PER_WORKER",
        show_default="no limit",
        help="Most memory that each trial or run may take of its own, as 4G: beyond it, it ends as out of memory, "
        "and the host lives on.",
    )(function)
    return option(
        "--hung-after",
        metavar="TIME",
        type=Duration(),
        default=AgentOptions.hung_seconds,
        show_default="30m",
        help="Kill a trial or run that shows no progress for so long; it goes on from its checkpoint, as a lost one "
        "does.",
    )(function)
