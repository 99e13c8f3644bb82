"""Configuration files: YAML, JSON, TOML, or a Python script that trains a configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from hpo.errors import ConfigFileError, UsageError
from hpo.export.config import FILE_VERSION, Config
from hpo.export.train_script import script
from hpo.files.bounded_text import read_text

Format = Literal["yaml", "json", "toml", "python"]
FORMATS: tuple[Format, ...] = ("yaml", "json", "toml", "python")
FILE_BYTES = 2**20
"""Size of the longest file that is read: a configuration has a few values."""

SUFFIXES: Mapping[str, Format] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    ".toml": "toml",
    ".py": "python",
}


def render(config: Config, form: Format) -> str:
    """Return the text of a file with the configuration.

    Raises:
        UsageError: a parameter has None, or a list or mapping of it, and the format is TOML.
    """
    if form == "json":
        return json.dumps(config.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    if form == "yaml":
        import yaml

        text = json.dumps(config.to_json(), ensure_ascii=False)
        # From JSON, no list or mapping occurs twice, which YAML would write as an alias. Line breaks such as U+0085 are
        # read back only if they are escaped.
        body = yaml.dump(
            json.loads(text), Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=text.isprintable()
        )
        return f"# {config.about}\n# Train it again: hpo retrain --study NAME --config THIS_FILE\n{body}"
    if form == "toml":
        import tomli_w

        missing = [name for name, value in config.params.items() if _has_none(value)]
        if missing:
            held = "is" if config.params[missing[0]] is None else "contains"
            raise UsageError(
                f"parameter {missing[0]} {held} None, which TOML cannot represent: choose yaml, json or python"
            )
        return f"# {config.about}\n{tomli_w.dumps(_without_none(config.to_json()))}"
    return script(config)


def read_config(path: Path) -> Config:
    """Read an exported configuration; the suffix decides between YAML, JSON and TOML.

    Raises:
        ConfigFileError: the file does not exist, cannot be read or is not a configuration.
    """
    form = SUFFIXES.get(path.suffix.lower())
    if form is None or form == "python":
        raise ConfigFileError(f"{path} is not a configuration: it must end in .yaml, .yml, .json or .toml")
    try:
        text = read_text(path, FILE_BYTES)
    except FileNotFoundError as exc:
        raise ConfigFileError(f"there is no file {path}: `hpo export -o {path.name}` writes one") from exc
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or _first_line(exc)
        raise ConfigFileError(f"{path} cannot be read ({reason}): give a file of `hpo export`") from exc
    try:
        values = _parse(text, form)
    except _parse_errors() as exc:
        raise ConfigFileError(
            f"{path} is not valid {form.upper()} ({_first_line(exc)}): correct it, or export it again"
        ) from exc
    if not isinstance(values, Mapping):
        raise ConfigFileError(f"{path} is not a configuration: it has no keys and values")
    try:
        if _file_version(values) > FILE_VERSION:
            raise ConfigFileError(f"{path} was written by a newer hpo-service: upgrade this one")
        return Config.from_json(values)
    except ValueError as exc:
        raise ConfigFileError(f"{path} is not an exported configuration: {exc}") from exc


def _file_version(values: Mapping[str, Any]) -> int:
    given = values.get("hpo_config", FILE_VERSION)
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ValueError(f"its 'hpo_config' cannot be {given!r}")
    return given


def _parse(text: str, form: Format) -> Any:
    if form == "yaml":
        import yaml

        class Loader(yaml.SafeLoader):
            # A few nested aliases stand for gigabytes.
            def compose_node(self, parent: Any, index: Any) -> Any:
                if self.check_event(yaml.AliasEvent):
                    raise yaml.YAMLError("it has an alias (*name): write the value itself")
                return super().compose_node(parent, index)

        return yaml.load(text, Loader)
    if form == "toml":
        import tomllib

        return tomllib.loads(text)
    return json.loads(text)


def _parse_errors() -> tuple[type[Exception], ...]:
    import yaml

    # Errors of JSON and TOML are ValueErrors; deep nesting ends in a RecursionError.
    return (yaml.YAMLError, ValueError, RecursionError)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _has_none(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_none, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_none, value))
    return value is None


def _without_none(value: Any) -> Any:
    """Drop fields that are None, because TOML has no null; no parameter has one."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
