"""A folder of photos, searched and tested by the real commands; bad input ends them before a study is made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.acceptance.service import Service
from tests.photos import make_photos

# Loads images as its base class does, but trains without Keras, whose import takes longer than this test.
OBJECTIVE = '''
import numpy as np
from optuna.distributions import FloatDistribution
from hpo import KerasObjective
from objectives.data.splits import split
from objectives.images.provision import mapped

class Pets(KerasObjective):
    """Nothing but the numbers of its images."""
    epochs, space = 1, {"x": FloatDistribution(0.0, 1.0)}

    def build(self, params, data): ...

    def prepare(self, options, final):
        arrays, classes = mapped(options, final)
        self._data = split(arrays, options, final, classes)

    def train(self, params, run):
        data = self._data
        assert not data.x_train.flags.owndata, "shared with other trainers"
        for epoch in run.epochs():
            run.report(val_accuracy=params["x"])
        if run.final:
            run.record(test_accuracy=0.5, n_train=len(data.x_train), n_test=len(data.x_test), classes=data.classes)
            (run.output / "model.keras").touch()
'''


@pytest.fixture
def photos(service: Service) -> Path:
    (service.folder / "pets.py").write_text(OBJECTIVE)
    return make_photos(service.folder / "photos", 10, side=(10, 14))


def test_photos_are_searched_and_tested(service: Service, photos: Path) -> None:
    reference = ("--objective", service.folder / "pets.py:Pets")
    search = (
        "--study",
        "pets",
        *reference,
        "--data",
        photos,
        "--image-size",
        8,
        "--workers",
        2,
        "--trials",
        2,
    )
    launched = service.hpo("launch", *search).clean()
    assert (
        "30 images of 3 classes (cross, disc, stripes), 8×8, in colour: 21 training, 3 valid" in launched.out
    )
    assert "20 % of the images are held out" in launched.out
    (spec,) = service.rows("SELECT spec FROM hpo.studies")
    assert spec.spec["data"]["source"] == str(photos)
    agents = service.rows("SELECT versions FROM hpo.agents")
    assert {row.versions["data_digest"] for row in agents} == {spec.spec["data"]["digest"]}

    service.hpo("retrain", "--study", "pets", "--seeds", 1).clean()
    metrics = json.loads((service.folder / "results" / "pets" / "metrics.json").read_text())
    (run,) = metrics["runs"]
    assert (run["n_train"], run["n_test"], run["classes"]) == (24, 6, ["cross", "disc", "stripes"])

    # Elsewhere and with another content.
    moved = shutil.move(photos, service.folder / "moved")
    assert "give the place of the data with --data" in service.hpo("worker", "--study", "pets").complaint()
    (service.folder / "moved" / "disc" / "000.jpg").unlink()
    arguments = ("worker", "--study", "pets", "--data", moved)
    assert "on this host differ from those that study 'pets' trains on" in service.hpo(*arguments).complaint()


def test_bad_input_ends_a_launch_before_a_study_is_made(service: Service, photos: Path) -> None:
    (photos / "disc" / "000.jpg").write_bytes(b"half a fi")
    search = ("--study", "pets", "--objective", service.folder / "pets.py:Pets", "--data", photos)
    message = service.hpo("launch", *search).complaint()
    assert "1 image of" in message
    assert "disc/000.jpg (it is not an image)" in message
    assert service.rows("SELECT * FROM hpo.studies") == []
