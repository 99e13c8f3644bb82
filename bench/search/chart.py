"""Draw the replays as curves of regret: `python -m bench.search.chart` reads `search.json`.

It writes `search_trainings.png` and `search_minutes.png` next to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from bench.report import RESULTS
from hpo.document.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Axis, Chart, Point, Series
from hpo.document.document import Figure
from hpo.document.png_charts import draw_png

Course = Mapping[str, Sequence[float]]

COLOURS = {
    "freeze-thaw model": BLUE,
    "tpe+median": ORANGE,
    "tpe": GREY,
    "tpe+hyperband": PURPLE,
    "ray asha": GREEN,
    "keras-tuner hyperband": RED,
}
"""Contestants of the chart; all eleven in one chart would be hard to distinguish."""
LEAST = 1e-4
"""Regret shown in place of a smaller one, which a logarithmic axis cannot show."""


SHOWN = (4, 16, 64)
"""Numbers of workers with a panel, side by side."""

Unit = Literal["trainings", "minutes"]
LABELS: Mapping[Unit, str] = {
    "trainings": "epochs, in trainings of all epochs",
    "minutes": "simulated minutes",
}


def charts(courses: Mapping[str, Mapping[str, Course]], unit: Unit) -> list[Chart]:
    """Return a chart for each table and number of workers."""
    titles = {title: title.split(", partial")[0] for title in courses}
    return [
        _chart(titles[title], found, unit)
        for title, found in courses.items()
        if titles[title].endswith(tuple(f", {count} workers" for count in SHOWN))
    ]


def _chart(title: str, found: Mapping[str, Course], unit: Unit) -> Chart:
    series = [
        Series(name=name, points=_points(found[name], unit), colour=colour)
        for name, colour in COLOURS.items()
        if name in found
    ]
    return Chart(title, Axis(LABELS[unit], log=True), Axis("regret, points", log=True), series)


def _points(course: Course, unit: Unit) -> list[Point]:
    regrets = [100 * max(LEAST, regret) for regret in course["regrets"]]
    places = range(1, len(regrets) + 1) if unit == "trainings" else course["minutes"]
    return [Point(x, y) for x, y in zip(places, regrets, strict=True)]


def draw(results: Path = RESULTS) -> list[Path]:
    """Draw the results in a folder and return the paths of both pictures."""
    courses = json.loads((results / "search.json").read_text())["raw"]
    paths = {unit: results / f"search_{unit}.png" for unit in LABELS}
    for unit, path in paths.items():
        figure = Figure(
            path.stem, "Regret of the best configuration, medians over seeds", charts(courses, unit)
        )
        path.write_bytes(draw_png(figure))
    return list(paths.values())


if __name__ == "__main__":
    print(*draw(), sep="\n")
