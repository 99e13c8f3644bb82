"""Keyword arguments as the options of a command, in the spelling of the command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from hpo.errors import UsageError
from hpo.suggestions import did_you_mean
from objectives.spaces.choices import stored
from objectives.spaces.references import full_name, is_reference


def arguments_of(request: type[Any], function: str, given: Mapping[str, Any]) -> list[str]:
    """Return the arguments of a command with the options of `request`; those that are None are left out.

    An option `--trial-timeout` is the keyword `trial_timeout`, and `--param` is `params`, a mapping.

    Raises:
        TypeError: there is no such option.
        UsageError: a value has no form on the command line.
    """
    known = dict(_keywords(request))
    found = []
    for keyword, value in given.items():
        if keyword not in known:
            raise TypeError(
                f"{function}() got an unexpected keyword argument {keyword!r}{did_you_mean(keyword, known)}"
            )
        option, unset = known[keyword]
        if value is None:
            continue
        if keyword == "params":
            if not isinstance(value, Mapping):
                raise UsageError(
                    f"params is an object of type {type(value).__name__}: give a dict of values by name"
                )
            found += [f"{option}={name}={_values(name, allowed)}" for name, allowed in value.items()]
        elif keyword in ("log_to", "constraint"):
            several = isinstance(value, Iterable) and not isinstance(value, str)
            found += [f"{option}={one}" for one in (value if several else [value])]
        elif "/" in option:
            found.append(option.split("/")[0 if value else 1])
        elif unset is not None:
            found += [] if bool(value) is unset else [option]
        else:
            found.append(f"{option}={_text(value)}")
    return found


def _keywords(request: type[Any]) -> Iterator[tuple[str, tuple[str, bool | None]]]:
    """Yield the keyword of each option, with its spelling and, of a flag, the value that needs no flag."""
    for field in dataclasses.fields(request):
        if dataclasses.is_dataclass(field.default):
            yield from _keywords(cast("type[Any]", type(field.default)))
            continue
        option = (field.metadata.get("names") or (f"--{field.name.replace('_', '-')}",))[0]
        if field.metadata.get("kind") == "flag":
            yield field.name, (option, bool(field.default))
        elif field.metadata.get("multiple"):
            yield field.name, (option, None)
        else:
            yield option.partition("/")[0].removeprefix("--").replace("-", "_"), (option, None)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _values(name: str, allowed: Any) -> str:
    """Return the values of a parameter: a list of choices, a pair of ends of a range, a text as it is, or one value."""
    if isinstance(allowed, list):
        return ",".join(_choice(name, value) for value in allowed)
    if isinstance(allowed, tuple):
        if len(allowed) != 2:
            raise UsageError(f"params: {name}={allowed!r} is not a range (low, high): give choices as a list")
        low, high = allowed
        return f"{low}..{high}"
    return allowed if isinstance(allowed, str) else _choice(name, allowed)


def _choice(name: str, value: Any) -> str:
    try:
        plain = stored(value)
    except ValueError as exc:
        raise UsageError(
            f"params: a value of {name} is {exc}: give it as text, as --param takes it"
        ) from None
    # Trainers import a script under its own name.
    return full_name(plain).removeprefix("__main__.") if is_reference(plain) else json.dumps(plain)
