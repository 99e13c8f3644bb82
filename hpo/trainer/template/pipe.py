"""Messages of a template as JSON: it imports the objective, so its agent reads plain values from it and no pickle.

Messages to templates and trainers are pickled: they run the objective's code anyway, and trust their agent.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

import hpo.errors
from hpo.errors import HpoError, ObjectiveBrokenError
from hpo.trainer.pipe import UnreadableMessageError, mapping, whole
from hpo.trainer.template.messages import (
    Described,
    Exited,
    Forked,
    FromTemplate,
    ImportEnded,
    LoadFailed,
    Loading,
    NotForked,
    Preload,
    Ready,
    Unforkable,
)
from objectives.description import Description, Direction
from objectives.spaces.space import space_from_json, space_to_json
from objectives.trial_value import RULES
from objectives.values import checked_name, text


def send(connection: Connection, message: FromTemplate) -> None:
    """Send a message to the agent; raise OSError if it is gone."""
    connection.send_bytes(encode(message))


def encode(message: FromTemplate) -> bytes:
    """Return a message as bytes."""
    if isinstance(message, Described):
        found = message.description
        values = {field.name: getattr(found, field.name) for field in fields(found)}
        values |= {"space": space_to_json(found.space), "first": [dict(params) for params in found.first]}
    else:
        values = asdict(message)
    return json.dumps([type(message).__name__, values], default=_name).encode()


def decode(content: bytes) -> FromTemplate:
    """Return the message that `encode` made these bytes of.

    Raises:
        UnreadableMessageError: they are not those of a message.
    """
    try:
        kind, values = json.loads(content)
        return _message(kind, mapping(values))
    # Foreign bytes fail in any way.
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as exc:
        raise UnreadableMessageError(type(exc).__name__) from exc


def error_class(name: str) -> type[HpoError]:
    """Return the class of errors with this name, `ObjectiveBrokenError` if there is none."""
    found = getattr(hpo.errors, name, None)
    return found if isinstance(found, type) and issubclass(found, HpoError) else ObjectiveBrokenError


def _message(kind: str, values: Any) -> FromTemplate:
    match kind:
        case "Described":
            return Described(_description(values))
        case "Ready":
            versions = {text(name): text(version) for name, version in mapping(values["versions"]).items()}
            return Ready(versions, text(values["warning"]), tuple(map(text, values["notes"])))
        case "Loading":
            return Loading(text(values["stage"]), whole(values["done"]), whole(values["total"]))
        case "LoadFailed":
            return LoadFailed(text(values["error"]), text(values["message"]), text(values["traceback"]))
        case "Unforkable":
            modules = tuple(text(module) for module in values["modules"])
            variables = text(values["variables"])
            return Unforkable(text(values["threads"]), Preload[values["preload"]], modules, variables)
        case "ImportEnded":
            return ImportEnded(text(values["problem"]))
        case "Forked":
            return Forked(whole(values["serial"]), whole(values["pid"]))
        case "NotForked":
            return NotForked(whole(values["serial"]), text(values["reason"]))
        case "Exited":
            status = values["status"]
            return Exited(whole(values["pid"]), whole(status) if status >= 0 else -whole(-status))
    raise ValueError(f"unknown kind {kind!r:.40}")


def _description(values: Any) -> Description:
    if values["direction"] not in ("minimize", "maximize"):
        raise ValueError("direction")
    # Only an objective with an open space may have no epochs.
    if values["open_space"] not in (False, True):
        raise ValueError("open_space")
    if type(values["epochs"]) is not int and not (values["epochs"] is None and values["open_space"]):
        raise ValueError("epochs")
    if values["value"] not in RULES:
        raise ValueError("value")
    return Description(
        name=text(values["name"]),
        metric=checked_name("metric", values["metric"]),
        direction=values["direction"],
        value=values["value"],
        epochs=values["epochs"],
        space=space_from_json(mapping(values["space"])),
        first=tuple(dict(mapping(params)) for params in values["first"]),
        open_space=values["open_space"],
        declares_direction=values["declares_direction"] is True,
        dataset=None if values["dataset"] is None else text(values["dataset"]),
        takes_images=values["takes_images"] is True,
        takes_folds=values["takes_folds"] is True,
        takes_restarts=values["takes_restarts"] is True,
        builds_models=values["builds_models"] is True,
        metrics=_metrics(values["metrics"]),
        recipe={text(name): text(value) for name, value in mapping(values["recipe"]).items()},
        summary=text(values["summary"]),
        code=text(values["code"]),
    )


def _metrics(values: Any) -> dict[str, Direction]:
    if not set(mapping(values).values()) <= {"minimize", "maximize"}:
        raise ValueError("metrics")
    return {checked_name("metric", name): direction for name, direction in values.items()}


def _name(value: object) -> str:
    """Return the name of an enumeration's member, which JSON does not know."""
    if isinstance(value, Enum):
        return value.name
    raise TypeError(f"{type(value).__name__} has no JSON form")
