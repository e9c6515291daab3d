"""Configurations of the models: frozen dataclasses that check their values.

Nothing here imports Keras, so that a setting is checked in the blink of an eye.
"""

from .augmentation import AugmentationConfig, ImageAugmentationConfig
from .columns import ColumnsConfig, RowsConfig
from .digits import DigitNetConfig
from .features import FeatureExtractorConfig
from .own import OwnModelConfig
from .softmax import SoftmaxClassifierConfig

__all__ = [
    "AugmentationConfig",
    "ColumnsConfig",
    "DigitNetConfig",
    "FeatureExtractorConfig",
    "ImageAugmentationConfig",
    "OwnModelConfig",
    "RowsConfig",
    "SoftmaxClassifierConfig",
]
