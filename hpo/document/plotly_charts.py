"""Charts as Plotly JSON, drawn by the browser.

The page sets the colours of text, grid and background, because it knows the theme. Parallel coordinates are
lines of an ordinary chart, because Plotly's own type needs WebGL.
"""

from __future__ import annotations

import json
from math import log10
from typing import Any

from hpo.document.charts import BLUE, Axis, Bars, Chart, Matrix, Panel, Series, Surface, with_ticks
from hpo.formatting import printable

_SHADES = [[0, "rgba(59,130,196,0.03)"], [1, "rgba(59,130,196,0.95)"]]
_VIRIDIS = "Viridis"
_MODES = {"line": "lines", "dashed": "lines", "points": "markers", "line and points": "lines+markers"}
_SYMBOLS = {"circle": "circle", "cross": "x"}


def figure_json(panel: Panel, height: int) -> dict[str, Any]:
    """Return `data` and `layout` of one panel."""
    match panel:
        case Chart():
            data, layout = _chart(panel)
        case Bars():
            data, layout = _bars(panel)
            height = max(160, 80 + 34 * len(panel.names))
        case Matrix():
            data, layout = _matrix(panel)
        case Surface():
            data, layout = _surface(panel)
    layout |= {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 12, "b": 8},
        # Below the plot it would cover the axis title.
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
    }
    return {"data": data, "layout": layout}


def script_json(value: Any) -> str:
    """Return JSON that cannot end the `script` element that contains it."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _chart(chart: Chart) -> tuple[list[Any], dict[str, Any]]:
    data = [_trace(series) for series in chart.series]
    shown = sum(series.legend for series in chart.series) > 1
    x, y = chart.axes_with_ticks()
    return data, {"xaxis": _axis(x), "yaxis": _axis(y), "showlegend": shown}


def _trace(series: Series) -> dict[str, Any]:
    x, y = ([_short(value) for value in values] for values in series.coordinates())
    labels = [_plain(point.label) for point in series.points]
    return {
        "type": "scatter",
        "mode": _MODES[series.style],
        "name": _plain(series.name),
        "x": x,
        "y": y,
        "line": {
            "color": series.colour,
            "width": series.width,
            "dash": "dash" if series.style == "dashed" else "solid",
        },
        "marker": {
            "color": series.colour,
            "size": 3 * series.width,
            "symbol": _SYMBOLS[series.marker],
            "line": {"width": 0},
        },
        "opacity": series.opacity,
        "showlegend": series.legend,
        "connectgaps": False,
        **({"text": labels, "hovertemplate": "%{text}<extra></extra>"} if any(labels) else {}),
    }


def _bars(bars: Bars) -> tuple[list[Any], dict[str, Any]]:
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": list(bars.values),
        "y": [_plain(name) for name in bars.names],
        "marker": {"color": list(bars.colours) or BLUE},
        "text": [f"{value:.2f}" for value in bars.values],
        "textposition": "auto",
        "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
    }
    return [trace], {
        "xaxis": _axis(bars.x),
        "yaxis": {"autorange": "reversed", "automargin": True, "ticksuffix": " "},
        "showlegend": False,
    }


def _matrix(matrix: Matrix) -> tuple[list[Any], dict[str, Any]]:
    trace = {
        "type": "heatmap",
        "x": [_plain(name) for name in matrix.columns],
        "y": [_plain(name) for name in matrix.rows],
        "z": [list(row) for row in matrix.shades],
        "text": [[_plain(text) for text in row] for row in matrix.texts],
        "texttemplate": "%{text}" if len(matrix.columns) <= 25 else "",
        "zmin": 0,
        "zmax": 1,
        "colorscale": _SHADES,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": "%{y} → %{x}: %{text}<extra></extra>",
    }
    category = {"type": "category", "automargin": True, "showgrid": False}
    return [trace], {
        "xaxis": category | {"title": {"text": _plain(matrix.x.title)}},
        "yaxis": category | {"title": {"text": _plain(matrix.y.title)}, "autorange": "reversed"},
        "showlegend": False,
    }


def _surface(surface: Surface) -> tuple[list[Any], dict[str, Any]]:
    known = [value for row in surface.grid for value in row if value is not None] + list(surface.values)
    low, high = min(known), max(known)
    contour = {
        "type": "contour",
        "x": list(surface.grid_x),
        "y": list(surface.grid_y),
        "z": [list(row) for row in surface.grid],
        "zmin": low,
        "zmax": high,
        "colorscale": _VIRIDIS,
        "opacity": 0.75,
        "contours": {"coloring": "heatmap"},
        "line": {"width": 0},
        "colorbar": {"title": {"text": _plain(surface.value_title), "side": "right"}, "thickness": 12},
        "hoverinfo": "skip",
    }
    points = _trace(surface.points) | {"showlegend": False}
    points["marker"] = {
        "color": list(surface.values),
        "cmin": low,
        "cmax": high,
        "colorscale": _VIRIDIS,
        "size": 9,
        "line": {"width": 1.5, "color": "#ffffff"},
    }
    x, y = with_ticks(surface.x, surface.grid_x), with_ticks(surface.y, surface.grid_y)
    return [contour, points], {"xaxis": _axis(x), "yaxis": _axis(y), "showlegend": False}


def _axis(axis: Axis) -> dict[str, Any]:
    found: dict[str, Any] = {"title": {"text": _plain(axis.title)}, "automargin": True}
    if axis.log:
        found["type"] = "log"
    if axis.ticks:
        found |= {
            "tickmode": "array",
            "tickvals": [place for place, _ in axis.ticks],
            "ticktext": [_plain(label) for _, label in axis.ticks],
            # A long last label that slants down to the right would leave the chart, and is not drawn then.
            "autotickangles": [0, -30, -90],
        }
    if axis.bounds is not None:
        low, high = axis.bounds
        found["range"] = [log10(low), log10(high)] if axis.log else [low, high]
    return found


def _short(value: float | None) -> float | None:
    """Round to more digits than a chart can show: the others would be half of a page's charts."""
    return None if value is None else float(f"{value:.8g}")


def _plain(text: str) -> str:
    """Escape text, because Plotly interprets a few HTML tags."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
