"""How to get the same again: commands, spec, versions, commit, hardware and seeds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from hpo import formatting
from hpo.document.document import Block, Code, Section, Table
from hpo.study.history import StudyHistory
from storage.retrains import RetrainRow


def reproduction_section(history: StudyHistory, retrain: RetrainRow | None) -> Section:
    """Commands to type, and what they ran on."""
    blocks: list[Block] = [Code("\n".join(commands(history, retrain)), "sh")]
    blocks.append(Table(("what", "value"), _facts(history, retrain)))
    blocks.append(
        Code(
            formatting.json_text(history.study.spec),
            "json",
            "The study's spec",
        )
    )
    return Section("How to reproduce it", blocks)


def commands(history: StudyHistory, retrain: RetrainRow | None) -> list[str]:
    """The command lines that search as this study did, and retrain."""
    study, spec = history.study, history.study.spec
    data = spec.get("data", {})
    words = ["hpo", "launch", "--study", study.name, "--objective", study.objective]
    words += ["--trials", str(study.budget), "--epochs", str(spec["epochs"])]
    words += ["--sampler", spec["sampler"], "--pruner", spec["pruner"], "--seed", str(spec["seed"])]
    if data.get("limit") is not None:
        words += ["--limit", str(data["limit"])]
    for name, value in narrowed(spec).items():
        words += ["--param", f"{name}={value}"]
    precisions = {agent.versions.get("precision") for agent in history.agents}
    if len(precisions) == 1 and (precision := precisions.pop()) is not None:
        # What `auto` is depends on the processor.
        words += ["--precision", precision]
    slots = max((agent.slots for agent in history.agents), default=0)
    if slots:
        words += ["--workers", str(slots)]
    lines = [shlex.join(words)]
    if retrain is not None:
        words = ["hpo", "retrain", "--study", study.name, "--seeds", str(len(retrain.seeds))]
        selection = (retrain.metrics or {}).get("selection")
        if selection is not None:
            words += ["--top", str(len(selection["candidates"]))]
        if retrain.config.get("epochs") != spec["epochs"]:
            words += ["--epochs", str(retrain.config["epochs"])]
        limit = retrain.config.get("data", {}).get("limit")
        if limit != data.get("limit"):
            words += ["--limit", "all" if limit is None else str(limit)]
        trial = retrain.config.get("trial")
        if trial is None or retrain.config.get("study") not in (None, study.name):
            words += ["--config", "best_config.yaml"]
        elif selection is None:
            # The best of today may not be the best of then.
            words += ["--trial", str(trial)]
        computed = (retrain.metrics or {}).get("runs", [{}])[0].get("precision")
        if computed is not None:
            words += ["--precision", computed]
        lines.append(shlex.join(words))
    lines.append(shlex.join(["hpo", "report", "--study", study.name]))
    return lines


def narrowed(spec: Mapping[str, Any]) -> dict[str, str]:
    """What `--param` was told: parameters whose range is not the objective's own."""
    own, found = spec.get("objective_space", {}), {}
    for name, distribution in spec["space"].items():
        if name in own and own[name] == distribution:
            continue
        attributes = distribution["attributes"]
        if "choices" in attributes:
            found[name] = ",".join(str(choice) for choice in attributes["choices"])
        elif attributes["low"] == attributes["high"]:
            found[name] = str(attributes["low"])
        else:
            found[name] = f"{attributes['low']}..{attributes['high']}"
    return found


def _facts(history: StudyHistory, retrain: RetrainRow | None) -> list[tuple[str, str]]:
    facts = [("search seed", f"{history.study.spec['seed']}; trial n is seeded with it plus n")]
    hosts = sorted({agent.host for agent in history.agents})
    versions = {name: number for agent in history.agents for name, number in agent.versions.items()}
    facts.append(
        (
            "search ran on",
            f"{formatting.counted(len(hosts), 'host')}, {formatting.counted(len(history.agents), 'agent')}",
        )
    )
    if versions:
        facts.append(("versions of the search", _pairs(versions)))
    mixed = {
        name for agent in history.agents for name in agent.versions if agent.versions[name] != versions[name]
    }
    if mixed:
        facts.append(("differed between agents", ", ".join(sorted(mixed))))
    if retrain is None:
        return facts
    metrics = retrain.metrics or {}
    hardware = metrics.get("hardware", {})
    gpus = ", ".join(str(gpu) for gpu in hardware.get("gpus", [])) or "no GPU"
    facts += [
        ("final seeds", ", ".join(str(seed) for seed in retrain.seeds)),
        ("versions of the retrain", _pairs(metrics.get("versions", {}))),
        ("computed in", metrics.get("runs", [{}])[0].get("precision", "-")),
        (
            "hardware of the retrain",
            f"{hardware.get('processor')}, {formatting.counted(hardware.get('cores'), 'core')},"
            f" {hardware.get('memory_gib')} GiB, {gpus}",
        ),
        ("commit of the working directory", metrics.get("working_directory_commit") or "not in a repository"),
        ("wall time of the retrain", _wall_time(metrics)),
    ]
    if metrics.get("objective_sha256"):
        facts.append(("SHA-256 of the objective's file", metrics["objective_sha256"]))
    return facts


def _wall_time(metrics: Mapping[str, Any]) -> str:
    shown, sessions = formatting.duration(metrics.get("wall_seconds")), metrics.get("sessions", 1)
    return (
        shown if sessions == 1 else f"{shown} in {sessions} sessions; hardware and versions are of the last"
    )


def _pairs(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
