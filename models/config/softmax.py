"""Settings of the softmax classifier."""

from dataclasses import dataclass, field
from typing import Annotated

from .columns import RowsConfig
from .layers import KernelConfig
from .limits import AtLeast


@dataclass(frozen=True, kw_only=True)
class SoftmaxClassifierConfig(KernelConfig):
    """Configures `softmax_classifier`.

    Attributes:
        rows: columns of the input.
        num_classes: number of classes, at least 2.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    rows: RowsConfig = field(default_factory=RowsConfig)
    num_classes: Annotated[int, AtLeast(2)] = 3

    @property
    def prepared_layer(self) -> str:
        """Name of the layer up to which inputs are prepared once, before training."""
        return self.rows.prepared_layer()

    @property
    def trained_layer(self) -> str:
        """Name of the layer whose output the loss compares with the targets."""
        return "probabilities"
