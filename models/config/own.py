"""The configuration of models that users bring."""

from dataclasses import dataclass
from typing import Annotated

from .limits import OneOf, check_limits

OWN_HEADS = ("auto", "softmax", "sigmoid", "linear")
# Name of the layer whose output is what the user's model returns, in float32.
RAW_OUTPUTS = "raw_outputs"


@dataclass(frozen=True, kw_only=True)
class OwnModelConfig:
    """Configures a model of a user.

    Attributes:
        head: what the model predicts: `softmax` one of several classes, `sigmoid` one of two
            classes or any number of labels, `linear` values. A model for `softmax` or `sigmoid`
            may end in logits. `auto` decides it by the model and the targets.
        file: path of the untrained model, with a head for the data of its run.

    Raises:
        ValueError: a value is unknown.
    """

    head: Annotated[str, OneOf(OWN_HEADS)] = "auto"
    file: str = ""

    def __post_init__(self) -> None:
        """Check the values."""
        check_limits(self)

    @property
    def trained_layer(self) -> str:
        """Name of the layer whose output the loss compares with the targets."""
        return RAW_OUTPUTS
