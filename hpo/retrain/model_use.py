"""How a retrained model is loaded and called, with and without this package, as parts of its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpo import formatting
from hpo.document.document import Block, Code, Paragraph
from objectives.saved_model import NAME

_FITTED = {
    "crop": "image = ImageOps.fit(image, ({width}, {height}), Image.Resampling.BICUBIC)",
    "pad": "image = ImageOps.pad(image, ({width}, {height}), Image.Resampling.BICUBIC)",
    "stretch": "image = image.resize(({width}, {height}), Image.Resampling.BICUBIC)",
}
"""Lines of Pillow that fit an image as `objectives.images.decoding` does."""


def loading_lines(recorded: Mapping[str, Any]) -> list[str]:
    """Return the lines of Python that load the model of a run with these records; empty if plain Keras does."""
    lines = recorded.get("load_model")
    return [formatting.printable(str(line)) for line in lines] if isinstance(lines, list) else []


def use(metrics: Mapping[str, Any], run: Mapping[str, Any]) -> list[Block]:
    """Return how the model is loaded, its inputs and its outputs."""
    own, found = loading_lines(run), metrics.get("input")
    given: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    loading = own or ["import keras", f"model = keras.saving.load_model({NAME!r})"]
    shape = given.get("shape")
    image = given.get("image_fit") in _FITTED and isinstance(shape, list) and len(shape) == 3
    code = [*loading, *(_of_image(given, shape) if image and isinstance(shape, list) else [])]
    needs = (
        "It holds code of your own: load it where Python finds your files."
        if own
        else "Plain Keras loads it; this package is not needed."
    )
    blocks: list[Block] = [
        Paragraph(f"{needs} {_interface(metrics, given)}"),
        Code("\n".join(code), "python"),
    ]
    if image:
        blocks.append(
            Paragraph(
                "hpo predict decodes files exactly as training did, transparent and 16-bit ones included, which the"
                " lines above leave to Pillow:"
            )
        )
        blocks.append(Code(f"hpo predict --model .{_objective(metrics, own)} new.jpg folder/"))
    return blocks


def _objective(metrics: Mapping[str, Any], own: Sequence[str]) -> str:
    return f" --objective {metrics.get('objective')}" if own else ""


def _interface(metrics: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return a sentence on inputs and one on outputs."""
    classes = [str(name) for name in metrics.get("classes") or ()]
    count = len(classes)
    outputs = {
        "classes": f"a probability for each of {count} classes, in the order of their table",
        "labels": f"a probability for each of {count} labels, in the order of their table; more than 0.5 predicts it",
        "binary": f"the probability of {classes[-1] if classes else 'the second class'}",
        "regression": f"{formatting.counted(count, 'number')}: {', '.join(classes)}",
    }.get(str(metrics.get("task")))
    shape, dtype = given.get("shape"), given.get("dtype")
    if isinstance(shape, Mapping) and isinstance(dtype, Mapping):
        parts = [f"{name} {dtype.get(name)} of (n{_sides(sides)})" for name, sides in shape.items()]
        inputs = f"It takes arrays by name: {', '.join(parts)}."
    elif isinstance(shape, list):
        inputs = f"It takes {dtype} of (n{_sides(shape)})"
        inputs += (
            ", raw pixels from 0 to 255."
            if dtype == "uint8" and len(shape) == 3
            else ", as the data have them."
        )
    else:
        inputs = "It takes the arrays that its objective trained it on."
    returned = f" It returns {outputs}." if outputs else ""
    return (
        f"{inputs} All preprocessing is part of the model: scale nothing.{returned}"
        if given
        else inputs + returned
    )


def _sides(shape: Sequence[Any]) -> str:
    return "".join(f", {side}" for side in shape) or ","


def _of_image(given: Mapping[str, Any], shape: Sequence[int]) -> list[str]:
    """Return lines that predict one image file."""
    height, width, channels = shape
    mode = "L" if channels == 1 else "RGB"
    return [
        "",
        "import numpy",
        "from PIL import Image, ImageOps",
        f'image = ImageOps.exif_transpose(Image.open("new.jpg")).convert("{mode}")',
        _FITTED[given["image_fit"]].format(width=width, height=height),
        f'pixels = numpy.asarray(image, "uint8").reshape(1, {height}, {width}, {channels})',
        "print(model.predict(pixels))",
    ]
