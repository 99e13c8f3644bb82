"""`hpo export` without a database."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from hpo.cli.main import run


@pytest.mark.usefixtures("no_database")
@pytest.mark.parametrize(
    ("name", "form", "note"),
    [("best.json", [], ""), ("best.cfg", [], " as yaml"), ("best.cfg", ["--format", "toml"], " as toml")],
)
def test_export_prints_format_unless_suffix_implies_it(
    monkeypatch, capsys, tmp_path: Path, name: str, form: list[str], note: str
) -> None:
    monkeypatch.setattr("hpo.export.best_config.build_config", lambda *_: None)
    monkeypatch.setattr("hpo.export.config_file.render", lambda _, wanted: wanted)
    file = tmp_path / name
    assert run(["export", "--study", "demo", "-o", str(file), *form]) == 0
    assert capsys.readouterr().out == f"wrote {file}{note}\n"


@pytest.mark.usefixtures("no_database")
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_export_to_standard_output_prints_nothing_else(monkeypatch, capsys, name: str) -> None:
    monkeypatch.setattr("hpo.export.best_config.build_config", lambda *_: None)
    monkeypatch.setattr("hpo.export.config_file.render", lambda _, wanted: f"{wanted}\n")
    assert run(["export", "--study", "demo", "--format", "toml", "-o", name]) == 0
    assert capsys.readouterr() == ("toml\n", "")


@pytest.mark.usefixtures("no_database")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--study", "s", "-o", "m.onnx"],
            "--format onnx needs tf2onnx, onnx, onnxruntime: pip install 'hpo-service[onnx]'",
        ),
        (["--study", "s", "--format", "keras"], "not text: name a path with --output, such as s.keras"),
        (["--study", "s", "-o", "m.tflite", "--trial", "7"], "hpo retrain --study s --trial 7"),
        (["--study", "s", "-o", "m.tflite", "--format", "onnx"], "whose suffix means tflite"),
        (["--model", "m", "--format", "yaml"], "a configuration, which a study has: name it with --study"),
        (["--model", "m", "--study", "s", "-o", "m.onnx"], "--study and --model exclude each other"),
        (["-o", "m.onnx"], "are missing: name a study, or the folder of a model"),
        (["--study", "s", "--objective", "a:B"], "--objective belongs to --model"),
        (["--model", "absent", "-o", "m.tflite"], "there is no model absent"),
    ],
)
def test_export_of_a_model_is_refused_before_keras_is_imported(
    monkeypatch, capsys, arguments: list[str], message: str
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if "onnx" in name else find(name, *more),
    )
    monkeypatch.delenv("HPO_STUDY", raising=False)
    imported = {"keras", "tensorflow"} & sys.modules.keys()
    assert run(["export", *arguments]) != 0
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert {"keras", "tensorflow"} & sys.modules.keys() == imported


def test_export_to_tflite_without_an_interpreter_is_refused(monkeypatch, capsys) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "ai_edge_litert" else found(name)
    )
    monkeypatch.setattr("hpo.export.model_formats._is_in_tensorflow", lambda: False)
    assert run(["export", "--model", "absent", "-o", "m.tflite"]) == 1
    assert (
        "--format tflite needs ai_edge_litert: pip install 'hpo-service[tflite]'" in capsys.readouterr().err
    )
