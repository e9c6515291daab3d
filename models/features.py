"""The feature extractor: hidden layers that learn features, and a head on top."""

from typing import Any

import keras

from .backbones import application_backbone, residual_backbone, standardize
from .blocks import feature_stack
from .columns import encode_columns
from .config.features import FeatureExtractorConfig
from .extractors import features_of_images, features_of_rows, freeze_layers
from .heads import binary_probabilities, classify, label_probabilities, regress
from .members import JoinMembers, SplitMembers, average_members
from .replicas import replicate
from .rows import prepare_columns, row_inputs

# Name of the layer that standardizes the features of a backbone for the head.
BACKBONE_FEATURES = "normalize_features"
# Name of the input of a head whose features are computed once, before training.
COMPUTED_FEATURES = "computed_features"


def feature_extractor(config: FeatureExtractorConfig, replicas: int = 0) -> keras.Model:
    """Build a network that learns features, with a head on top.

    Rows go through fully connected layers, images through a backbone first. The layers `normalize`
    or `robust_scale` scale columns, or the channels of images. Adapt them to the training data
    before training; until then they return their input.

    Args:
        config: the model's configuration.
        replicas: number of replicas to build, see `models.replicas`; 0 builds an ordinary model.

    Returns:
        A model from the inputs of `prepare_columns`, or from `image` uint8 `(batch, height, width,
        channels)`, to a dict with `features` float32 `(batch, dimension)` and the head's output,
        `probabilities` or `values` float32 `(batch, num_outputs)`.

    Examples:
        >>> rows = RowsConfig(num_columns=13)
        >>> model = feature_extractor(FeatureExtractorConfig(rows=rows, hidden=(32, 8)))
        >>> model.output_shape
        {'probabilities': (None, 2), 'features': (None, 8)}
    """
    if config.image_shape:
        inputs, x = _image_features(config)
    elif config.is_trained:
        inputs = row_inputs(config.rows)
        x = features_of_rows(inputs, config.backbone, bool(config.rows.nullable_columns))
    else:
        inputs, prepared = prepare_columns(config.rows, config.scaling)
        x = encode_columns(prepared, config.rows, config)
    backbone = x
    freeze_layers(keras.Model(inputs, x), config.freeze, config.is_pretrained)
    if config.is_pretrained or config.is_frozen:
        x = keras.layers.Normalization(name=BACKBONE_FEATURES, dtype="float32")(x)
    x = columns = replicate(x, replicas)
    if config.members > 1:
        x = SplitMembers(config.members, name="members")(x)
    x = feature_stack(x, config.hidden, config, config.residual, config.hidden_dropout)
    features = x if config.hidden else backbone
    if config.members > 1 and config.hidden:
        joined = JoinMembers(config.members, name="joined_features")(x)
        features = average_members(joined, "mean_features")
    if config.dropout:
        x = keras.layers.Dropout(config.dropout, name="features_dropout")(x)
    if config.members > 1:
        x = JoinMembers(config.members, name="joined")(x)
    if config.wide and config.hidden:
        if config.members > 1:
            columns = keras.layers.RepeatVector(config.members, name="wide_columns")(columns)
        x = keras.layers.Concatenate(name="wide")([x, columns])
    name, output = _apply_head(x, config)
    return keras.Model(inputs, {name: output, "features": features}, name="feature_extractor")


def _apply_head(features: Any, config: FeatureExtractorConfig) -> tuple[str, Any]:
    is_ensemble = config.members > 1
    if config.head == "linear":
        return "values", regress(
            features, config.num_outputs, config, is_ensemble, config.clip_values
        )
    if config.many_labels:
        labels = label_probabilities(features, config.num_outputs, config, is_ensemble)
        return "probabilities", labels
    if config.head == "sigmoid":
        return "probabilities", binary_probabilities(features, config, is_ensemble)
    return "probabilities", classify(features, config.num_outputs, config, is_ensemble)


def _image_features(config: FeatureExtractorConfig) -> tuple[Any, Any]:
    """Return the input `image` and the features of the backbone, `(batch, dimension)`."""
    image = keras.Input(config.image_shape, dtype="uint8", name="image")
    if config.is_trained:
        x = features_of_images(image, config.backbone)
    elif config.backbone == "mlp":
        x = keras.layers.Flatten(name="pixels")(standardize(image))
    elif config.backbone == "residual":
        x = residual_backbone(standardize(image), config.width, config.depth, config)
    else:
        x = application_backbone(image, config.backbone, config.weights)
    return image, x
