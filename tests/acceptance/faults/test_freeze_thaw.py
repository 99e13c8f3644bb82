"""A study whose trials pause and go on, under agents that are killed."""

from __future__ import annotations

from tests.acceptance.service import Service

TRIALS, EPOCHS = 9, 9


def test_killed_agents_leave_every_trial_as_an_undisturbed_study_does(service: Service) -> None:
    service.set(TEST_EPOCH_SECONDS=0.05)
    for paused in (1, 4):
        agent = service.launch(
            "Extended", "--trials", TRIALS, "--workers", 2, "--epochs", EPOCHS, "--pruner", "freeze-thaw"
        )
        service.wait_for(
            lambda: (
                service.value("SELECT count(*) FROM hpo.trials WHERE paused_epoch IS NOT NULL") >= paused  # noqa: B023
            )
        )
        agent.kill()
    assert " paused, " in service.hpo("status", "--study", "s").out
    service.finish(TRIALS, EPOCHS)

    trials = service.rows("SELECT reservation_id, outcome, epochs, params, lost FROM hpo.trials")
    assert {trial.outcome for trial in trials} == {"complete", "pruned"}
    # The model trains some of the best to the end, and no other.
    assert 3 <= sum(trial.epochs == EPOCHS for trial in trials) < TRIALS
    assert all(trial.epochs == EPOCHS for trial in trials if trial.outcome == "complete")
    for trial in trials:
        rows = service.rows(
            "SELECT epoch, (metrics->>'loss')::float AS loss FROM hpo.epochs WHERE reservation_id = :t",
            t=trial.reservation_id,
        )
        assert {row.epoch: row.loss for row in rows} == {
            epoch: (trial.params["x"] - 2) ** 2 + 1 / epoch for epoch in range(1, trial.epochs + 1)
        }
    # A trial that was paused when its agent was killed is not lost.
    lost = service.value("SELECT count(*) FROM hpo.attempts WHERE outcome = 'lost'")
    assert lost == sum(trial.lost for trial in trials) <= 4
    kept, ended = _kept(service), _complete(service)
    assert kept == _best_third(service)

    more = service.hpo("launch", "--study", "s", "--trials", TRIALS + 3).clean()
    assert f"{TRIALS + 3} of {TRIALS + 3} trials finished" in more.out
    service.check_records(TRIALS + 3, EPOCHS)

    best, complete = _best_third(service), len(_complete(service))
    # A trial that was worse than the best third before has lost its checkpoint, and trains again from epoch 1.
    again = best & {*ended} - kept
    assert _kept(service) == best - again
    # An agent may have been killed between a trial's last epoch and its end: its next attempt trained no epoch.
    before = service.value("SELECT max(attempt_id) FROM hpo.attempts")
    service.hpo("launch", "--study", "s", "--epochs", EPOCHS + 2).clean()
    assert _kept(service) == _best_third(service)
    service.check_records(TRIALS + 3, EPOCHS + 2)
    ended = service.rows("SELECT reservation_id, outcome, epochs FROM hpo.trials WHERE outcome = 'complete'")
    # The best third of the complete trials, from where they had ended.
    assert {trial.reservation_id for trial in ended} == best
    assert len(best) == max(1, complete // 3)
    assert {trial.epochs for trial in ended} == {EPOCHS + 2}
    resumed = service.rows(
        "SELECT reservation_id, epochs FROM hpo.attempts WHERE resumed_from = :e AND attempt_id > :b",
        e=EPOCHS,
        b=before,
    )
    assert {(row.reservation_id, row.epochs) for row in resumed} == {(one, 2) for one in best - again}


def _kept(service: Service) -> set[int]:
    """Return the trials that have a checkpoint."""
    return {
        int(path.parent.name.removeprefix("trial-")) for path in service.checkpoints.glob("trial-*/epoch-*")
    }


def _complete(service: Service) -> list[int]:
    """Return the complete trials, the best first, and of two with one value the earlier one."""
    found = service.rows(
        "SELECT reservation_id FROM hpo.trials WHERE outcome = 'complete' ORDER BY value, reservation_id"
    )
    return [row.reservation_id for row in found]


def _best_third(service: Service) -> set[int]:
    found = _complete(service)
    return {*found[: max(1, len(found) // 3)]}
