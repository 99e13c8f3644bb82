"""The trace that trainers write, and a check that every attempt resumed where the previous one ended.

The database cannot show this, because an epoch that is trained again replaces the earlier one. So the objective
`Traced` writes where an attempt begins and every epoch it has trained, before that epoch is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path


@dataclass(frozen=True)
class Note:
    """A line of the trace, in the order of time."""

    seed: int
    """Seed of the trial, unique in the study."""
    pid: int
    """Process id of the trainer, unique among the attempts of a trial."""
    word: str
    """Kind of the note: `after` where an attempt begins, `trained` at the end of an epoch."""
    epoch: int


@dataclass
class Costs:
    """The cost of the interruptions of a study."""

    again: int = 0
    """Epochs trained more than once."""
    unsaved: int = 0
    """Epochs that an attempt trained and the next one did not find on disk, not saved ones included."""
    late: int = 0
    """Epochs trained for trials that others had taken: only an agent that can be reached is fenced."""
    contested: set[int] = field(default_factory=set)
    """Seeds of trials of which two trainers wrote checkpoints at the same time."""
    resumed: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """Epoch after which each attempt began, by seed and trainer."""


def read(path: Path) -> list[Note]:
    """Return all notes of a study."""
    lines = (line.split() for line in path.read_text().splitlines())
    return [Note(int(seed), int(pid), word, int(epoch)) for seed, pid, word, epoch in lines]


def costs(
    notes: Iterable[Note],
    cut_off: Container[int] = (),
    last_saved: Callable[[int, int], int] = lambda _seed, epoch: epoch,
    reopened: Collection[tuple[int, int]] = (),
) -> Costs:
    """Follow every trial from attempt to attempt; raises AssertionError if one resumes from a wrong epoch.

    `cut_off` holds the trainers whose trials were taken while their agents were offline: they continued to train.
    `last_saved` returns the last epoch up to a given one after which the trial of a seed saves its state.
    `reopened` holds seed and last trainer of trials that had ended and were reopened: the checkpoints of ended trials
    are deleted, so the next trainer, and no other one, may begin at epoch 1.

    Of the epochs saved, at most one is lost between two attempts, and only if the first of them was killed in the few
    milliseconds between the end of an epoch and the rename of its checkpoint: when epoch n is noted, the
    checkpoint of n - 1 is on disk. That is the exact bound for all ends of an attempt: its trainer or agent was killed,
    its host was lost, or its time after SIGTERM was over. Only a trainer that was not ended when another
    took its trial can cost more: it writes checkpoints too, and the later ones of its successor go with each.
    """
    trials: dict[int, _Trial] = {}
    resumed: dict[tuple[int, int], int] = {}
    trained = 0
    for note in notes:
        if note.seed not in trials:
            ended = {pid for seed, pid in reopened if seed == note.seed}
            trials[note.seed] = _Trial(partial(last_saved, note.seed), ended)
        trial = trials[note.seed]
        if note.word == "after":
            resumed[note.seed, note.pid] = note.epoch
            trial.begin(note, cut_off)
        else:
            trained += 1
            trial.train(note)
    return Costs(
        again=trained - sum(len(trial.trained) for trial in trials.values()),
        unsaved=sum(trial.unsaved for trial in trials.values()),
        late=sum(trial.late for trial in trials.values()),
        contested={seed for seed, trial in trials.items() if trial.late},
        resumed=resumed,
    )


class _Trial:
    """A trial that passes from trainer to trainer."""

    def __init__(self, last_saved: Callable[[int], int], ended: Container[int]) -> None:
        """`ended` holds the trainers after which the trial had ended, and was reopened."""
        self._last_saved = last_saved
        self._ended = ended
        self.trained: set[int] = set()
        self.unsaved = self.late = 0
        self._holder: int | None = None
        self._began = self._reached = 0
        # Epochs that others than the holder of that time have trained: their checkpoints may still be written.
        self._strange: list[int] = []

    def begin(self, note: Note, cut_off: Container[int]) -> None:
        least = max(self._began, self._last_saved(self._reached - 1))
        if self._holder in cut_off:
            # It may have gone on after its successor had looked for a checkpoint.
            least = self._began
        least, most = min([least, *self._strange]), max([self._reached, *self._strange])
        from_scratch = note.epoch == 0 and self._holder in self._ended
        assert note.epoch == self._last_saved(note.epoch), f"the state after epoch {note.epoch} was not saved"
        assert from_scratch or least <= note.epoch <= most, (
            f"the trial of seed {note.seed} went on after epoch {note.epoch} in process {note.pid}, and before it"
            f" process {self._holder} had trained epoch {self._reached}: only the last one saved may be lost"
        )
        self.unsaved += max(0, self._reached - note.epoch)
        self._holder, self._began, self._reached = note.pid, note.epoch, note.epoch

    def train(self, note: Note) -> None:
        self.trained.add(note.epoch)
        if note.pid == self._holder:
            assert note.epoch == self._reached + 1, f"{note} follows epoch {self._reached}"
            self._reached = note.epoch
        else:
            self.late += 1
            self._strange.append(note.epoch)
