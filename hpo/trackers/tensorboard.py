"""TensorBoard: event files in a folder, one subfolder for each run, with parameters for its HPARAMS tab.

A run that is continued gets another file. Points of a step in a later file replace those in earlier ones, so that
epochs that were undone disappear.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import api_pb2, event_pb2, plugin_hparams_pb2
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

from hpo.trackers.runs import Logged, News, Run
from hpo.trackers.tracker import LoggedFiles, TrackedStudy, draw_confusion, facts, shown


class TensorBoard:
    """Event files of one study."""

    def __init__(self, folder: Path, study: TrackedStudy) -> None:
        self._study = study
        # A study that was renamed keeps its folder.
        known = sorted(folder.glob(f"*@{study.uid}"))
        self._folder = known[0] if known else folder / f"{study.name}@{study.uid}"
        self._parts = LoggedFiles(self._folder)
        self.identity = f"tensorboard {self._parts.identity}"
        self._files: dict[str, EventsWriter] = {}

    def logged(self) -> dict[str, Logged]:
        # A run whose folder the user has deleted is written again.
        return {key: part for key, part in self._parts.read(self._study).items() if self._of(key).is_dir()}

    def write(self, news: News) -> None:
        run = news.run
        if news.rewound or run.key not in self._files:
            self._open(run, news.kept + 1)
        events = self._files[run.key]
        if _names_params(news, self._study):
            _add(events, _start_info(run), run.began_at)
        for epoch in news.epochs:
            _add(events, _scalars(epoch.metrics), epoch.at, epoch.epoch)
        if run.ended_at is not None:
            last = run.epochs[-1].epoch if run.epochs else 0
            _add(events, _scalars(run.results), run.ended_at, last)
            text = "\n".join(f"* {name}: {shown(value)}" for name, value in facts(news).items())
            _add(events, summary.text("hpo", text), run.ended_at, last)
            self._add_artefacts(run, events)
            _add(events, _end_info(run), run.ended_at)
            self._files.pop(run.key).close()
        else:
            events.flush()
        self._parts.save(run.key, news.after)

    def close(self) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def _of(self, key: str) -> Path:
        return self._folder / key.removeprefix(f"{self._study.uid}-")

    def _open(self, run: Run, first: int) -> None:
        """Open another file of a run, which replaces the steps of earlier ones from `first` on."""
        earlier = self._files.pop(run.key, None)
        if earlier is not None:
            earlier.close()
        folder = self._of(run.key)
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files in the order of their names, which hold the second.
        suffix = f".{time.time_ns() % 10**9:09d}.hpo"
        events = self._files[run.key] = EventsWriter(str(folder / "events"), suffix)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        events.write_event(event_pb2.Event(wall_time=run.began_at, step=first, session_log=start))

    def _add_artefacts(self, run: Run, events: EventsWriter) -> None:
        folder = self._of(run.key)
        if run.confusion is not None:
            picture = folder / "confusion_matrix.png"
            picture.write_bytes(draw_confusion(run.confusion))
            _add(events, _image("confusion_matrix", picture), run.ended_at or 0.0)
        for path in run.files:
            shutil.copy(path, folder)


def _names_params(news: News, study: TrackedStudy) -> bool:
    """Whether the parameters are written now: once, because TensorBoard keeps the first ones."""
    if study.open_space:
        return news.run.ended_at is not None
    return news.first


def _add(events: EventsWriter, content: Summary, at: float, step: int = 0) -> None:
    events.write_event(event_pb2.Event(wall_time=at, step=step, summary=content))


def _scalars(metrics: Mapping[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()])


def _image(tag: str, path: Path) -> Summary:
    image = Summary.Image(encoded_image_string=path.read_bytes())
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def _start_info(run: Run) -> Summary:
    info = plugin_hparams_pb2.SessionStartInfo(start_time_secs=run.began_at)
    for name, value in {**run.params, **{f"hpo.{name}": value for name, value in run.about.items()}}.items():
        # Numbers and truth values keep their types, by which the tab sorts and filters.
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, int | float) and math.isfinite(value):
            info.hparams[name].number_value = value
        else:
            info.hparams[name].string_value = shown(value)
    return _hparams("session_start_info", session_start_info=info)


def _end_info(run: Run) -> Summary:
    status = api_pb2.Status.Value("STATUS_FAILURE" if run.failed else "STATUS_SUCCESS")
    info = plugin_hparams_pb2.SessionEndInfo(status=status, end_time_secs=run.ended_at)
    return _hparams("session_end_info", session_end_info=info)


def _hparams(tag: str, **content: Any) -> Summary:
    data = plugin_hparams_pb2.HParamsPluginData(version=0, **content).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data)
    return Summary(
        value=[Summary.Value(tag=f"_hparams_/{tag}", metadata=SummaryMetadata(plugin_data=plugin))]
    )
