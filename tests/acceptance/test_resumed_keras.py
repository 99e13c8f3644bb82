"""A real model that was interrupted ends exactly like an uninterrupted one, after a kill and after a signal."""

from __future__ import annotations

import signal
from typing import Any

import psutil
from sqlalchemy import Row

from tests.acceptance.service import Running, Service

EPOCHS = 20
PARAMS = ("batch_size=32", "optimizer=adam", "learning_rate=0.004", "dropout=0.3", "weight_decay=0.0001")
TIMINGS = {"images_per_second"}


def launch(service: Service, study: str) -> Running:
    """Start two trials, one after the other, because importing TensorFlow takes far longer than training both."""
    fixed = [argument for param in PARAMS for argument in ("--param", param)]
    return service.start(
        "launch", "--study", study, "--objective", "digits-cnn", "--trials", 2, "--workers", 1,
        "--epochs", EPOCHS, "--sampler", "random", "--pruner", "none", "--seed", 3, *fixed,
    )  # fmt: skip


def metrics(service: Service, study: str, number: int) -> list[dict[str, float]]:
    """Return the metrics of each epoch of a trial, without its speed."""
    rows = service.rows(
        "SELECT e.metrics FROM hpo.epochs e JOIN hpo.trials USING (reservation_id) JOIN hpo.studies USING (study_id)"
        " WHERE name = :s AND number = :n ORDER BY epoch",
        s=study,
        n=number,
    )
    return [{name: row.metrics[name] for name in row.metrics.keys() - TIMINGS} for row in rows]


def attempts(service: Service, study: str, number: int) -> list[Row[Any]]:
    """Return the attempts of a trial that a trainer has begun."""
    return service.rows(
        "SELECT a.pid, a.outcome, a.resumed_from FROM hpo.attempts a JOIN hpo.trials USING (reservation_id)"
        " JOIN hpo.studies USING (study_id) WHERE name = :s AND number = :n AND a.pid IS NOT NULL"
        " ORDER BY attempt_id",
        s=study,
        n=number,
    )


def test_interrupted_digits_cnn_equals_uninterrupted_one(service: Service) -> None:
    whole, broken = launch(service, "whole"), launch(service, "broken")
    service.wait_for(lambda: len(metrics(service, "broken", 0)) >= 2, timeout=90)
    # In one of the many epochs that are left.
    psutil.Process(attempts(service, "broken", 0)[0].pid).kill()
    service.wait_for(lambda: len(metrics(service, "broken", 1)) >= 2, timeout=90)
    broken.send_signal(signal.SIGTERM)
    assert broken.wait(10).code == 130
    assert len(metrics(service, "broken", 1)) < EPOCHS
    assert launch(service, "broken").wait().code == 0
    assert whole.wait().code == 0
    for number, interrupted in enumerate(["lost", "released"]):
        first, second = attempts(service, "broken", number)
        assert (first.outcome, second.outcome) == (interrupted, "complete")
        assert 2 <= second.resumed_from < EPOCHS
        expected = metrics(service, "whole", number)
        assert len(expected) == EPOCHS
        assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= expected[0].keys()
        assert metrics(service, "broken", number) == expected
