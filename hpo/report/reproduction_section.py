"""How to reproduce a study: commands, spec, versions, commit, hardware and seeds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from hpo import formatting
from hpo.devices.provenance import DATA, DATA_DIGEST
from hpo.document.document import Code, Section, Table
from hpo.document.parts import section
from hpo.search.space_overrides import override_text
from hpo.search.spec import StudySpec, space_from_json
from hpo.search.starting.design import Design
from hpo.study.history import StudyHistory
from hpo.study.open_space import declares_epochs
from objectives.spaces.choices import same_distribution
from storage.retrains import RetrainRow


def reproduction_section(history: StudyHistory, retrain: RetrainRow | None) -> list[Section]:
    """Return the commands, the environment they ran in and the spec."""
    spec = history.study.spec_json
    return section(
        "How to reproduce this study",
        lambda: Code("\n".join(commands(history, retrain)), "sh"),
        lambda: Table(("item", "value"), _facts(history, retrain)),
        lambda: Code(formatting.json_text(StudySpec.from_json(spec).to_json()), "json", "The study's spec"),
    )


def commands(history: StudyHistory, retrain: RetrainRow | None) -> list[str]:
    """Return the command lines that repeat the search, the retrain and the report."""
    study, spec = history.study, history.study.spec_json
    if spec.get("design") is not None:
        return [shlex.join(_of_experiment(history)), shlex.join(["hpo", "report", "--study", study.name])]
    data = spec.get("data", {})
    arguments = ["hpo", "launch", "--study", study.name, "--objective", study.objective]
    arguments += ["--trials", str(study.budget)]
    arguments += (
        ["--epochs", str(spec["epochs"])] if declares_epochs(spec) else ["--direction", spec["direction"]]
    )
    if spec.get("objective_metric") not in (None, "", spec["metric"]):
        arguments += ["--metric", spec["metric"]]
    if spec.get("value", "last") != spec.get("objective_value", "last"):
        arguments += ["--value", spec["value"]]
    arguments += ["--sampler", spec["sampler"], "--pruner", spec["pruner"], "--seed", str(spec["seed"])]
    arguments += _of_search(spec)
    if data.get("limit") is not None:
        arguments += ["--limit", str(data["limit"])]
    if data.get("folds") is not None:
        arguments += ["--folds", str(data["folds"])]
    arguments += _images(data)
    for override in narrowed(spec):
        arguments += ["--param", override]
    precisions = {agent.versions.get("precision") for agent in history.agents}
    if len(precisions) == 1 and (precision := precisions.pop()) is not None:
        # The meaning of `auto` depends on the processor.
        arguments += ["--precision", precision]
    slots = max((agent.slots for agent in history.agents), default=0)
    if slots:
        arguments += ["--workers", str(slots)]
    lines = [shlex.join(arguments)]
    if retrain is not None:
        arguments = ["hpo", "retrain", "--study", study.name, "--seeds", str(len(retrain.seeds))]
        selection = (retrain.metrics or {}).get("selection")
        if selection is not None:
            arguments += ["--top", str(selection.get("top", len(selection["candidates"])))]
            arguments += ["--no-racing"] if selection.get("racing") is False else []
        if declares_epochs(spec) and retrain.config.get("epochs") != spec["epochs"]:
            arguments += ["--epochs", str(retrain.config["epochs"])]
        limit = retrain.config.get("data", {}).get("limit")
        if limit != data.get("limit"):
            arguments += ["--limit", "all" if limit is None else str(limit)]
        trial = retrain.config.get("trial")
        # Among candidates, the default configuration may have no complete trial.
        if (trial is None and selection is None) or retrain.config.get("study") not in (None, study.name):
            arguments += ["--config", "best_config.yaml"]
        elif selection is None:
            # The best trial may be another one by now.
            arguments += ["--trial", str(trial)]
        computed = (retrain.metrics or {}).get("runs", [{}])[0].get("precision")
        if computed is not None:
            arguments += ["--precision", computed]
        lines.append(shlex.join(arguments))
    lines.append(shlex.join(["hpo", "report", "--study", study.name]))
    return lines


def _of_experiment(history: StudyHistory) -> list[str]:
    """Return the command that repeats an experiment around the same trial."""
    study, spec = history.study, history.study.spec_json
    design = Design.from_json(spec["design"])
    settings = design.settings
    arguments = ["hpo", "ablate", "--study", design.study]
    arguments += [] if study.name == f"{design.study}-ablation" else ["--as", study.name]
    arguments += [] if design.trial is None else ["--trial", str(design.trial)]
    arguments += ["--seeds", str(settings.seeds), "--values", str(settings.values)]
    arguments += [part for name in settings.parameters for part in ("--parameter", name)]
    pairs = ["none"] if settings.pairs == () else [f"{one}*{other}" for one, other in settings.pairs or ()]
    arguments += [part for pair in pairs for part in ("--pairs", pair)]
    arguments += ["--recipe"] if settings.recipe else []
    arguments += ["--margin", f"{settings.margin:g}"] if settings.margin is not None else []
    arguments += ["--epochs", str(spec["epochs"])]
    limit = spec.get("data", {}).get("limit")
    return arguments + ([] if limit is None else ["--limit", str(limit)])


def _of_search(spec: Mapping[str, Any]) -> list[str]:
    """Return the options that change which configurations are trained, apart from sampler and pruner."""
    arguments = [part for text in spec.get("constraints", ()) for part in ("--constraint", text)]
    if spec.get("also_minimize"):
        arguments += ["--also-minimize", spec["also_minimize"]]
    if spec.get("repeats") is not None:
        arguments += ["--repeats", str(spec["repeats"])]
    if spec.get("stop_when_flat"):
        arguments.append("--stop-when-flat")
    if spec.get("learned"):
        arguments += ["--learn-from", ",".join(earlier["study"] for earlier in spec["learned"])]
    return arguments


def _images(data: Mapping[str, Any]) -> list[str]:
    """Return the options of a study's own images."""
    if data.get("source") is None:
        return []
    options = {"--image-size": "image_size", "--image-fit": "image_fit", "--test-fraction": "test_fraction"}
    given = [(option, str(data[name])) for option, name in options.items() if data.get(name) is not None]
    skip = ["--skip-unreadable"] if data.get("skip_unreadable") else []
    return ["--data", data["source"], *(part for pair in given for part in pair), *skip]


