"""Labels of photos, judged by a model while they are explored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hpo.errors import UsageError
from hpo.explore.request import ExploreRequest, run
from hpo.options.images import ImageOptions
from hpo.settings import Settings
from tests.photos import make_photos


def test_model_judges_the_labels_of_photos(
    image_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(tmp_path / "photos", 8)
    settings = Settings.from_environment(
        {"HPO_HOME": str(tmp_path / "home"), "HPO_RESULTS_DIR": str(tmp_path / "out")}
    )
    request = ExploreRequest(
        name=str(photos), model=image_model, images=ImageOptions(image_size=29), output=tmp_path / "found"
    )
    run(request, settings)
    judged = json.loads((tmp_path / "found" / "statistics.json").read_text())["judgement"]
    assert list(judged["splits"]) == ["test", "training", "validation"]
    assert [split["seen_in_training"] for split in judged["splits"].values()] == [False, True, True]
    # It is untrained, so it gives many images another class.
    suspects = judged["splits"]["training"]["suspects"]
    assert suspects
    assert all((photos / suspect["path"]).is_file() for suspect in suspects)
    with pytest.raises(UsageError, match=r"takes 29×29×3, but photos has 16×16×3: .*--image-size"):
        run(ExploreRequest(name=str(photos), model=image_model, images=ImageOptions(image_size=16)), settings)
    monkeypatch.setattr("hpo.explore.model.load_model", None)
    shutil.rmtree(photos / "disc")
    with pytest.raises(
        UsageError, match="was trained on cross, disc, stripes, but photos has cross, stripes"
    ):
        run(request, settings)
