"""Checks of a study's records after random faults, to the last epoch, and of leftovers."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from hpo.outcomes import Outcome
from storage.claiming.claims import TAKEN
from tests.acceptance.faults import trace
from tests.acceptance.faults.cuts import EXPIRED, Member
from tests.acceptance.faults.report import Report
from tests.acceptance.objectives_for_tests import first_link, last_saved, link
from tests.acceptance.service import Service


class ChaosChecks:
    """The records of one study and its agents, all of which have ended."""

    def __init__(self, service: Service, members: list[Member], trace_file: Path) -> None:
        self._service = service
        self._members = members
        notes = trace.read(trace_file)
        self._reopened = service.rows("SELECT * FROM audit_reopened")
        self._costs = trace.costs(
            notes,
            self._taken() | self._unrecorded(notes),
            last_saved,
            {(row.seed, row.pid) for row in self._reopened},
        )

    def check(self, trials: int, epochs: int) -> None:
        """Assert that the records are consistent."""
        self._service.check_records(trials, epochs)
        unpaused = [row for row in self._reopened if not row.was_paused or row.pid is None]
        assert unpaused == [], "a trial that had not ended paused was reopened"
        self._check_optuna()
        self._check_chains()
        self._check_attempts()
        self._check_leases()
        self._check_resumed()

    def fill_in(self, report: Report) -> None:
        """Note the cost of the faults."""
        one, rows = self._service.value, self._service.rows
        report.failed = one("SELECT count(*) FROM hpo.trials WHERE outcome IN ('bug', 'lost', 'hung')")
        report.attempts = one("SELECT count(*) FROM hpo.attempts")
        lost = rows(
            "SELECT error, count(*) AS n FROM hpo.attempts WHERE outcome IN ('lost', 'hung') GROUP BY error"
        )
        report.lost = Counter({row.error: row.n for row in lost})
        report.epochs = one("SELECT count(*) FROM hpo.epochs")
        report.again, report.late = self._costs.again, self._costs.late

    def _check_optuna(self) -> None:
        """Optuna was told of each end of a trial once, and has the same states, parameters and values as our tables."""
        service = self._service
        trials = {trial.number: trial for trial in service.study().get_trials()}
        tells = Counter(row.trial_id for row in service.rows("SELECT trial_id FROM audit_tells"))
        ends = Counter(trial._trial_id for trial in trials.values())
        ends.update(row.trial_id for row in self._reopened)
        assert tells == ends, "Optuna was told of an end of a trial twice, or not at all"
        # Created by an agent that was killed before it recorded them: they are never trained.
        strays = service.rows(
            "SELECT t.state::text AS state FROM trials t"
            " WHERE NOT EXISTS (SELECT 1 FROM hpo.trials h WHERE h.trial_id = t.trial_id)"
        )
        assert {stray.state for stray in strays} <= {"FAIL"}, "a trial without a reservation counts"
        losses = defaultdict(dict)
        for epoch in service.rows(
            "SELECT number, epoch, (metrics->>'loss')::float AS loss FROM hpo.epochs"
            " JOIN hpo.trials USING (reservation_id)"
        ):
            losses[epoch.number][epoch.epoch] = epoch.loss
        for ours in service.rows(
            "SELECT number, outcome, value, params FROM hpo.trials WHERE number IS NOT NULL"
        ):
            theirs, outcome = trials[ours.number], Outcome(ours.outcome)
            assert theirs.state.name == outcome.optuna_state, ours
            assert theirs.params == (ours.params or {}), ours
            known = theirs.intermediate_values
            assert known.items() <= losses[ours.number].items(), ours
            if outcome.counts:
                assert known == losses[ours.number], ours
                assert theirs.value == ours.value == known[max(known)], ours

    def _check_chains(self) -> None:
        """Every epoch was trained with the state of the epoch before, of the same trial."""
        links: dict[int, int] = {}
        for row in self._service.rows(
            "SELECT reservation_id, seed, params, epoch, metrics FROM hpo.epochs JOIN hpo.trials USING (reservation_id)"
            " ORDER BY reservation_id, epoch"
        ):
            before = links.get(row.reservation_id, first_link(row.params, row.seed))
            links[row.reservation_id] = link(before, row.epoch)
            assert row.metrics["chain"] == links[row.reservation_id], f"trained with a wrong state: {row}"

    def _check_attempts(self) -> None:
        service = self._service
        late = service.rows("SELECT * FROM audit_late")
        assert late == [], "an attempt reported after it had been ended"
        unlike = service.rows(
            "SELECT t.reservation_id, t.outcome, t.lost, count(a.reservation_id) AS n FROM hpo.trials t"
            " JOIN hpo.studies s USING (study_id)"
            " LEFT JOIN hpo.attempts a ON a.reservation_id = t.reservation_id AND a.outcome IN ('lost', 'hung')"
            " GROUP BY t.reservation_id, s.study_id"
            " HAVING t.lost <> count(a.reservation_id)"
            " OR coalesce(t.outcome IN ('lost', 'hung'), false) <> (t.lost >= (s.spec->>'max_lost')::int)"
        )
        assert unlike == [], "a trial is failed when it was lost too often, and only then"

    def _check_leases(self) -> None:
        """A lease expires if its agent is dead, or was offline while others were not."""
        excused = [
            member.running.pid
            for member in self._members
            if member.killed or member.was_cut or member.unheard
        ]
        expired = self._service.rows(
            "SELECT a.attempt_id, a.started_at, a.ended_at, g.pid, g.seen_at FROM hpo.attempts a"
            " JOIN hpo.agents g USING (agent_id)"
            " WHERE a.outcome = 'lost' AND a.error = :e AND NOT g.pid = ANY(:p)",
            e=EXPIRED,
            p=excused,
        )
        assert expired == [], (
            "a lease was taken from a living agent that was offline together with all others"
        )

    def _check_resumed(self) -> None:
        """Every attempt resumed from the last saved epoch, and recorded that: see `trace.costs`."""
        for begun in self._service.rows(
            "SELECT seed, a.pid, a.resumed_from, max(e.epoch) AS kept FROM hpo.attempts a"
            " JOIN hpo.trials t USING (reservation_id)"
            " LEFT JOIN hpo.epochs e ON e.reservation_id = a.reservation_id AND e.attempt_id < a.attempt_id"
            " WHERE a.pid IS NOT NULL GROUP BY a.attempt_id, t.reservation_id"
        ):
            # An attempt that was killed before its objective began is in the database alone.
            noted = self._costs.resumed.get((begun.seed, begun.pid), begun.resumed_from)
            assert begun.resumed_from == noted, begun
            # Later epochs of earlier attempts were trained again, so their rows are deleted.
            assert begun.resumed_from >= (begun.kept or 0), begun

    def _taken(self) -> set[int]:
        """Return the trainers whose trials were taken while their agents were offline."""
        rows = self._service.rows(
            "SELECT a.pid FROM hpo.attempts a JOIN hpo.agents g USING (agent_id)"
            " WHERE a.outcome = 'lost' AND a.error = :e AND g.pid = ANY(:p)",
            e=EXPIRED,
            p=[member.running.pid for member in self._members if member.was_cut],
        )
        return {row.pid for row in rows}

    def _unrecorded(self, notes: list[trace.Note]) -> set[int]:
        """Return the trainers of prefetched trials that an idle agent took just before their slots were recorded.

        An agent starts the trainer first, and kills it when it learns that the trial was taken.
        """
        taken = self._service.rows(
            "SELECT DISTINCT seed FROM hpo.attempts a JOIN hpo.trials USING (reservation_id) WHERE a.error = :e",
            e=TAKEN,
        )
        seeds = {row.seed for row in taken}
        recorded = {
            row.pid for row in self._service.rows("SELECT pid FROM hpo.attempts WHERE pid IS NOT NULL")
        }
        return {note.pid for note in notes if note.seed in seeds and note.pid not in recorded}


def left_files(folder: Path, members: list[Member]) -> list[str]:
    """Return the files that a study has left in a home and its checkpoints.

    The log of a template stays if the template or its agent was killed: `hpo delete` removes it.
    """
    kept = {
        f"home/logs/template-s-{member.running.pid}.log"
        for member in members
        if member.killed or member.templates_killed or member.terminated
    }
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    return sorted(found - kept)
