"""Preparation of rows inside the graph: numbers, missing values and texts."""

from typing import Any

import keras
import numpy as np
from keras import ops

from .categories import known_texts
from .config.columns import RowsConfig
from .precision import Float32Layer
from .scaling import RobustScale, SmoothClip


@keras.saving.register_keras_serializable(package="hornbill")
class FillMissing(Float32Layer):
    """Replaces missing values by 0, the mean or median of a scaled column; adds indicators.

    Input shape: float32 `(batch, columns)`, NaN for missing values.
    Output shape: float32 `(batch, columns + len(indicators))`: the filled columns, then a column
        for each of `indicators`, which is 1 where its value was missing and 0 elsewhere.

    Args:
        indicators: indices of the columns that get an indicator.
    """

    def __init__(self, indicators: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.indicators = tuple(indicators)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "indicators": self.indicators}

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the matrix that selects columns: a product needs no shapes, unlike a gather."""
        self._choice = np.eye(input_shape[1], dtype="float32")[:, self.indicators]
        super().build(input_shape)

    def call(self, x: Any) -> Any:
        """Return `x` without NaN, and the indicators."""
        is_missing = ops.isnan(x)
        filled = ops.where(is_missing, 0.0, x)
        if not self.indicators:
            return filled
        indicated = ops.matmul(ops.cast(is_missing, "float32"), self._choice)
        return ops.concatenate([filled, indicated], axis=1)


def prepare_columns(config: RowsConfig, scaling: str = "standard") -> tuple[Any, Any]:
    """Create the inputs of a model for rows, and the part of it that learns nothing.

    Args:
        config: the columns.
        scaling: one of `SCALINGS`: `standard` by mean and standard deviation, `robust` by median
            and quartiles, with outliers clipped smoothly.

    Returns:
        The inputs, and the prepared columns.

        The inputs are `inputs` float32 `(batch, num_columns)`, NaN for missing values, and `texts`
        strings `(batch, len(vocabularies))`; a dict if the model has both.

        The prepared columns are float32 `(batch, width)`: scaled numbers, indicators of missing
        values, and the number of each text, see `models.categories.known_texts`.
    """
    inputs, parts = row_inputs(config), []
    named = inputs if isinstance(inputs, dict) else {inputs.name: inputs}
    if config.num_columns:
        x = _scale(scaling)(named["inputs"])
        if config.nullable_columns:
            x = FillMissing(config.indicators, name="fill_missing")(x)
        parts.append(SmoothClip(name="smooth_clip")(x) if scaling == "robust" else x)
    if config.vocabularies:
        parts.append(known_texts(named["texts"], config.vocabularies))
        columns = keras.layers.Concatenate(name="columns")(parts)
    else:
        (columns,) = parts
    return inputs, columns


def _scale(scaling: str) -> keras.layers.Layer:
    if scaling == "robust":
        return RobustScale(name="robust_scale")
    return keras.layers.Normalization(name="normalize", dtype="float32")


def row_inputs(config: RowsConfig) -> Any:
    """Create the inputs of a model for rows: one, or a dict. See `prepare_columns`."""
    inputs = {}
    if config.num_columns:
        shape = (config.num_columns,)
        inputs["inputs"] = keras.Input(shape, dtype="float32", name="inputs")
    if config.vocabularies:
        shape = (len(config.vocabularies),)
        inputs["texts"] = keras.Input(shape, dtype="string", name="texts")
    return inputs if len(inputs) > 1 else next(iter(inputs.values()))
