"""Keras functional models, each built by a function from a frozen configuration.

Only Keras is imported here, so the models build, train and load on any Keras backend. This page
has the configurations, which need no Keras. The models are built by `models.digits.digit_net`,
`models.features.feature_extractor` and `models.softmax.softmax_classifier`.
"""

from .config import (
    AugmentationConfig,
    DigitNetConfig,
    FeatureExtractorConfig,
    ImageAugmentationConfig,
    RowsConfig,
    SoftmaxClassifierConfig,
)

__all__ = [
    "AugmentationConfig",
    "DigitNetConfig",
    "FeatureExtractorConfig",
    "ImageAugmentationConfig",
    "RowsConfig",
    "SoftmaxClassifierConfig",
]
