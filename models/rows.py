"""Preprocessing of rows inside the graph: numbers, missing values, texts."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from .checks import check_at_least
from .precision import Float32Layer


@dataclass(frozen=True, kw_only=True)
class RowsConfig:
    """The columns that a model takes, all learned from the training data.

    Attributes:
        num_columns: columns of numbers.
        nullable_columns: which of them may have no value (NaN), ascending.
        indicators: which of these get an indicator of missing values, since some were missing in
            training.
        vocabularies: for each column of text, the texts that are known; one at least.

    Raises:
        ValueError: there is no column, a number names one that is not there, or a column of text
            has no known text.
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
            raise ValueError("vocabularies must hold a text each. Received: an empty one.")

    @property
    def prepared_layer(self) -> str:
        """Name of the last layer of `prepare_rows`."""
        if self.vocabularies:
            return "columns"
        return "fill_gaps" if self.nullable_columns else "normalize"


@keras.saving.register_keras_serializable(package="hornbill")
class FillGaps(Float32Layer):
    """Puts 0, the mean of a standardized column, where a value is missing, and says where.

    Input shape: float32 `(batch, columns)`, NaN where there is no value.
    Output shape: float32 `(batch, columns + len(indicators))`: the filled columns, then for each
        of `indicators` 1 where the column had no value, else 0.

    Args:
        indicators: the columns that get an indicator of missing values.
    """

    def __init__(self, indicators: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.indicators = tuple(indicators)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "indicators": self.indicators}

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Lay out the choice of columns, which as a matrix product needs no shapes."""
        self._choice = np.eye(input_shape[1], dtype="float32")[:, self.indicators]
        super().build(input_shape)

    def call(self, x: Any) -> Any:
        """Return `x` without NaN, and the indicators."""
        is_missing = ops.isnan(x)
        filled = ops.where(is_missing, 0.0, x)
        if not self.indicators:
            return filled
        told = ops.matmul(ops.cast(is_missing, "float32"), self._choice)
        return ops.concatenate([filled, told], axis=1)


def prepare_rows(config: RowsConfig) -> tuple[Any, Any]:
    """Begin a model of rows.

    Args:
        config: the columns.

    Returns:
        The model's inputs: `inputs` float32 `(batch, num_columns)`, NaN only in the columns of
        `nullable_columns`,
        and if there are vocabularies `texts`, strings `(batch, len(vocabularies))`; in a dict if
        both are there. And the prepared columns, float32 `(batch, width)`: standardized numbers,
        the indicators, and for each text a column for each known value,
        all 0 for an unknown one.
    """
    inputs, parts = {}, []
    if config.num_columns:
        numbers = keras.Input((config.num_columns,), dtype="float32", name="inputs")
        inputs["inputs"] = numbers
        x = keras.layers.Normalization(name="normalize", dtype="float32")(numbers)
        parts.append(
            FillGaps(config.indicators, name="fill_gaps")(x) if config.nullable_columns else x
        )
    if config.vocabularies:
        texts = keras.Input((len(config.vocabularies),), dtype="string", name="texts")
        inputs["texts"] = texts
        parts += [
            _known_texts(texts[:, number], words, f"text{number}")
            for number, words in enumerate(config.vocabularies)
        ]
        columns = keras.layers.Concatenate(name="columns")(parts)
    else:
        (columns,) = parts
    return inputs if len(inputs) > 1 else next(iter(inputs.values())), columns


def _known_texts(texts: Any, words: tuple[str, ...], name: str) -> Any:
    lookup = keras.layers.StringLookup(vocabulary=list(words), num_oov_indices=1, name=name)
    codes = lookup(texts)  # 0 is every unknown text
    one_hot = keras.layers.CategoryEncoding(len(words) + 1, "one_hot", name=f"{name}_one_hot")
    return one_hot(codes)[:, 1:]
