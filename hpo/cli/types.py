"""Types of options: choices, numbers, durations, sizes and names."""

from __future__ import annotations

import os
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpo.options.fields import Kind, Range

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def is_utf8(text: str) -> bool:
    """Whether a text of the command line or an environment variable was UTF-8: other bytes appear as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


class NearestChoice(click.Choice[str]):
    """A choice whose error names the nearest value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in self.choices:
            return str(value)
        from hpo.suggestions import did_you_mean

        hint = did_you_mean(str(value), self.choices)
        self.fail(f"{value!r} is not one of {', '.join(self.choices)}{hint}", param, ctx)


class Number(click.FloatRange):
    """A number within bounds, or `word`."""

    def __init__(self, bounds: Range, word: str | None = None) -> None:
        super().__init__(bounds.low, bounds.high, min_open=bounds.low_open)
        self._bounds, self._word = bounds, word
        self._parse = int if isinstance(bounds.low, int) else float

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if self._word is not None and str(value).strip().lower() == self._word:
            return self._word
        try:
            number = self._parse(value)
        except ValueError:
            number = float("nan")
        low, high, low_open = self._bounds.low, self._bounds.high, self._bounds.low_open
        if not low <= number <= high or (low_open and number == low):
            kind = "a whole number" if self._parse is int else "a number"
            within = f"above {low:g}, at most {high:g}" if low_open else f"from {low} to {high}"
            self.fail(
                f"{value!r} is not {kind} {within}{f', or {self._word}' if self._word else ''}", param, ctx
            )
        return number


class NamedPath(click.Path):
    """A path that is not empty, because an empty one would stand for the working directory."""

    def __init__(self, *, files: bool = True, folders: bool = True) -> None:
        super().__init__(path_type=Path, file_okay=files, dir_okay=folders)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if not os.fspath(value):
            name = param.opts[0] if isinstance(param, click.Option) else "the path"
            kind = " or ".join([*["file"] * self.file_okay, *["folder"] * self.dir_okay])
            raise click.UsageError(f"{name} is empty: name a {kind}", ctx)
        return super().convert(value, param, ctx)


class OutputPath(NamedPath):
    """A path to write to; None for standard output, as if it was left out.

    Opened by its name, a redirected standard output would be cut to zero length or replaced.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        return None if is_standard_output(found) else found


def is_standard_output(path: str | bytes | os.PathLike[str]) -> bool:
    """Return whether a path is a name of this process's standard output."""
    return os.fsdecode(path) in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class Quantity(click.ParamType[Any]):
    """A positive number with a unit, the first of `units` if it has none, or `word`."""

    def __init__(
        self,
        name: str,
        units: dict[str, int],
        most: float,
        usage: str,
        *,
        whole: bool = False,
        word: str | None = None,
    ) -> None:
        self.name, self.units, self.most, self.usage, self.whole = name, units, most, usage, whole
        self.word = word

    def or_word(self, word: str) -> Quantity:
        """Return the same type, which accepts a word too."""
        return Quantity(self.name, self.units, self.most, self.usage, whole=self.whole, word=word)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value).strip().lower()
        if self.word is not None and text == self.word:
            return self.word
        unit = next((unit for unit in sorted(self.units, key=len, reverse=True) if text.endswith(unit)), "")
        try:
            number = float(text.removesuffix(unit)) * (self.units[unit] if unit else 1)
        except ValueError:
            number = 0.0
        if not 0 < number <= self.most or (self.whole and number < 1):
            usage = self.usage + (f", or {self.word}" if self.word else "")
            self.fail(f"{value!r} is not a {self.name}: use e.g. {usage}", param, ctx)
        return int(number) if self.whole else number


DURATION = Quantity(
    "duration",
    {"s": 1, "m": 60, "h": 3600, "d": 86400},
    most=3650 * 86400,
    usage="90, 90s, 15m, 2h or 1d, at most 3650d",
)
SIZE = Quantity(
    "size",
    {
        f"{letter}{suffix}".strip(): 1024**power
        for power, letter in enumerate(" kmgt")
        for suffix in ("", "b", "ib")
    },
    most=1024**5,
    usage="500M, 4G or 1.5GiB, at most 1024T",
    whole=True,
)
"""Binary units, in which memory and quotas are counted."""


class ShippedName(click.ParamType[str]):
    """A name or reference; a shell completes the names of a registry, or else files."""

    def __init__(self, name: str, registry: str) -> None:
        """`registry` is imported when it is needed: `module:mapping`."""
        self.name, self._registry = name, registry

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [name for name in pkgutil.resolve_name(self._registry) if name.startswith(incomplete)]
        return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]


OBJECTIVE = ShippedName("ref", "objectives.loader:SHIPPED")
DATA = ShippedName("name", "objectives.data.shipped:SHIPPED")

_TYPES: dict[str, tuple[Any, str | None]] = {
    "text": (str, None),
    "objective": (OBJECTIVE, "REF"),
    "time": (DURATION, "TIME"),
    "size": (SIZE, "SIZE"),
    "file": (NamedPath(folders=False), "FILE"),
    "path": (NamedPath(), "PATH"),
}
"""Click's type and the placeholder of each named kind."""


def click_type(kind: Kind, word: str | None = None) -> tuple[Any, str | None]:
    """Return the type for Click, and the placeholder that the help shows; None: Click's own."""
    if isinstance(kind, tuple):
        return NearestChoice(kind), None
    found, metavar = (
        (Number(kind, word), "N" if isinstance(kind.low, int) else None)
        if isinstance(kind, Range)
        else _TYPES[kind]
    )
    if word is None:
        return found, metavar
    return found.or_word(word) if isinstance(found, Quantity) else found, f"{metavar}|{word}"
