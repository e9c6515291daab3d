"""Preprocessing of rows inside the graph: numbers, missing values and texts."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from .checks import check_at_least
from .precision import Float32Layer


@dataclass(frozen=True, kw_only=True)
class RowsConfig:
    """The columns of a model's input, as determined by the training data.

    Attributes:
        num_columns: number of numeric columns.
        nullable_columns: indices of the numeric columns that may have missing values (NaN), in
            ascending order.
        indicators: indices of the nullable columns that get an indicator of missing values,
            because values were missing in the training data.
        vocabularies: the known texts of each text column; at least one for each column.

    Raises:
        ValueError: there is no column, an index is out of range, or a vocabulary is empty.
    """

    num_columns: int = 4
    nullable_columns: tuple[int, ...] = ()
    indicators: tuple[int, ...] = ()
    vocabularies: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        check_at_least("num_columns", self.num_columns, 0 if self.vocabularies else 1)
        if any(not 0 <= column < self.num_columns for column in self.nullable_columns):
            raise ValueError(
                f"nullable_columns must be below num_columns={self.num_columns}. "
                f"Received: nullable_columns={self.nullable_columns}."
            )
        if not set(self.indicators) <= set(self.nullable_columns):
            raise ValueError(
                f"indicators must be among nullable_columns={self.nullable_columns}. "
                f"Received: {self.indicators}."
            )
        if not all(self.vocabularies):
            raise ValueError("Each vocabulary must hold a text. Received: an empty one.")

    @property
    def prepared_layer(self) -> str:
        """Name of the last layer of `prepare_rows`."""
        if self.vocabularies:
            return "columns"
        return "fill_missing" if self.nullable_columns else "normalize"


@keras.saving.register_keras_serializable(package="hornbill")
class FillMissing(Float32Layer):
    """Replaces missing values by 0, which is the mean of a standardized column; adds indicators.

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


def prepare_rows(config: RowsConfig) -> tuple[Any, Any]:
    """Create the inputs of a model for rows, and their preprocessing.

    Args:
        config: the columns.

    Returns:
        The inputs, and the preprocessed columns.

        The inputs are `inputs` float32 `(batch, num_columns)`, NaN for missing values, and `texts`
        strings `(batch, len(vocabularies))`; a dict if the model has both.

        The preprocessed columns are float32 `(batch, width)`: standardized numbers, indicators of
        missing values, and a one-hot column for each known text. An unknown text gives zeros.
    """
    inputs, parts = row_inputs(config), []
    named = inputs if isinstance(inputs, dict) else {inputs.name: inputs}
    if config.num_columns:
        x = keras.layers.Normalization(name="normalize", dtype="float32")(named["inputs"])
        parts.append(
            FillMissing(config.indicators, name="fill_missing")(x) if config.nullable_columns else x
        )
    if config.vocabularies:
        texts = named["texts"]
        parts += [
            _known_texts(texts[:, number], words, f"text{number}")
            for number, words in enumerate(config.vocabularies)
        ]
        columns = keras.layers.Concatenate(name="columns")(parts)
    else:
        (columns,) = parts
    return inputs, columns


def row_inputs(config: RowsConfig) -> Any:
    """Create the inputs of a model for rows: one, or a dict. See `prepare_rows`."""
    inputs = {}
    if config.num_columns:
        shape = (config.num_columns,)
        inputs["inputs"] = keras.Input(shape, dtype="float32", name="inputs")
    if config.vocabularies:
        shape = (len(config.vocabularies),)
        inputs["texts"] = keras.Input(shape, dtype="string", name="texts")
    return inputs if len(inputs) > 1 else next(iter(inputs.values()))


def _known_texts(texts: Any, words: tuple[str, ...], name: str) -> Any:
    lookup = keras.layers.StringLookup(vocabulary=list(words), num_oov_indices=1, name=name)
    codes = lookup(texts)  # 0 stands for every unknown text
    one_hot = keras.layers.CategoryEncoding(len(words) + 1, "one_hot", name=f"{name}_one_hot")
    return one_hot(codes)[:, 1:]
