"""Settings of the handwritten-digit net."""

from dataclasses import dataclass
from typing import Annotated

from models.checks import check_at_least, check_sizes

from .layers import HiddenConfig
from .limits import AtLeast, Fraction, OneOf, Sizes, Text

IMAGE_SIDE = 28
VARIANTS = ("mlp", "cnn", "resnet")
# Each stage of `cnn` and `resnet` halves the 28 pixels of a side, so there can be four stages.
MAX_STAGES = 4
_FILTERS = Text(f"whole numbers above 0, at most {MAX_STAGES}, or {MAX_STAGES - 1} behind a stem")
_CONVOLUTIONS = Text("one whole number above 0, or one for each stage")


@dataclass(frozen=True, kw_only=True)
class DigitNetConfig(HiddenConfig):
    """Configures `digit_net`.

    Attributes:
        variant: architecture: `mlp` (16x16 black and white pixels, fully connected), `cnn` (28x28
            pixels, stages of 3x3 convolutions) or `resnet` (28x28 pixels, residual blocks: He et
            al., 2016).
        stem: channels of a 5x5 convolution of stride 2 in front of the stages of `cnn`, which
            makes a training step about four times as fast; 0 leaves it out. `resnet` always has a
            stem.
        filters: channels of each stage of `cnn` and `resnet`; each stage halves the image.
        convolutions: number of 3x3 convolutions in each stage of `cnn`; a single number applies
            to all stages.
        depth: convolutions on the longest path through `resnet`: one, then two for each block.
            The blocks are spread evenly over the stages.
        hidden: units of the fully connected layers; the last is the dimension of the features.
        num_classes: number of classes, at least 2.
        dropout: fraction of the features that dropout zeroes in front of the head in training.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    variant: Annotated[str, OneOf(VARIANTS)] = "cnn"
    stem: Annotated[int, Text("channels; 0 for none")] = 0
    filters: Annotated[tuple[int, ...], _FILTERS] = (16, 32, 64)
    convolutions: Annotated[tuple[int, ...], _CONVOLUTIONS] = (1,)
    depth: Annotated[int, Text("an odd number, at least 1 plus twice the number of stages")] = 13
    hidden: Annotated[tuple[int, ...], Sizes()] = (256,)
    num_classes: Annotated[int, AtLeast(2)] = 10
    dropout: Annotated[float, Fraction()] = 0.5

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.variant != "mlp":
            self._check_stages()
        self.check_widths("hidden", self.hidden)

    def _check_stages(self) -> None:
        self.check_widths("filters", self.filters)
        stem = self.stem if self.variant == "cnn" else 0
        check_at_least("stem", stem, 0)
        if stem:
            self.check_widths("stem", (stem,))
        if len(self.filters) + bool(stem) > MAX_STAGES:
            raise ValueError(
                f"filters must name at most {MAX_STAGES} stages, or {MAX_STAGES - 1} behind a "
                f"stem: each halves the {IMAGE_SIDE} pixels of a side. "
                f"Received: filters={self.filters!r}, stem={stem}."
            )
        if self.variant == "cnn":
            check_sizes("convolutions", self.convolutions)
            if len(self.convolutions) not in (1, len(self.filters)):
                raise ValueError(
                    f"convolutions must be one number, or one for each of the {len(self.filters)} "
                    f"stages. Received: convolutions={self.convolutions!r}."
                )
            return
        check_at_least("depth", self.depth, 1 + 2 * len(self.filters))
        if self.depth % 2 == 0:
            raise ValueError(
                "depth must be odd: one convolution, then two for each block. "
                f"Received: depth={self.depth}. Use {self.depth - 1} or {self.depth + 1}."
            )

    @property
    def prepared_layer(self) -> str:
        """Name of the layer up to which images are prepared once, before training.

        Augmentation acts on the output of this layer. In `mlp`, the ink is scaled to its box after
        augmentation, so that augmented digits fill the box like all others.
        """
        return "denoise" if self.variant == "mlp" else "fit_ink"

    @property
    def trained_layer(self) -> str:
        """Name of the layer whose output the loss compares with the targets."""
        return "probabilities"
