"""`hpo export --format keras|saved-model|tflite` with real models; ONNX is tested where its packages are installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

from hpo.cli.main import run
from hpo.export import model_formats
from hpo.export.model_formats import _by_name
from tests.unit.models.conftest import MakeModel
from tests.unit.models.test_predict import OWN

# Of Keras and TensorFlow, while they export.
pytestmark = pytest.mark.filterwarnings("ignore")


def exported(capsys: pytest.CaptureFixture[str], folder: Path, output: Path, *more: str) -> str:
    code = run(["export", "--model", str(folder), "--output", str(output), *more])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


def test_each_format_gives_the_answers_of_the_model(
    tmp_path: Path, image_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import tensorflow as tf

    out = tmp_path / "made"
    # Earlier exports are replaced.
    (out / "m").mkdir(parents=True)
    for earlier in ("m.keras", "m/saved_model.pb", "m/of_another_model", "m.tflite"):
        (out / earlier).write_bytes(b"an earlier one")
    for name, form in (("m.keras", "keras"), ("m", "saved-model"), ("m.tflite", "tflite")):
        printed = exported(capsys, image_model, out / name, "--format", form)
        assert printed.startswith(f"wrote {out / name} as {form}: its answers to 12 random inputs differ")
    assert sorted(path.name for path in out.iterdir()) == ["m", "m.keras", "m.tflite"]
    assert not (out / "m" / "of_another_model").exists()
    images = np.random.default_rng(1).integers(0, 256, (3, 29, 29, 3)).astype(np.uint8)
    expected = np.asarray(keras.saving.load_model(out / "m.keras")(images))
    loaded = tf.saved_model.load(str(out / "m"))
    np.testing.assert_allclose(loaded.serve(images), expected, atol=1e-5)
    runner = tf.lite.Interpreter(model_path=str(out / "m.tflite")).get_signature_runner()
    [name] = runner.get_input_details()
    [found] = runner(**{name: images}).values()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def two_inputs(make_model: MakeModel) -> Path:
    age, image = keras.Input((2,), name="age"), keras.Input((4, 4, 1), name="image")
    flat = keras.layers.Flatten()(image)
    normalized = keras.layers.Normalization(mean=[40.0, 1.0], variance=[9.0, 4.0])(age)
    joined = keras.layers.Dense(1)(keras.layers.Concatenate()([flat, normalized]))
    return make_model(keras.Model({"image": image, "age": age}, joined), task="regression", classes=["price"])


FORMS = ["saved-model", "tflite", *(["onnx"] if importlib.util.find_spec("tf2onnx") else [])]


@pytest.mark.parametrize("form", FORMS)
def test_several_inputs_keep_their_names(
    tmp_path: Path, make_model: MakeModel, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    exported(capsys, two_inputs(make_model), tmp_path / "made", "--format", form)


def test_inputs_whose_names_end_alike_are_distinguished() -> None:
    inputs = {name: np.array([number]) for number, name in enumerate(("a", "b_a", "c"))}
    found = _by_name(inputs, ["serving_default_b_a", "b_a", "serving_default_a", "c"])
    assert [int(array[0]) for array in found.values()] == [1, 1, 0, 2]


def test_code_of_yours_is_exported_where_its_objective_is_named(
    tmp_path: Path, make_model: MakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "exported_code.py").write_text(OWN)
    space: dict[str, object] = {"__name__": "exported_code"}
    exec(OWN, space)
    folder = make_model(space["objective"](None))  # type: ignore[operator]
    output = tmp_path / "m.tflite"
    assert run(["export", "--model", str(folder), "--output", str(output)]) == 1
    assert "holds code of yours (Twice, __lambda__)" in capsys.readouterr().err
    assert not output.exists()
    for name in ("m.tflite", "copy.keras"):
        exported(*(capsys, folder, tmp_path / name, "--objective", f"{tmp_path}/exported_code.py:objective"))


def test_export_with_other_answers_is_not_kept(
    tmp_path: Path, image_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(model_formats.SavedModelFormat):
        def outputs(self, *arguments: object) -> np.ndarray:
            return super().outputs(*arguments) + 0.5  # type: ignore[arg-type]

    monkeypatch.setitem(model_formats.FORMATS, "saved-model", Wrong())
    output = tmp_path / "made" / "m"
    assert run(["export", "--model", str(image_model), "-o", str(output), "--format", "saved-model"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "gives other answers, which differ by 0.5 (at most 0.0001 is allowed), and is not written" in line
    assert list(output.parent.iterdir()) == []


def test_each_target_of_a_regression_is_compared_in_its_own_unit(
    tmp_path: Path, make_model: MakeModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(model_formats.KerasFormat):
        def outputs(self, *arguments: object) -> np.ndarray:
            return super().outputs(*arguments) * [1.0, 1.01]  # type: ignore[arg-type]

    inputs = keras.Input((3,))
    outputs = keras.layers.Rescaling([1e6, 1e-5])(keras.layers.Dense(2)(inputs))
    folder = make_model(keras.Model(inputs, outputs), task="regression", classes=["price", "share"])
    monkeypatch.setitem(model_formats.FORMATS, "keras", Wrong())
    assert run(["export", "--model", str(folder), "-o", str(tmp_path / "m.keras")]) == 1
    assert "gives other answers, which differ by 0.01 (at most" in capsys.readouterr().err
    assert not (tmp_path / "m.keras").exists()


def test_failing_exporter_is_one_line(
    tmp_path: Path, image_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise NotImplementedError("no such\nlayer")

    monkeypatch.setattr(model_formats.TfliteFormat, "write", fail)
    assert run(["export", "--model", str(image_model), "-o", str(tmp_path / "m.tflite")]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot be exported as tflite (no such layer): choose another format" in line
    assert not (tmp_path / "m.tflite").exists()
