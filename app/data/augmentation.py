"""Augmentation: how a training step sees the samples."""

from typing import Any

from app.config.training_config import DigitTrainingConfig, FeatureTrainingConfig, TrainingConfig
from models.augment import augment
from models.image_augmentation import augment_images, mix_images


def augment_inputs(inputs: Any, training: TrainingConfig) -> tuple[Any, Any]:
    """Return prepared inputs as a training step sees them.

    Args:
        inputs: symbolic tensor: ink, float32 `(batch, side, side)`; images, uint8 `(batch, height,
            width, channels)`; or rows, which stay as they are.
        training: settings of the training.

    Returns:
        Inputs of the same shape and dtype, changed at random; and the share in each of another
        sample of the batch, float32 `(batch, 1)`, None if nothing is mixed.
    """
    if isinstance(training, DigitTrainingConfig):
        return augment(inputs, training.augmentation), None
    if isinstance(training, FeatureTrainingConfig) and len(inputs.shape) == 4:
        changed = augment_images(inputs, training.augmentation)
        return mix_images(changed, training.augmentation)
    return inputs, None
