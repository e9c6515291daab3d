"""Keras functional models, each built by a function from a frozen configuration.

Only Keras is imported here, so the models build, train and load on any Keras backend.
"""

from .augment import AugmentationConfig
from .digits import DigitNetConfig, digit_net
from .features import FeatureExtractorConfig, feature_extractor
from .image_augmentation import ImageAugmentationConfig
from .rows import RowsConfig
from .softmax import SoftmaxClassifierConfig, softmax_classifier

__all__ = [
    "AugmentationConfig",
    "DigitNetConfig",
    "FeatureExtractorConfig",
    "ImageAugmentationConfig",
    "RowsConfig",
    "SoftmaxClassifierConfig",
    "digit_net",
    "feature_extractor",
    "softmax_classifier",
]
