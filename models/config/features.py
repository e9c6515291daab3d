"""Settings of the feature extractor."""

from dataclasses import dataclass, field
from typing import Annotated

from models.checks import check_at_least, check_sizes, suggest

from .columns import ColumnsConfig, RowsConfig
from .layers import HiddenConfig
from .limits import AtLeast, Fraction, OneOf, Text

HEADS = ("softmax", "sigmoid", "linear")
OWN_BACKBONES = ("residual", "mlp")
WEIGHTS = ("random", "imagenet")
# The models of keras.applications, which a misspelt name is compared with before Keras is imported.
APPLICATIONS = (
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtSmall",
    "ConvNeXtTiny",
    "ConvNeXtXLarge",
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2L",
    "EfficientNetV2M",
    "EfficientNetV2S",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "NASNetLarge",
    "NASNetMobile",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "VGG19",
    "Xception",
)
# Suffixes of a backbone that was trained before, and of weights alone.
MODEL_SUFFIX, WEIGHTS_SUFFIX = ".keras", ".weights.h5"
_BACKBONE = Text("residual, mlp, a model of keras.applications, a run, bundle or .keras file")


@dataclass(frozen=True, kw_only=True)
class FeatureExtractorConfig(HiddenConfig, ColumnsConfig):
    """Configures `feature_extractor`.

    Attributes:
        rows: columns of the input if it is not an image.
        image_shape: `(height, width, channels)` of an image; empty for rows.
        backbone: what computes the features of an image: `residual` (see `residual_backbone`);
            `mlp`, the hidden layers alone; the name of a model in `keras.applications`; or the
            path of a run, a bundle or a `.keras` file, trained before on images or on rows.
        weights: initial weights of a model in `keras.applications`: `random`, `imagenet`, or the
            path of a `.weights.h5` file.
        freeze: layers of the backbone that do not learn: `none`, `all`, or the number of the
            first layers with weights.
        width: channels of the first stage of `residual`; the others have four times as many.
        depth: residual blocks in each stage of `residual`.
        head: output layer: `softmax` for one of several classes, `sigmoid` for one of two classes
            or for any number of labels, `linear` for regression.
        num_outputs: number of classes, labels or values.
        many_labels: whether a sample may have any number of labels.
        hidden: units of the hidden layers; the last is the dimension of the features. Without
            hidden layers, the features are those of the backbone, or the preprocessed columns.
        residual: whether hidden layers that keep the width add their input to their output (He et
            al., 2016).
        hidden_dropout: fraction of the units that dropout zeroes between two hidden layers.
        members: members of an ensemble that share the hidden layers, see `models.members`; 1 is an
            ordinary net. For rows only.
        wide: whether the head also sees the encoded columns, so that a linear model is a part of
            the net (Cheng et al., 2016, "Wide & Deep Learning"). For rows with hidden layers only.
        clip_values: whether a linear head returns no value far outside the range of the targets in
            the training data, see `models.scaling.ClipToRange`.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    rows: RowsConfig = field(default_factory=RowsConfig)
    image_shape: tuple[int, ...] = ()
    backbone: Annotated[str, _BACKBONE] = "residual"
    weights: Annotated[str, Text("random, imagenet, or a .weights.h5 file")] = "random"
    freeze: Annotated[str, Text("none, all, or a number of layers")] = "none"
    width: Annotated[int, AtLeast(1)] = 32
    depth: Annotated[int, AtLeast(0)] = 1
    head: Annotated[str, OneOf(HEADS)] = "softmax"
    num_outputs: int = 2
    many_labels: bool = False
    hidden: Annotated[tuple[int, ...], Text("whole numbers above 0, or none: []")] = (64, 32)
    residual: bool = False
    hidden_dropout: Annotated[float, Fraction()] = 0.0
    members: Annotated[int, AtLeast(1)] = 1
    wide: bool = False
    clip_values: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.image_shape:
            check_sizes("image_shape", self.image_shape)
            if len(self.image_shape) != 3 or self.image_shape[2] not in (1, 3):
                raise ValueError(
                    "image_shape must be (height, width, channels), with 1 or 3 channels. "
                    f"Received: image_shape={self.image_shape!r}."
                )
        self._check_backbone()
        check_sizes("width", (self.width,))
        if self.image_shape and self.backbone == "residual":  # rows have no such layers
            self.check_widths("width", (self.width,))
        one_is_enough = self.head == "linear" or self.many_labels
        check_at_least("num_outputs", self.num_outputs, 1 if one_is_enough else 2)
        if self.head == "sigmoid" and not self.many_labels and self.num_outputs != 2:
            raise ValueError(
                "head=sigmoid must have two classes, or several columns of labels. "
                f"Received: {self.num_outputs} classes. Use head=softmax for several classes."
            )
        if self.many_labels and self.head != "sigmoid":
            raise ValueError(
                f"Several labels for a sample need head=sigmoid. Received: head={self.head!r}."
            )
        if self.hidden:
            self.check_widths("hidden", self.hidden)

    def _check_backbone(self) -> None:
        names = (*OWN_BACKBONES, *APPLICATIONS)
        if self.backbone not in names and not self.is_trained:
            raise ValueError(
                f"backbone must be {', '.join(OWN_BACKBONES)}, a model of keras.applications such "
                "as MobileNetV2, a run, a bundle, or a .keras file. "
                f"Received: backbone={self.backbone!r}.{suggest(self.backbone, names)}"
            )
        if self.weights not in WEIGHTS and not self.weights.endswith(WEIGHTS_SUFFIX):
            raise ValueError(
                f"weights must be {' or '.join(WEIGHTS)}, or a .weights.h5 file. "
                f"Received: weights={self.weights!r}."
            )
        if self.weights != "random" and self.backbone not in APPLICATIONS:
            raise ValueError(
                "weights applies to models of keras.applications only. "
                f"Received: weights={self.weights!r}, backbone={self.backbone!r}."
            )
        if self.freeze not in ("none", "all") and not self.freeze.isdecimal():
            raise ValueError(
                "freeze must be none, all, or a number of layers. "
                f"Received: freeze={self.freeze!r}."
            )

    @property
    def is_trained(self) -> bool:
        """Whether the backbone was trained before."""
        return self.backbone.endswith(MODEL_SUFFIX)

    @property
    def is_pretrained(self) -> bool:
        """Whether the backbone begins with weights that were learned before."""
        return self.is_trained or self.weights != "random"

    @property
    def is_frozen(self) -> bool:
        """Whether only the layers after the backbone learn."""
        return self.backbone != "mlp" and self.freeze == "all"

    @property
    def has_two_phases(self) -> bool:
        """Whether a backbone that was trained before learns on, after its head."""
        return self.is_pretrained and not self.is_frozen

    @property
    def prepared_layer(self) -> str:
        """Name of the layer up to which inputs are prepared once, before training."""
        return "image" if self.image_shape else self.rows.prepared_layer(self.scaling)

    @property
    def trained_layer(self) -> str:
        """Name of the layer whose output the loss compares with the targets.

        For an ensemble, it is the mean of the layer `member_layer`.
        """
        return "standard_values" if self.head == "linear" else "probabilities"

    @property
    def member_layer(self) -> str:
        """Name of the layer with the outputs of the members; empty if there is no ensemble."""
        if self.members == 1:
            return ""
        return "member_values" if self.head == "linear" else "member_probabilities"
