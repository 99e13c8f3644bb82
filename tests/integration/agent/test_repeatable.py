"""A study with one worker has the same trials for the same seed, also where agents died between two of their writes."""

from __future__ import annotations

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from hpo.agent.store.tells import Tells
from hpo.agent.store.trial_store import TrialStore
from hpo.outcomes import Outcome
from hpo.search.optuna_study import Search
from objectives.base import Params
from storage.claiming.claims import Claim
from storage.engine import Database
from tests.integration.stores import StoredStudy, claimed, report
from tests.searches import sampled
from tests.specs import SPACE, spec

SPEC = spec(SPACE, startup=3, seed=5, sampler="tpe")


class KilledError(Exception):
    """The end of an agent, in a test."""


def undisturbed() -> list[Params]:
    """Return the parameters of a search in memory."""
    storage = InMemoryStorage()
    optuna.create_study(study_name="s", storage=storage, direction="minimize")
    search, found = Search(0, SPEC, storage), []
    for number in range(8):
        trial_id, _ = search.create(
            Claim(reservation_id=number, attempt_id=1, ordinal=number, seed=0, fresh=True)
        )
        found.append(sampled(search, trial_id))
        search.tell(trial_id, number, Outcome.COMPLETE, abs(found[-1]["x"] - 0.3))
    return found


def trained(store: TrialStore) -> Params:
    """Train a trial whose value follows from its parameters; return these."""
    claim = claimed(store)
    trial_id, _, params = store.sample(claim)
    store.begin(claim.attempt_id, 1, 0)
    loss = abs(params["x"] - 0.3)
    report(store, claim, trial_id, loss)
    store.settle(claim.attempt_id, Outcome.COMPLETE, loss)
    return params


def test_search_goes_on_the_same_after_agents_died_before_they_told_optuna(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = StoredStudy(database, SPEC, budget=8)
    found = []
    for _ in range(8):
        agent = study.agent()
        # As an agent does first.
        agent.sweep(0.0)
        with monkeypatch.context() as patch:
            patch.setattr("storage.optuna.closing.closing_state", lambda *_: None)
            patch.setattr(Tells, "deliver", _killed)
            with pytest.raises(KilledError):
                trained(agent)
        found.append(study.optuna.get_trials()[-1].params)
    assert study.states[-1] is TrialState.RUNNING
    assert found == undisturbed()


def _killed(*_: object) -> None:
    raise KilledError
