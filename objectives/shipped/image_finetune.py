"""`image-finetune`: a pretrained network of `keras.applications`, tuned on images of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from optuna.distributions import CategoricalDistribution, FloatDistribution

from objectives.base import DataOptions, Params
from objectives.data.splits import Data
from objectives.shipped import image_weights
from objectives.shipped.image_objective import ImageObjective
from objectives.spaces.space import stored_space

if TYPE_CHECKING:
    import keras


class ImageFinetune(ImageObjective):
    """A pretrained network of keras.applications, tuned on images of your own.

    At first only its new last layer is trained, then all of it, the backbone at a lower rate. Without pretrained
    weights all of it is trained from the first step.
    """

    epochs = 10
    space = {
        "backbone": CategoricalDistribution(["MobileNetV3Small", "EfficientNetV2B0"]),
        "batch_size": CategoricalDistribution([16, 32, 64]),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "backbone_rate": FloatDistribution(1e-2, 1.0, log=True),
        "frozen_share": FloatDistribution(0.0, 0.5),
        "dropout": FloatDistribution(0.0, 0.6),
        "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
    }
    first = [
        {
            "backbone": "MobileNetV3Small",
            "batch_size": 32,
            "optimizer": "adam",
            "learning_rate": 2e-3,
            "backbone_rate": 0.1,
            "frozen_share": 0.2,
            "dropout": 0.2,
            "weight_decay": 1e-3,
        },
    ]

    backbone: ClassVar[str] = "MobileNetV3Small"
    """Name of a class of `keras.applications`, if the space has no such parameter."""
    weights: ClassVar[str | None] = "imagenet"
    """Pretrained weights: "imagenet", a file, a folder of files named after their backbones, or None."""

    _weights: dict[str, image_weights.Weights] | None = None
    _pretrained = False

    @classmethod
    def takes_folds(cls) -> bool:
        """Return whether a subclass trains by the loop of this class, and on data that this class loads."""
        return cls.train is ImageFinetune.train and cls.prepare is ImageFinetune.prepare

    def prepare(self, options: DataOptions, final: bool) -> None:
        """Load the data, and find the weights of all backbones that are searched; see `image_weights.find`."""
        super().prepare(options, final)
        space = self.study_space if self.study_space is not None else stored_space(self.space)
        searched = space.get("backbone")
        names = searched.choices if isinstance(searched, CategoricalDistribution) else (self.backbone,)
        self._weights = image_weights.find([str(name) for name in names], self.weights)

    def describe_data(self) -> str:
        """Return source, number and digest of the images, and the weights with which the backbones begin."""
        found = [f"{name}: {one.describe()}" for name, one in (self._weights or {}).items()]
        return "; ".join(filter(None, [super().describe_data(), *found]))

    def data_warning(self) -> str:
        """Return a line on the backbones without pretrained weights, after that on the data."""
        absent = {name: one for name, one in (self._weights or {}).items() if one.reason}
        lines = [super().data_warning()]
        if absent:
            reasons = ", ".join(dict.fromkeys(one.reason for one in absent.values()))
            lines.append(
                f"there are no pretrained weights of {' and '.join(absent)} on this host ({reasons}), so training"
                f" begins with random ones: put a file of them into a folder and set {image_weights.VARIABLE} to it"
            )
        lines += [
            f"the weights of {name} in {one.path} are not the ones that Keras offers: remove the file to download those"
            for name, one in (self._weights or {}).items()
            if one.foreign
        ]
        return "; ".join(filter(None, lines))

    def build(self, params: Params, data: Data) -> keras.Model:
        from objectives.shipped.image_backbone import network

        name = str(params.get("backbone", self.backbone))
        if self._weights is None or name not in self._weights:
            self._weights = (self._weights or {}) | image_weights.find([name], self.weights)
        path = self._weights[name].path
        self._pretrained = path is not None
        return network(name, path, data, params["dropout"])

    def optimizer(self, params: Params, steps: int) -> keras.optimizers.Optimizer:
        """Return the optimizer of other objectives, in which a pretrained backbone has a rate of its own."""
        made = super().optimizer(params, steps)
        if not self._pretrained:
            return made
        from objectives.shipped.image_backbone import HEAD
        from objectives.shipped.image_optimizer import slowed

        frozen = round(float(params.get("frozen_share", 0.0)) * steps)
        return slowed(made, HEAD, frozen, float(params.get("backbone_rate", 1.0)))
