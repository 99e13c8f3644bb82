"""`hpo predict --model` with real models."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from hpo.cli.main import run
from hpo.document.document import Code
from hpo.retrain import model_use
from objectives.data_options import DataOptions
from objectives.images import entry
from objectives.images.cache import Cache
from objectives.images.provision import provided
from tests.acceptance.fork_server import ForkServer
from tests.photos import make_photos
from tests.unit.models.conftest import MakeModel

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def predicted(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, str]]:
    assert run(["predict", *arguments, "--format", "csv"]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_predictions_of_files_are_those_of_the_cached_pixels(
    tmp_path: Path, image_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_photos(tmp_path / "photos", 4, side=(29, 40))
    cache = Cache(tmp_path / "cache")
    with provided(DataOptions(source=str(photos), image_size=29), cache) as found:
        pixels = np.load(cache.entry(found.digest) / entry.PIXELS)
        paths = [str(photos / path) for path in entry.paths(cache.entry(found.digest))]
    model = keras.saving.load_model(image_model / "model.keras")
    expected = np.asarray(model(pixels))
    options = ["--model", str(image_model), "--top", "3"]
    rows = predicted(capsys, *options, *paths, "--batch-size", "5")
    assert [row["path"] for row in rows] == paths
    names = ["cross", "disc", "stripes"]
    for row, shares in zip(rows, expected, strict=True):
        order = np.argsort(-shares)
        assert [row["class"], row["class_2"], row["class_3"]] == [names[index] for index in order]
        assert [float(row[f"probability{end}"]) for end in ("", "_2", "_3")] == pytest.approx(
            shares[order], abs=1e-6
        )
    # The same pixels as an array give the same digits.
    np.save(tmp_path / "x.npy", pixels)
    of_array = predicted(capsys, *options, str(tmp_path / "x.npy"), "--batch-size", "5")
    assert [{**row, "path": ""} for row in of_array] == [{**row, "path": ""} for row in rows]
    logits = np.log(expected) + np.log(np.asarray(model(pixels[:, :, ::-1])))
    mirrored = predicted(capsys, *options, *paths, "--mirror")
    assert [row["class"] for row in mirrored] == [names[index] for index in logits.argmax(axis=1)]


def test_unreadable_files_are_named_and_the_others_predicted(
    tmp_path: Path, image_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_photos(tmp_path / "photos", 1)
    (photos / "disc" / "bad.png").write_bytes(b"no image")
    output = tmp_path / "made" / "new.json"
    arguments = ["predict", "--model", str(image_model / "model.keras"), str(photos), "-o", str(output)]
    assert run(arguments) == 1
    printed = capsys.readouterr()
    assert "bad.png cannot be read: it is not an image" in printed.err
    assert "hpo: 1 of 4 files cannot be read (" in printed.err
    assert "bad.png: it is not an image), the others are predicted" in printed.err
    assert len(json.loads(output.read_text())) == 3
    assert run([*arguments, "--skip-unreadable"]) == 0
    assert "bad.png" in capsys.readouterr().err


def test_list_of_paths_is_read_from_standard_input(
    tmp_path: Path, image_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = make_photos(tmp_path / "photos", 1) / "disc" / "000.jpg"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{photo}\0{photo}\0".encode())))
    rows = predicted(capsys, "--model", str(image_model), "-", "--output", "/dev/stdout")
    assert [row["path"] for row in rows] == [str(photo)] * 2


def test_named_arrays_go_to_the_inputs_of_their_names(
    tmp_path: Path, make_model: MakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    age, size = keras.Input((1,), name="age"), keras.Input((2,), name="size")
    total = keras.ops.sum(keras.ops.concatenate([age, size], axis=1), axis=1, keepdims=True)
    folder = make_model(keras.Model({"size": size, "age": age}, total), task="regression", classes=["price"])
    np.savez(tmp_path / "x.npz", age=np.array([[1.0], [2.0]]), size=np.array([[3, 4], [5, 6]]))
    rows = predicted(capsys, "--model", str(folder), str(tmp_path / "x.npz"))
    assert [(row["path"][-6:], row["price"]) for row in rows] == [("npz[0]", "8.0"), ("npz[1]", "13.0")]

    # Without a record of their types.
    np.savez(tmp_path / "x.npz", age=np.array([["a"], ["b"]]), size=np.array([[3, 4], [5, 6]]))
    assert run(["predict", "--model", str(folder), str(tmp_path / "x.npz")]) != 0
    [line] = capsys.readouterr().err.splitlines()
    assert f"the model cannot compute {tmp_path / 'x.npz'}[0] and those after it (" in line

    # No class or value may follow from an answer that is not a number.
    np.savez(tmp_path / "x.npz", age=np.array([[1.0], [np.nan]]), size=np.array([[3, 4], [5, 6]]))
    assert run(["predict", "--model", str(folder), str(tmp_path / "x.npz")]) != 0
    assert f"the model computes nan for {tmp_path / 'x.npz'}[1]: give it finite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((2, 29, 29, 3), 0.5), "trained on uint8, and these are other float64 numbers"),
        (np.zeros((2, 29, 29, 3), complex), "trained on uint8, and these are complex128: give arrays like"),
        (np.full((2, 29, 29, 3), "a"), "trained on uint8, and these are <U1: give arrays like"),
        (np.zeros((2, 28, 28, 3), np.uint8), r"have the shape (28, 28, 3), but the model takes (29, 29, 3)"),
    ],
)
def test_arrays_unlike_the_training_data_are_refused(
    tmp_path: Path, image_model: Path, capsys: pytest.CaptureFixture[str], array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "x.npy", array)
    assert run(["predict", "--model", str(image_model), str(tmp_path / "x.npy")]) != 0
    assert message in capsys.readouterr().err


OWN = """
import keras

