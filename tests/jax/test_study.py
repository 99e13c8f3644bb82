"""A study of `digits-cnn` on JAX: searched, killed, resumed to the last digit, retrained, exported and predicted."""

from __future__ import annotations

from typing import Any

import psutil
import yaml

from tests.acceptance.service import Running, Service

SEARCH = (
    *("--objective", "digits-cnn", "--trials", 1, "--workers", 1, "--epochs", 30, "--seed", 3),
    *("--pruner", "none", "--sampler", "random"),
)


def epochs(service: Service, study: str) -> list[dict[str, Any]]:
    """Return the metrics of a study's epochs, without those that depend on the machine."""
    rows = service.rows(
        "SELECT metrics FROM hpo.epochs JOIN hpo.trials USING (reservation_id) JOIN hpo.studies USING (study_id)"
        " WHERE name = :n ORDER BY ordinal, epoch",
        n=study,
    )
    return [{**row.metrics, "images_per_second": 0.0} for row in rows]


def libraries(agent: Running) -> str:
    """Suspend the processes that an agent has started, and return the paths of all files that these have mapped."""
    started = psutil.Process(agent.pid).children(recursive=True)
    for one in started:
        one.suspend()
    return "\n".join(found.path for one in started for found in one.memory_maps())


def test_study_on_jax(service: Service) -> None:
    service.hpo("launch", "--study", "whole", *SEARCH, "--backend", "jax", timeout=240).clean()
    agent = service.start("launch", "--study", "s", *SEARCH, "--backend", "jax")
    service.wait_for(lambda: len(epochs(service, "s")) >= 2, 120.0)
    found = libraries(agent)
    agent.kill()
    assert "jaxlib" in found
    assert "tensorflow" not in found
    assert 2 <= len(epochs(service, "s")) < 30

    refused = service.hpo("launch", "--study", "s", *SEARCH, "--backend", "tensorflow").complaint()
    assert "study 's' trains with jax" in refused
    assert "use --backend jax, or start another study with --study" in refused
    # Without a choice, the backend is the study's.
    service.hpo("launch", "--study", "s", *SEARCH, timeout=240).clean()
    assert service.value("SELECT count(*) FROM hpo.attempts") == 3, (
        "one of the whole study, two of the killed one"
    )
    assert epochs(service, "s") == epochs(service, "whole")

    retrained = service.hpo("retrain", "--study", "s", "--seeds", 2, "--epochs", 2, timeout=240).clean()
    assert "test_accuracy" in retrained.out
    exported = yaml.safe_load(service.hpo("export", "--study", "s").clean().out)
    assert exported["backend"] == "jax"
    assert "jax" in exported["versions"]
    # The exporter of this format is TensorFlow's, and takes the weights from Keras' file.
    service.set(KERAS_BACKEND="jax")
    written = service.hpo(
        "export", "--study", "s", "--output", service.folder / "s.tflite", timeout=240
    ).clean()
    assert "its answers to 12 random inputs differ" in written.out
    report = service.hpo("report", "--study", "s").clean()
    assert "report.md" in report.out
