"""The time that freeze-thaw takes to judge, choose and settle trials, in studies of many trials.

`python -m bench.search.thaw` starts a PostgreSQL of its own and fills studies with plain SQL. Each decision is one
transaction, which is rolled back.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median

import numpy as np
from optuna.distributions import FloatDistribution
from sqlalchemy import Connection, text
from threadpoolctl import threadpool_limits

from hpo.outcomes import Outcome
from hpo.search.curve_model.curves import Curve
from hpo.search.curve_model.scheduler import Scheduler
from hpo.search.freeze_thaw import NAME, FreezeThaw, rule_for
from storage import agents, leases
from storage.claiming import claims
from storage.engine import Database
from storage.freeze_thaw import curves, rungs
from storage.opening import open_database

SIZES = (100, 1_000, 10_000)
RULE = FreezeThaw(epochs=27)
FIRST = RULE.rungs[0]
ROUNDS = 30

_FILL = """
INSERT INTO hpo.studies (study_id, name, spec, budget) VALUES (:s, :s, CAST(:spec AS json), :n + 1000);

INSERT INTO hpo.trials (study_id, ordinal, seed, epochs, params, number)
SELECT :s, n, n, 1, '{}', n FROM generate_series(0, :n - 1) AS n;

INSERT INTO hpo.attempts (reservation_id, agent_id, slot, device, host, epochs, outcome, lease_until, ended_at)
SELECT reservation_id, :agent, 0, 'cpu', 'bench', 1, 'released', now(), now() FROM hpo.trials WHERE study_id = :s;

-- Of the trials that reached a rung, the first third has gone on.
INSERT INTO hpo.rungs (reservation_id, epoch, study_id, score)
SELECT reservation_id, epoch, :s, ordinal
FROM hpo.trials, unnest(CAST(:rungs AS int[])) WITH ORDINALITY AS r (epoch, nth)
WHERE study_id = :s AND ordinal < :n / power(3, nth - 1);

UPDATE hpo.trials t SET paused_epoch = top.epoch, paused_score = t.ordinal FROM
 (SELECT reservation_id, max(epoch) AS epoch FROM hpo.rungs WHERE study_id = :s GROUP BY reservation_id) AS top
WHERE top.reservation_id = t.reservation_id AND ordinal >= :n / power(3, :rung_count);

UPDATE hpo.trials SET outcome = 'complete', value = ordinal, decided_at = now(), epochs = 27
WHERE study_id = :s AND paused_epoch IS NULL;
"""


MODELLED = rule_for(24, (), modelled=True)
SPACE = {name: FloatDistribution(0.0, 1.0) for name in ("a", "b", "c", "d", "e")}

_FILL_CURVES = """
INSERT INTO hpo.studies (study_id, name, spec, budget) VALUES (:s, CAST(:s AS text), CAST(:spec AS json), :n + 1000);

INSERT INTO hpo.trials (study_id, ordinal, seed, epochs, params, number)
SELECT :s, n, n, 1, json_build_object('a', random(), 'b', random(), 'c', random(), 'd', random(), 'e', random()), n
FROM generate_series(0, :n - 1) AS n;

-- One trial in three has gone on at each rung.
INSERT INTO hpo.rungs (reservation_id, epoch, study_id, score)
SELECT reservation_id, epoch, :s, abs(CAST(params->>'a' AS float8) - 0.3) + 1.0 / epoch
FROM hpo.trials, unnest(CAST(:rungs AS int[])) WITH ORDINALITY AS r (epoch, nth)
WHERE study_id = :s AND ordinal % CAST(power(3, nth - 1) AS int) = 0;

UPDATE hpo.trials t SET paused_epoch = top.epoch, paused_score = top.score FROM
 (SELECT DISTINCT ON (reservation_id) reservation_id, epoch, score FROM hpo.rungs WHERE study_id = :s
  ORDER BY reservation_id, epoch DESC) AS top WHERE top.reservation_id = t.reservation_id;
