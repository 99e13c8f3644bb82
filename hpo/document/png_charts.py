"""Charts as PNG files on a white background, drawn by matplotlib."""

from __future__ import annotations

import base64
import io
import warnings
from typing import TYPE_CHECKING, Any

from hpo.document.charts import BLUE, GREY, Axis, Bars, Chart, Matrix, Panel, Series, Surface
from hpo.document.document import Figure, Gallery
from hpo.document.parts import attempt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES = {"line": "-", "dashed": "--", "points": "none", "line and points": "-"}
_MARKERS = {"circle": "o", "cross": "x"}
_DPI = 120
_GALLERY_COLUMNS = 8
_CELL = 1.25
"""Width of an image of a gallery and its margin, in inches."""
_COLUMNS = 3
"""Panels side by side."""
_COLOURS = 128
"""Colours of a picture: a third of the bytes of a picture in full colour, and no visible difference."""
_SETTINGS: dict[Any, Any] = {
    # Names from a study may contain a dollar sign, which would start a formula.
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
}


def draw_png(figure: Figure) -> bytes:
    """Draw a figure with all its panels, or a notice if it cannot be drawn."""
    return attempt(f"Picture {figure.key}.png", lambda: _figure(figure), _notice)


def _notice(text: str) -> bytes:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(8.5, 0.6))
    canvas.text(0.02, 0.4, text[:120], fontsize=9, color=GREY, parse_math=False)
    return _png(canvas)


def _figure(figure: Figure) -> bytes:
    # Without pyplot there is no global state, and no display is needed.
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    count = len(figure.panels)
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    width = {1: 8.5, 2: 5.2}.get(columns, 4.0) * columns
    with matplotlib.rc_context(_SETTINGS):
        canvas = Canvas(figsize=(width, _height(figure) * rows), layout="constrained")
        grid = canvas.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, figure.panels, strict=False):
            _draw(axes, panel)
        for axes in grid.flat[count:]:
            axes.set_axis_off()
        _legend(canvas, grid.flat[0])
        return _png(canvas)


def draw_gallery(gallery: Gallery) -> bytes:
    """Draw small images with their captions as one picture, or a notice if one of them is not an image."""
    return attempt(f"Picture {gallery.key}.png", lambda: _gallery(gallery), _notice)


def _gallery(gallery: Gallery) -> bytes:
    """Draw all images into one pair of axes in inches; a pair for each takes ten times as long."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas
    from PIL import Image

    captions = [picture.caption.replace(", ", "\n") for picture in gallery.pictures]
    text = 0.1 + 0.12 * max((1 + caption.count("\n") for caption in captions), default=0)
    rows = -(-len(captions) // _GALLERY_COLUMNS)
    width, height = _CELL * _GALLERY_COLUMNS, (_CELL + text) * rows
    with rc_context({"text.parse_math": False}):
        canvas = Canvas(figsize=(width, height))
        axes = canvas.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0.0, width), ylim=(height, 0.0))
        axes.set_axis_off()
        for index, (picture, caption) in enumerate(zip(gallery.pictures, captions, strict=True)):
            image = Image.open(io.BytesIO(base64.b64decode(picture.png))).convert("RGB")
            scale = 0.92 * _CELL / max(image.size)
            x = (index % _GALLERY_COLUMNS + 0.5) * _CELL
            y = index // _GALLERY_COLUMNS * (_CELL + text) + text
            half, below = scale * image.width / 2, y + scale * image.height
            axes.imshow(image, interpolation="nearest", extent=(x - half, x + half, below, y))
            axes.text(x, y - 0.04, caption, fontsize=7, ha="center", va="bottom")
        axes.set(xlim=(0.0, width), ylim=(height, 0.0))
        return _png(canvas)


def _png(canvas: Any) -> bytes:
    """Return the canvas as a PNG file of few colours; the same canvas always gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas.set_dpi(_DPI)
    drawn: Any = FigureCanvasAgg(canvas)
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Names in other scripts: the HTML page shows them in the fonts of the reader.
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        drawn.draw()
    picture = Image.frombytes("RGBA", drawn.get_width_height(), drawn.buffer_rgba()).convert("RGB")
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(file, format="png", optimize=True)
    return file.getvalue()


def _legend(canvas: Any, axes: Axes) -> None:
    """Add one legend for all panels, whose series have the same names."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        canvas.legend(
            handles, labels, loc="outside lower center", ncols=min(len(handles), 6), frameon=False, fontsize=8
        )


def _height(figure: Figure) -> float:
    """Return the height of a row of panels in inches."""
    bars = [len(panel.names) for panel in figure.panels if isinstance(panel, Bars)]
    if bars:
        return max(1.6, 0.8 + 0.32 * max(bars))
    return figure.height / 100 if len(figure.panels) == 1 else 3.1


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title)
    match panel:
        case Chart():
            _chart(axes, panel)
        case Bars():
            _bars(axes, panel)
        case Matrix():
            _matrix(axes, panel)
        case Surface():
            raise ValueError("a surface is drawn on HTML pages only")


def _chart(axes: Axes, chart: Chart) -> None:
    axes.grid(True, color="#e3e6ea", linewidth=0.6)
    axes.set_axisbelow(True)
    for series in chart.series:
        _series(axes, series)
    x, y = chart.axes_with_ticks()
    _axis(axes, x, "x")
    _axis(axes, y, "y")


def _series(axes: Axes, series: Series) -> None:
    import numpy as np

    x, y = series.coordinates()
    points = series.style in ("points", "line and points")
    axes.plot(
        np.array(x, dtype=float),
        np.array(y, dtype=float),
        linestyle=_LINES[series.style],
        linewidth=0.75 * series.width,
        marker=_MARKERS[series.marker] if points else "none",
        markersize=2.2 * series.width,
        color=series.colour,
        alpha=series.opacity,
        label=series.name if series.legend else "_",
    )


def _bars(axes: Axes, bars: Bars) -> None:
    places = list(range(len(bars.names)))
    drawn = axes.barh(places, list(bars.values), color=list(bars.colours) or BLUE, height=0.65)
    axes.bar_label(drawn, fmt="%.2f", padding=3, fontsize=8)
    axes.set_yticks(places, list(bars.names))
    axes.invert_yaxis()
    _axis(axes, bars.x, "x")


def _matrix(axes: Axes, matrix: Matrix) -> None:
    axes.imshow([list(row) for row in matrix.shades], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(matrix.columns)), list(matrix.columns), rotation=45, ha="right")
    axes.set_yticks(range(len(matrix.rows)), list(matrix.rows))
    axes.set_xlabel(matrix.x.title)
    axes.set_ylabel(matrix.y.title)
    if len(matrix.columns) > 25:
        return
    for row, texts in enumerate(matrix.texts):
        for column, text in enumerate(texts):
            colour = "white" if matrix.shades[row][column] > 0.6 else "#1f2328"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)


def _axis(axes: Axes, axis: Axis, which: str) -> None:
    axes.set(**{f"{which}label": axis.title, f"{which}scale": "log" if axis.log else "linear"})
    side = axes.xaxis if which == "x" else axes.yaxis
    if axis.log:
        from matplotlib.ticker import FuncFormatter, NullFormatter

        # The default labels are formulas, which are disabled.
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        side.set_minor_formatter(NullFormatter())
    if axis.ticks:
        side.set_ticks([place for place, _ in axis.ticks], [label for _, label in axis.ticks])
        side.minorticks_off()
    if axis.bounds is not None:
        axes.set(**{f"{which}lim": axis.bounds})
