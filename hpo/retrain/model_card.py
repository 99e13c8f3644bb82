"""The model card of a retrained model: its parameters, how it was measured, and how you load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpo import formatting
from hpo.analysis.statistics import Interval
from hpo.export.config import Config
from objectives.saved_model import NAME

FILE = "model_card.md"


def loading_lines(recorded: Mapping[str, Any]) -> list[str]:
    """Return the lines of Python that load the model of a run with these records; empty if plain Keras does."""
    lines = recorded.get("load_model")
    return [formatting.printable(str(line)) for line in lines] if isinstance(lines, list) else []


def render(config: Config, summary: Mapping[str, Interval], recorded: Mapping[str, Any]) -> bytes:
    """Return the card as Markdown."""
    lines = loading_lines(recorded)
    study = f" of study {config.study}" if config.study is not None else ""
    needs = (
        "It holds code of your own: load it where Python finds your files."
        if lines
        else "Plain Keras loads it."
    )
    text = [
        f"# {NAME}{_cell(study)}",
        "",
        f"Objective `{_cell(config.objective)}`, trained from the first seed. {needs}",
        "",
        "```python",
        *(lines or ["import keras", f"model = keras.saving.load_model({NAME!r})"]),
        "```",
        *_table("parameter", config.params),
        *_table("over all seeds", {name: interval.describe() for name, interval in summary.items()}),
        "",
        "`metrics.json` has each run, `best_config.yaml` trains it again.",
        "",
    ]
    return "\n".join(text).encode(errors="backslashreplace")


def _table(title: str, rows: Mapping[str, Any]) -> list[str]:
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return ["", f"| {title} | value |", "|---|---|", *lines] if lines else []


def _cell(value: Any) -> str:
    return " ".join(formatting.printable(str(value)).split(" ")).replace("|", "\\|")
