"""Charts are valid for Plotly and drawable by matplotlib, also with special characters in names."""

from __future__ import annotations

import io
import math

import plotly.graph_objects as go
import pytest
from PIL import Image

from hpo.document.charts import Axis, Bars, Chart, Matrix, Panel, Point, Series, Surface, colour_of
from hpo.document.document import Document, Figure, Gallery, Picture, Section
from hpo.document.html import render_page
from hpo.document.plotly_charts import figure_json, script_json
from hpo.document.png_charts import draw_gallery, draw_png

NAME = "$x_1$ <b>&"
PANELS: dict[str, Panel] = {
    "chart": Chart(
        NAME,
        Axis(NAME, log=True),
        Axis("y", bounds=(0.0, 1.0)),
        [
            Series(name=NAME, points=[Point(1.0, 0.1, NAME), Point(), Point(10.0, 0.9, NAME)]),
            Series(name="points", points=[Point(2.0, 0.5)], style="points", marker="cross"),
            Series(name="dashed", points=[Point(1.0, 0.2), Point(9.0, 0.3)], style="dashed", legend=False),
        ],
    ),
    "ticks": Chart(
        "",
        Axis(ticks=[(0.0, NAME), (1.0, "b")]),
        Axis(),
        [Series(name="one", points=[Point(0.0, 1.0)], style="points")],
    ),
    "bars": Bars("", [NAME, "b"], [0.7, 0.3]),
    "matrix": Matrix(
        title="",
        rows=[NAME, "b"],
        columns=[NAME, "b"],
        shades=[[1.0, 0.0], [0.2, 0.8]],
        texts=[["9", ""], ["1", "4"]],
    ),
}
SURFACES: dict[str, Panel] = {
    "surface": Surface(
        title="",
        x=Axis("x", log=True),
        y=Axis("y"),
        points=Series(name="p", points=[Point(1.0, 0.1), Point(5.0, 0.2)], style="points"),
        values=[0.3, 0.4],
        value_title="value",
        grid_x=[1.0, 2.0, 5.0],
        grid_y=[0.1, 0.2],
        grid=[[0.3, None, 0.4], [0.3, 0.35, 0.4]],
    ),
    "empty grid": Surface(
        title="",
        x=Axis(),
        y=Axis(),
        points=Series(name="p", points=[Point(1.0, 0.1)], style="points"),
        values=[0.3],
        value_title="v",
        grid_x=[1.0, 2.0],
        grid_y=[0.1, 0.2],
        grid=[[None] * 2] * 2,
    ),
}


@pytest.mark.parametrize("panel", [*PANELS.values(), *SURFACES.values()], ids=[*PANELS, *SURFACES])
def test_plotly_accepts_every_attribute(panel: Panel) -> None:
    drawn = go.Figure(figure_json(panel, 300))
    assert drawn.layout.height is not None
    assert len(drawn.data) > 0


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_png_of_each_panel(panel: Panel) -> None:
    content = draw_png(Figure("key", "caption", [panel]))
    picture = Image.open(io.BytesIO(content))
    assert picture.size[0] > 500
    assert picture.mode == "P", "a palette makes the file small"
    # More colours than the white background.
    colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 5
    assert content == draw_png(Figure("key", "caption", [panel]))


def test_panels_are_drawn_side_by_side() -> None:
    panels = [PANELS["chart"], PANELS["bars"], PANELS["matrix"], PANELS["ticks"]]
    wide, one = (Image.open(io.BytesIO(draw_png(Figure("k", "c", some)))) for some in (panels, panels[:1]))
    assert wide.size[0] > one.size[0]


def test_json_cannot_end_its_script_element() -> None:
    assert "<" not in script_json({"name": "</script><!--"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(float("nan"))


def test_names_are_escaped_for_plotly() -> None:
    shown = figure_json(PANELS["bars"], 300)
    assert shown["data"][0]["y"][0] == "$x_1$ &lt;b&gt;&amp;"


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.249, 0.81], ["0.3", "0.5", "0.8"]),
        ([0.31, 0.39], ["0.31", "0.39"]),
        ([0.08, 0.81], ["0.1", "0.2", "0.5"]),
        ([1.5, 2e3], ["10", "100", "1000"]),
        ([0.05, 20.0], ["0.1", "1", "10"]),
        ([2e-5, 0.3], ["1e-4", "1e-3", "1e-2", "1e-1"]),
        ([1e-150, 1e150], ["1e-150", "1e54"]),
        ([3.0, 4.0], ["3", "4"]),
        ([7.0, 7.0], ["7"]),
        ([0.0, 0.3, 0.9], ["0.3", "0.4", "0.9"]),
        ([], None),
    ],
)
def test_logarithmic_axis_has_ticks(values: list[float], ticks: list[str] | None) -> None:
    series = [Series(name="s", points=[Point(1.0, value) for value in values])]
    axis = figure_json(Chart("", Axis(), Axis("y", log=True), series), 300)["layout"]["yaxis"]
    assert axis["type"] == "log"
    if ticks is None:
        assert "ticktext" not in axis
    else:
        assert set(ticks) <= set(axis["ticktext"])
        assert 1 < len(axis["ticktext"]) <= 7 or len(set(values)) == 1
    assert draw_png(Figure("f", "", [Chart("", Axis(), Axis("y", log=True), series)])).startswith(b"\x89PNG")


@pytest.mark.parametrize("largest", [1e308, -1.7e308, 1e200, math.inf, math.nan])
def test_value_that_is_too_large_is_not_drawn(largest: float) -> None:
    series = Series(name="s", points=[Point(1, 0.5), Point(2, largest), Point(3, 1e149)])
    assert series.coordinates()[1] == [0.5, None, 1e149]
    assert draw_png(Figure("f", "", [Chart("", Axis(), Axis(), [series])])).startswith(b"\x89PNG")


def test_figure_that_cannot_be_drawn_does_not_cost_the_document() -> None:
    bars = Bars("", ["a"], ["no number"])  # type: ignore[list-item]
    assert draw_png(Figure("f", "", [bars])).startswith(b"\x89PNG")
    assert draw_gallery(Gallery("g", "", [Picture("bm90IGFuIGltYWdl", "a")])).startswith(b"\x89PNG")
    page = render_page(Document("t", "", [Section("s", [Figure("f", "caption", [bars])])]))
    assert "A chart of f is left out (ValueError: " in page
    assert "caption" in page


def test_names_in_other_scripts_are_drawn_without_warnings(recwarn):
    figure = Figure("key", "caption", [Bars("猫", ["می\u200cخواهم", "\U0001f408"], [0.7, 0.3])])
    assert Image.open(io.BytesIO(draw_png(figure))).format == "PNG"
    assert [str(warning.message) for warning in recwarn] == []


def test_ten_classes_get_ten_colours() -> None:
    assert len({colour_of(index) for index in range(10)}) == 10
