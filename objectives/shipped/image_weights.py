"""Files of pretrained weights of `keras.applications`: your own, from Keras' cache, or downloaded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hpo.errors import DataMissingError
from objectives.data.datasets import CONNECT_SECONDS, connect_timeout

VARIABLE = "HPO_WEIGHTS"
"""Environment variable that names a file, or a folder of files named after their backbones."""
SUFFIXES = (".weights.h5", ".h5", ".keras")

_SERVER = "https://storage.googleapis.com/tensorflow/keras-applications"
IMAGENET = {
    "ConvNeXtTiny": (
        "convnext/convnext_tiny_notop.h5",
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
    "DenseNet121": (
        "densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "30ee3e1110167f948a6b9946edeeb738",
    ),
    "EfficientNetV2B0": (
        "efficientnet_v2/efficientnetv2-b0_notop.h5",
        "893217f2bb855e2983157299931e43ff",
    ),
    "MobileNetV3Large": (
        "mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "07fb09a5933dd0c8eaafa16978110389",
    ),
    "MobileNetV3Small": (
        "mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
        "d3e8ec802a04aa4fc771ee12a9a9b836",
    ),
    "ResNet50": (
        "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "4d473c1dd8becc155b73f8504c6f6626",
    ),
    "ResNet50V2": (
        "resnet/resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "fac2f116257151a9d068a22e544a4917",
    ),
    "Xception": (
        "xception/xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "b0042744bf5b25fce3cb969f33bebb97",
    ),
}
"""Backbones to the place and the digest of the file that Keras loads for them, without the classifier of ImageNet."""

_DIGITS = 12


@dataclass(frozen=True)
class Weights:
    """The weights with which a backbone begins."""

    path: Path | None
    """Path of the file; None: random weights."""
    reason: str = ""
    """Reason why there is no file."""
    foreign: bool = False
    """Whether the file has the name of one of Keras' and another content."""

    def describe(self) -> str:
        """Return the file's name and a digest of its content, equal on any host."""
        if self.path is None:
            return "random weights"
        return f"weights {self.path.name}, digest {_digest(self.path)[:_DIGITS]}"


def find(backbones: Sequence[str], source: str | None) -> dict[str, Weights]:
    """Return the weights of each backbone: none of `source` None, ImageNet's of "imagenet", else those of this file.

    For ImageNet's, `HPO_WEIGHTS` is searched, then Keras' cache; a file that is in neither is downloaded.

    Raises:
        DataMissingError: the file or folder that you name does not exist, or that of `source` lacks a backbone.
    """
    if source is None:
        return dict.fromkeys(backbones, Weights(None))
    if source != "imagenet":
        path = _existing(source, "weights")
        return {name: Weights(_given(path, name)) for name in backbones}
    named = os.environ.get(VARIABLE)
    folder = _existing(named, VARIABLE) if named else None
    found: dict[str, Weights] = {}
    offline = ""
    for name in backbones:
        own = _in(folder, name) if folder is not None else None
        found[name] = Weights(own) if own is not None else _of_keras(name, offline)
        offline = found[name].reason if name in IMAGENET else offline
    return found


def _existing(text: str, what: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise DataMissingError(
            f"{what} names {path}, which does not exist: name a file of weights, or its folder"
        )
    return path


def _given(path: Path, backbone: str) -> Path:
    found = _in(path, backbone)
    if found is None:
        raise DataMissingError(
            f"the folder of weights {path} has none of {backbone}: name their file {backbone}{SUFFIXES[0]}, or choose"
            " another backbone with --param backbone=NAME"
        )
    return found


def _in(path: Path, backbone: str) -> Path | None:
    """Return the backbone's file in a folder, by our name or by that of Keras, or the path if it is a file."""
    if path.is_file():
        return path
    names = [f"{backbone}{suffix}" for suffix in SUFFIXES]
    if backbone in IMAGENET:
        names.append(Path(IMAGENET[backbone][0]).name)
    return next((path / name for name in names if (path / name).is_file()), None)


def _of_keras(backbone: str, offline: str) -> Weights:
    if backbone not in IMAGENET:
        return Weights(None, f"only {', '.join(IMAGENET)} are downloaded")
    place, digest = IMAGENET[backbone]
    cached = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models" / Path(place).name
    if cached.is_file():
        return Weights(cached, foreign=_digest(cached, "sha256" if len(digest) == 64 else "md5") != digest)
    # Not again for each backbone: without network it can take half a minute.
    return Weights(None, offline) if offline else _downloaded(place, digest, cached)


def _downloaded(place: str, digest: str, target: Path) -> Weights:
    """Download a file of Keras' server, which appears in the cache only when it is complete."""
    import keras

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent) as folder, connect_timeout(CONNECT_SECONDS):
            file = keras.utils.get_file(
                target.name, f"{_SERVER}/{place}", cache_subdir=folder, file_hash=digest
            )
            Path(file).replace(target)
    except Exception as exc:  # noqa: BLE001 - Keras raises a bare Exception when a download fails
        return Weights(None, f"they cannot be downloaded ({' '.join(str(exc).split())})")
    return Weights(target)


def _digest(path: Path, algorithm: str = "sha256") -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