def narrowed(spec: Mapping[str, Any]) -> list[str]:
    """Return the values of `--param`: of the parameters whose range differs from the objective's own."""
    if spec.get("open_space"):
        return list(spec.get("narrowing", ()))
    original = space_from_json(spec.get("objective_space", {}))
    return [
        override_text(name, original.get(name), distribution)
        for name, distribution in space_from_json(spec["space"]).items()
        if not same_distribution(original.get(name), distribution)
    ]


def _facts(history: StudyHistory, retrain: RetrainRow | None) -> list[tuple[str, str]]:
    design = history.study.spec_json.get("design")
    facts = (
        [("search seed", f"{history.study.spec_json['seed']}; trial n uses this seed plus n")]
        if design is None
        else [("seeds", ", ".join(map(str, design["seeds"])))]
    )
    earlier = history.study.spec_json.get("earlier_samplers", [])
    if earlier:
        until = ", ".join(f"{name} for the first {formatting.counted(end, 'trial')}" for name, end in earlier)
        facts.append(("samplers", f"{until}, then {history.study.spec_json['sampler']}"))
    if history.status.constraints:
        rejected = history.status.counts.rejected
        note = f"; {formatting.counted(rejected, 'configuration')} rejected" if rejected else ""
        facts.append(("constraints", f"{', '.join(history.status.constraints)}{note}"))
    if history.status.learned_from:
        facts.append(("started from the results of", history.status.earlier_studies))
    hosts = sorted({agent.host for agent in history.agents})
    versions = {name: number for agent in history.agents for name, number in agent.versions.items()}
    facts.append(
        (
            "search ran on",
            f"{formatting.counted(len(hosts), 'host')}, {formatting.counted(len(history.agents), 'agent')}",
        )
    )
    if DATA in versions:
        facts.append(("data", versions[DATA]))
    packages = {name: number for name, number in versions.items() if name not in (DATA, DATA_DIGEST)}
    if packages:
        facts.append(("versions in the search", _pairs(packages)))
    mixed = {
        name for agent in history.agents for name in agent.versions if agent.versions[name] != versions[name]
    }
    if mixed:
        facts.append(("different between agents", ", ".join(sorted(mixed))))
    if retrain is None:
        return facts
    metrics = retrain.metrics or {}
    hardware = metrics.get("hardware", {})
    gpus = ", ".join(str(gpu) for gpu in hardware.get("gpus", [])) or "no GPU"
    facts += [
        ("final seeds", ", ".join(str(seed) for seed in retrain.seeds)),
        ("versions in the retrain", _pairs(metrics.get("versions", {}))),
        ("precision", metrics.get("runs", [{}])[0].get("precision", "-")),
        (
            "hardware of the retrain",
            f"{hardware.get('processor')}, {formatting.counted(hardware.get('cores'), 'core')},"
            f" {hardware.get('memory_gib')} GiB, {gpus}",
        ),
        ("commit of the working directory", metrics.get("working_directory_commit") or "not in a repository"),
        ("wall time of the retrain", _wall_time(metrics)),
    ]
    if metrics.get("objective_code"):
        facts.append(("digest of the objective's code in the retrain", metrics["objective_code"]))
    if metrics.get("objective_sha256"):
        facts.append(("SHA-256 of the objective's file", metrics["objective_sha256"]))
    return facts


def _wall_time(metrics: Mapping[str, Any]) -> str:
    shown, sessions = formatting.duration(metrics.get("wall_seconds")), metrics.get("sessions", 1)
    return (
        shown
        if sessions == 1
        else f"{shown} in {sessions} sessions; hardware and versions are those of the last one"
    )


def _pairs(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