"""


class _RolledBack(Exception):
    """Ends a transaction without a trace."""


def _seconds(database: Database, work: Callable[[Connection], object]) -> float:
    """Return the time of a transaction that is rolled back."""
    taken = math.nan

    def measured(connection: Connection) -> None:
        nonlocal taken
        began_at = time.perf_counter()
        work(connection)
        taken = time.perf_counter() - began_at
        raise _RolledBack

    with suppress(_RolledBack):
        database.transaction(measured)
    return taken


def _fill(connection: Connection, study_id: int, trials: int) -> int:
    """Create a study whose trials stand at rungs; return its agent."""
    connection.execute(
        text("INSERT INTO public.studies (study_id, study_name) VALUES (:s, :s)"), {"s": str(study_id)}
    )
    agent: int = agents.new_agent_id(connection)
    spec = f'{{"seed": 0, "pruner": "{NAME}", "epochs": {RULE.epochs}, "direction": "minimize", "metric": "loss"}}'
    values = {
        "s": study_id,
        "n": trials,
        "agent": agent,
        "spec": spec,
        "rungs": list(RULE.rungs),
        "rung_count": len(RULE.rungs),
    }
    first, *others = [one for one in _FILL.split(";") if one.strip()]
    connection.execute(text(first.replace(":s, :s", ":s, CAST(:s AS text)")), values)
    agents.join(connection, agent, study_id, "bench", 1, "bench:1:1", 4, {})
    for statement in others:
        connection.execute(text(statement), values)
    return agent


def main() -> None:
    """Print a row for each size."""
    print(
        "| configurations | claim of a paused trial | claim of a new one | judgement at the first rung | settling |"
    )
    print("|---|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory(prefix="hpo-bench-") as folder,
        open_database(None, Path(folder)) as database,
    ):
        for study_id, trials in enumerate(SIZES, start=1):
            print(_row(database, study_id, trials), flush=True)
        print("\n| configurations | reading of the curves | decision of their model | proposal with it |")
        print("|---|---|---|---|")
        for study_id, trials in enumerate(SIZES, start=1 + len(SIZES)):
            print(_modelled_row(database, study_id, trials), flush=True)


def _row(database: Database, study_id: int, trials: int) -> str:
    agent = database.transaction(lambda c: _fill(c, study_id, trials))
    database.transaction(lambda c: c.execute(text("ANALYZE")))

    def claim(connection: Connection, slot: int = 0) -> claims.Claim:
        found = claims.claim(connection, study_id, agent, "bench", slot, "cpu:0", 120.0)
        assert isinstance(found, claims.Claim)
        return found

    def claim_new(connection: Connection) -> None:
        assert claim(connection).fresh

    def claim_paused(connection: Connection) -> None:
        assert not claim(connection).fresh

    slot = 1
    while not (held := database.transaction(lambda c: claim(c, slot))).fresh:  # noqa: B023
        slot += 1
    judged = [
        _seconds(database, lambda c: rungs.judge(c, held.attempt_id, RULE, {FIRST: 0.5}))
        for _ in range(ROUNDS)
    ]
    settled = [
        _seconds(database, lambda c: leases.settle(c, held.attempt_id, Outcome.COMPLETE, 0.5))
        for _ in range(ROUNDS)
    ]
    fresh = [_seconds(database, claim_new) for _ in range(ROUNDS)]
    # The best paused trial of the first rung is among its best third again.
    database.transaction(
        lambda c: c.execute(
            text(
                "UPDATE hpo.trials SET paused_epoch = :e, paused_score = -1 WHERE number = :n AND study_id = :s"
            ),
            {"n": trials - 1, "s": study_id, "e": FIRST},
        )
    )
    paused = [_seconds(database, claim_paused) for _ in range(ROUNDS)]
    shown = " | ".join(f"{1000 * median(times):.1f} ms" for times in (paused, fresh, judged, settled))
    return f"| {trials} | {shown} |"


def _modelled_row(database: Database, study_id: int, trials: int) -> str:
    """Return the time of the read and the processor time of decisions, for each of which the model is fitted."""
    spec = (
        f'{{"pruner": "{NAME}", "epochs": {MODELLED.epochs}, "curve_model": true, "direction": "minimize"}}'
    )
    values = {"s": study_id, "n": trials, "spec": spec, "rungs": list(MODELLED.rungs)}
    for statement in (one for one in _FILL_CURVES.split(";") if one.strip()):
        database.transaction(lambda c, sql=statement: c.execute(text(sql), values))  # type: ignore[misc]
    database.transaction(lambda c: c.execute(text("ANALYZE")))
    read = [_seconds(database, lambda c: curves.read(c, study_id, MODELLED)) for _ in range(ROUNDS)]
    study = database.transaction(lambda c: curves.read(c, study_id, MODELLED))
    known = [
        Curve(
            trial=one.reservation_id,
            ordinal=one.ordinal,
            params=one.params,
            scores=one.scores,
            state=one.state,
        )
        for one in study.trials
    ]
    decided, proposed = [], []
    with threadpool_limits(limits=1, user_api="blas"):
        for seed in range(ROUNDS):
            scheduler = Scheduler(space=SPACE, epochs=MODELLED.epochs, seed=seed)
            began_at = time.process_time()
            scheduler.ranking(known, study.reserved, begins=True)
            decided.append(time.process_time() - began_at)
            began_at = time.process_time()
            scheduler.propose(known, study.reserved, np.random.default_rng(seed))
            proposed.append(time.process_time() - began_at)
    shown = " | ".join(f"{1000 * median(times):.1f} ms" for times in (read, decided, proposed))
    return f"| {trials} | {shown} |"


if __name__ == "__main__":
    main()
