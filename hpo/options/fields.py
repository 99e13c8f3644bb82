"""Fields of a request, which carry their command-line options; `hpo.cli.options` builds these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, Unpack

from hpo.options.defaults import CODES

NONE: Literal["none"] = "none"
"""Value of an option that removes a limit or a goal that a study has."""


@dataclass(frozen=True)
class Range:
    """Bounds of a number, included unless `low_open`: whole numbers if both bounds are whole."""

    low: float
    high: float
    low_open: bool = False


COUNT = Range(1, 1_000_000)
NUMBER = Range(0, 2**31 - 1)
"""Range of seeds and trial numbers, which the database stores in 32 bits."""
ANY_NUMBER = Range(-1e15, 1e15)
SLOTS = Range(1, 1024)

STUDY: dict[str, Any] = {"help": "Name of the study.", "metavar": "NAME", "envvar": "HPO_STUDY"}
"""Metadata of the field of the study's name."""

Kind = (
    Range | tuple[str, ...] | Literal["text", "flag", "switch", "objective", "time", "size", "file", "path"]
)
"""Type of an option's value; a tuple lists the choices. A switch is a flag with a spelling for each of its values."""


class OptionSpec(TypedDict, total=False):
    """The command-line option of a field as Click describes it, without its default, which the field has."""

    kind: Kind
    """Type of the value; "text" if it is not given."""
    word: str
    """Word that is accepted in place of a number."""
    metavar: str
    envvar: str
    """Environment variable that stands in for the option."""
    show_default: str
    """Default as the help shows it, where the field's own value would not explain itself."""
    multiple: bool
    hidden_names: tuple[str, ...]
    """Earlier spellings, which are accepted and not shown."""


def option_field(default: Any, help_text: str, *names: str, **spec: Unpack[OptionSpec]) -> Any:
    """Return a field with an option; its spelling is the field's name, unless `names` has others."""
    return field(default=default, metadata={"help": help_text, "names": names, **spec})


def workers_field(help_text: str, hidden_names: tuple[str, ...] = ()) -> Any:
    """Return the field of `--workers`."""
    return option_field(
        None,
        help_text,
        "--workers",
        "-w",
        hidden_names=hidden_names,
        kind=SLOTS,
        envvar="HPO_WORKERS",
        show_default="one per GPU, else one per usable core",
    )


def code_field(help_text: str, default: str) -> Any:
    """Return the field of `--code`."""
    return option_field(
        None,
        f"{help_text} keep: interrupted trials resume from the state of the earlier code; restart: they begin again"
        " from epoch 1.",
        kind=CODES,
        show_default=default,
    )
