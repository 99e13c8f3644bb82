"""Base class of the rows that commands print, convertible to JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar

from hpo import formatting


@dataclass(frozen=True)
class JsonRow:
    """A row that a command prints as text or JSON."""

    json_keys: ClassVar[Mapping[str, str]] = {}
    """Keys in JSON of fields whose names differ from them."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serializable dict: times in ISO 8601, NaN and infinities as strings."""
        safe: dict[str, Any] = formatting.json_safe(
            {self.json_keys.get(name, name): _isoformat(value) for name, value in asdict(self).items()}
        )
        return safe


def _isoformat(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _isoformat(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_isoformat(item) for item in value]
    return value
