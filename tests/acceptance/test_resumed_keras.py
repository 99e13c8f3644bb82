"""A real model that was interrupted ends exactly as one that was not."""

from __future__ import annotations

import signal

from tests.acceptance.service import Running, Service

EPOCHS = 6
PARAMS = ("batch_size=32", "optimizer=adam", "learning_rate=0.004", "dropout=0.3", "weight_decay=0.0001")
TIMINGS = {"images_per_second"}


def launch(service: Service, study: str) -> Running:
    fixed = [word for param in PARAMS for word in ("--param", param)]
    return service.start(
        "launch", "--study", study, "--objective", "digits-cnn", "--trials", 1, "--workers", 1,
        "--epochs", EPOCHS, "--sampler", "random", "--pruner", "none", "--seed", 3, *fixed,
    )  # fmt: skip


def metrics(service: Service, study: str) -> list[dict[str, float]]:
    """Of each epoch, but how long it took."""
    rows = service.rows(
        "SELECT e.metrics FROM hpo.epochs e JOIN hpo.trials USING (token) JOIN hpo.studies USING (study_id)"
        " WHERE name = :n ORDER BY epoch",
        n=study,
    )
    return [{name: row.metrics[name] for name in row.metrics.keys() - TIMINGS} for row in rows]


def test_digits_cnn_resumes_to_the_last_digit(service: Service) -> None:
    whole, broken = launch(service, "whole"), launch(service, "broken")
    service.await_(lambda: len(metrics(service, "broken")) >= 2, timeout=90)
    broken.send_signal(signal.SIGTERM)
    assert broken.wait(10).code == 130
    assert len(metrics(service, "broken")) < EPOCHS
    assert launch(service, "broken").wait().code == 0
    assert whole.wait().code == 0
    attempts = service.rows("SELECT resumed_from FROM hpo.attempts ORDER BY attempt_id")
    assert max(attempt.resumed_from for attempt in attempts) >= 2
    expected = metrics(service, "whole")
    assert len(expected) == EPOCHS
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= expected[0].keys()
    assert metrics(service, "broken") == expected
