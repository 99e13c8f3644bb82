"""Weights & Biases: one group for each study, one run for each trial, online or in offline files.

A point of W&B cannot be replaced, so an epoch that is trained again keeps the one it has, and the run's configuration
names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import wandb

from hpo.trackers.runs import Logged, News, Run
from hpo.trackers.tracker import LoggedFiles, TrackedStudy, draw_confusion, facts

PROJECT = "hpo"
"""Project of runs where the user names none."""

LOGGED = "hpo_logged"
"""Key of a run's configuration with the part that it has."""


class WeightsAndBiases:
    """Runs of one study in a project."""

    def __init__(self, address: str, study: TrackedStudy) -> None:
        """`address` is `project` or `entity/project`; empty: those of the environment."""
        entity, _, project = address.rpartition("/")
        own = wandb.setup().settings
        self._study = study
        self._entity = entity or own.entity
        self._project = project or own.project or PROJECT
        self._online = own.mode in ("online", "shared")
        self._folder = Path(own.root_dir).absolute()
        self._parts = LoggedFiles(self._folder / "wandb")
        place = f"{self._entity}/{self._project}" if self._online else self._parts.identity
        self.identity = f"wandb {place} {study.uid}"
        self._settings = wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True
        )
        self._runs: dict[str, Any] = {}

    def logged(self) -> dict[str, Logged]:
        # A run may have been logged from another host.
        return {**(self._of_server() if self._online else {}), **self._parts.read(self._study)}

    def write(self, news: News) -> None:
        run = news.run
        opened = self._runs.get(run.key)
        if opened is None:
            opened = self._runs[run.key] = self._open(run)
        for epoch in news.unseen:
            opened.log({**epoch.metrics, "_timestamp": epoch.at}, step=epoch.epoch)
        opened.config.update(
            {**_config(run), "hpo": dict(facts(news)), LOGGED: news.after.to_json()}, allow_val_change=True
        )
        if run.ended_at is not None:
            for name, value in run.results.items():
                opened.summary[name] = value
            self._log_artefacts(opened, run)
            opened.finish(exit_code=1 if run.failed else 0)
            del self._runs[run.key]
        self._parts.save(run.key, news.after)

    def close(self) -> None:
        runs, self._runs = self._runs, {}
        for opened in runs.values():
            # One that fails must not keep the others from being continued.
            with suppress(Exception):
                opened.finish()

    def _of_server(self) -> dict[str, Logged]:
        path = f"{self._entity}/{self._project}" if self._entity else self._project
        try:
            runs = list(wandb.Api().runs(path, filters={"group": self._group}))
        except ValueError:
            # The project does not exist yet.
            return {}
        return {run.id: Logged.from_json(run.config.get(LOGGED, "")) for run in runs}

    @property
    def _group(self) -> str:
        return f"{self._study.name}@{self._study.uid}"

    def _open(self, run: Run) -> Any:
        return wandb.init(
            entity=self._entity,
            project=self._project,
            group=self._group,
            job_type=run.name.partition("-")[0],
            id=run.key,
            name=f"{run.group} {run.name}",
            resume="allow",
            tags=list(run.tags),
            dir=str(self._folder),
            reinit="create_new",
            settings=self._settings,
        )

    def _log_artefacts(self, opened: Any, run: Run) -> None:
        if run.confusion is not None:
            picture = Path(opened.dir) / "confusion_matrix.png"
            picture.write_bytes(draw_confusion(run.confusion))
            opened.log({"confusion_matrix": wandb.Image(str(picture))})
        if run.files:
            artefact = wandb.Artifact(run.key, type="model")
            for path in run.files:
                artefact.add_file(path)
            opened.log_artifact(artefact)


def _config(run: Run) -> Mapping[str, Any]:
    """Return the parameters, those with a name of ours under another."""
    return {f"param_{name}" if name in ("hpo", LOGGED) else name: value for name, value in run.params.items()}
