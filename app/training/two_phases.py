"""Training in two phases: first the head alone, then everything, the backbone at a smaller rate.

The gradients of a head with random weights would spoil a backbone that was trained before (Howard
and Ruder, 2018; Keras, "Transfer learning and fine-tuning"). Both phases are one run of one
optimizer, whose count of steps tells the phase.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def in_two_phases(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[Any],
    backbone: Sequence[Any],
    head_steps: int,
    rate: float,
) -> keras.optimizers.Optimizer:
    """Return an optimizer that spares the backbone.

    Args:
        optimizer: an optimizer that is not built yet.
        variables: the variables that it will be built with.
        backbone: those of the backbone.
        head_steps: number of steps at the beginning in which the backbone does not change.
        rate: factor of the learning rate for the backbone in later steps, and thereby of its
            weight decay.
    """
    members = {id(variable) for variable in backbone}
    settings = {
        "is_backbone": [id(variable) in members for variable in variables],
        "head_steps": head_steps,
        "backbone_rate": rate,
    }
    kind: Any = type("TwoPhaseOptimizer", (_TwoPhases, type(optimizer)), settings)
    changed = kind.from_config(optimizer.get_config())
    if changed.weight_decay:
        changed.exclude_from_weight_decay(var_list=list(backbone))
    return changed


class _TwoPhases:
    """Extends a Keras optimizer: multiplies the learning rate of some variables.

    Keras decays weights at the full rate, so the decay of the backbone happens here.
    """

    is_backbone: list[bool]
    head_steps: int
    backbone_rate: float

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        optimizer: Any = self
        if self.is_backbone[optimizer._get_variable_index(variable)]:
            is_head_alone = optimizer.iterations < self.head_steps
            learning_rate = ops.where(is_head_alone, 0.0, self.backbone_rate) * learning_rate
            if optimizer.weight_decay:
                decay = ops.cast(optimizer.weight_decay * learning_rate, variable.dtype)
                optimizer.assign_sub(variable, variable * decay)
        super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]