class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x

def objective(trial):
    return keras.Sequential([keras.Input((1,)), Twice(), keras.layers.Lambda(lambda x: x + 1)])
"""


def test_model_with_code_of_yours_needs_its_objective(
    tmp_path: Path, make_model: MakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "code_of_mine.py").write_text(OWN)
    space: dict[str, object] = {"__name__": "code_of_mine"}
    exec(OWN, space)
    folder = make_model(space["objective"](None))  # type: ignore[operator]
    np.save(tmp_path / "x.npy", np.array([[1.0], [2.0]], np.float32))
    arguments = ["--model", str(folder), str(tmp_path / "x.npy")]
    assert run(["predict", *arguments]) == 1
    printed = capsys.readouterr().err
    assert "holds code of yours (Twice, __lambda__): name its objective with --objective" in printed
    rows = predicted(capsys, *arguments, "--objective", f"{tmp_path}/code_of_mine.py:objective")
    assert [row["output"] for row in rows] == ["3.0", "5.0"]


def test_models_that_cannot_be_used_are_refused_in_one_line(
    tmp_path: Path, image_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(make_photos(tmp_path / "photos", 1))
    floats = tmp_path / "floats"
    image_model.rename(floats)
    metrics = json.loads((floats / "metrics.json").read_text())

    def refused(path: Path, *more: str) -> str:
        assert run(["predict", "--model", str(path), photo, *more]) != 0
        [line] = capsys.readouterr().err.splitlines()
        return line

    (floats / "metrics.json").write_text(json.dumps(metrics | {"input": {"dtype": "float32"}}))
    assert "the model takes no image files but the arrays of its objective" in refused(floats)
    (floats / "metrics.json").write_text(json.dumps(metrics | {"classes": ["a", "b"]}))
    assert "the model has 3 outputs, but metrics.json next to it names a, b" in refused(floats)
    (floats / "metrics.json").write_text("[]")
    assert "there is no valid metrics.json next to" in refused(floats)
    (floats / "metrics.json").write_text(json.dumps(metrics))
    (floats / "model.keras").write_bytes(b"PK no archive")
    assert "cannot be loaded" in refused(floats)
    (floats / "model.keras").unlink()
    assert "there is no model" in refused(floats)


def test_lines_of_the_card_predict_without_this_package(
    tmp_path: Path, image_model: Path, capsys: pytest.CaptureFixture[str], keras_commands: ForkServer
) -> None:
    """The image has the model's size, so that both decode the same pixels."""
    photo = make_photos(tmp_path / "photos", 2, side=(29, 29)) / "disc" / "001.png"
    photo.rename(image_model / "new.jpg")
    metrics = json.loads((image_model / "metrics.json").read_text())
    blocks = model_use.use(metrics, metrics["runs"][0])
    [code] = [block.text for block in blocks if isinstance(block, Code) and block.language == "python"]
    # Neither package can be imported.
    hidden = "import sys\nfor name in ('hpo', 'objectives', 'storage'): sys.modules[name] = None\n"
    ended = keras_commands.run(hidden + code.replace("print(", "print(*"), image_model, timeout=200.0)
    assert ended.returncode == 0, ended.stderr
    shares = [float(share) for share in re.findall(r"\d\.\d+(?:e-\d+)?", ended.stdout.splitlines()[-1])]
    [row] = predicted(capsys, "--model", str(image_model), str(image_model / "new.jpg"))
    assert max(shares) == pytest.approx(float(row["probability"]), abs=1e-5)
