"""Categories as numbers: one-hot columns, and embeddings of columns with many categories."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from .precision import Float32Layer


def known_texts(texts: Any, vocabularies: Sequence[Sequence[str]]) -> Any:
    """Look up the texts of all columns at once, which takes a single step in ONNX.

    Args:
        texts: strings `(batch, columns)`.
        vocabularies: the known texts of each column.

    Returns:
        float32 `(batch, columns)`: the place of each text in `all_texts(vocabularies)`, counted
        from 1; 0 if it is not there.
    """
    words = all_texts(vocabularies)
    lookup = keras.layers.StringLookup(vocabulary=words, num_oov_indices=1, name="known_texts")
    return ops.cast(lookup(texts), "float32")


def all_texts(vocabularies: Sequence[Sequence[str]]) -> list[str]:
    """Return the texts of all columns, each once."""
    return list(dict.fromkeys(text for words in vocabularies for text in words))


def places_of_texts(vocabularies: Sequence[Sequence[str]]) -> list[list[int]]:
    """Return the numbers of `known_texts` for the texts of each column."""
    place_of = {text: place for place, text in enumerate(all_texts(vocabularies), start=1)}
    return [[place_of[text] for text in words] for words in vocabularies]


@keras.saving.register_keras_serializable(package="hornbill")
class OneHotCategories(Float32Layer):
    """Turns categories into one-hot columns; an unknown text gives zeros.

    Input shape: float32 `(batch, columns)`, from `known_texts`.
    Output shape: float32 `(batch, width)`.

    Args:
        places: for each column, the numbers of its texts; empty for a column to leave out.
        drop_binary: whether a column with two texts becomes a single column: -1, 1, or 0 for an
            unknown text.
    """

    def __init__(
        self, places: Sequence[Sequence[int]], drop_binary: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.places = [list(numbers) for numbers in places]
        self.drop_binary = drop_binary

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "places": self.places, "drop_binary": self.drop_binary}

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Note the column and the number of the text that each output stands for."""
        chosen = [
            (column, number, numbers[0] if self._is_single(numbers) else -1)
            for column, numbers in enumerate(self.places)
            for number in (numbers[1:] if self._is_single(numbers) else numbers)
        ]
        self._columns, self._positive, self._negative = np.array(chosen, np.int32).T
        super().build(input_shape)

    def _is_single(self, numbers: Sequence[int]) -> bool:
        return self.drop_binary and len(numbers) == 2

    def call(self, codes: Any) -> Any:
        """Return the one-hot columns."""
        taken = ops.take(codes, self._columns, axis=1)
        columns = ops.cast(ops.equal(taken, self._positive.astype("float32")), "float32")
        if (self._negative < 0).all():
            return columns
        negative = ops.equal(taken, self._negative.astype("float32"))
        return columns - ops.cast(negative, "float32")


@keras.saving.register_keras_serializable(package="hornbill")
class CategoryEmbedding(Float32Layer):
    """Turns each category into a vector that is learned; an unknown text gives zeros.

    A text that occurs in several columns has the same vector in all of them.

    Input shape: float32 `(batch, columns)`, from `known_texts`.
    Output shape: float32 `(batch, len(columns) * units)`.

    Args:
        columns: indices of the columns to embed.
        texts: number of texts that `known_texts` knows.
        units: size of a vector.
    """

    def __init__(self, columns: Sequence[int], texts: int, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = list(columns)
        self.texts = texts
        self.units = units

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        own = {"columns": self.columns, "texts": self.texts, "units": self.units}
        return {**super().get_config(), **own}

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the vectors."""
        self.vectors = self.add_weight(
            shape=(self.texts, self.units),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            name="vectors",
        )
        super().build(input_shape)

    def call(self, codes: Any) -> Any:
        """Return the vectors of each row, one after the other."""
        numbers = ops.cast(ops.take(codes, np.array(self.columns, np.int32), axis=1), "int32")
        table = ops.pad(self.vectors, ((1, 0), (0, 0)))  # zeros for an unknown text
        vectors = ops.take(table, numbers, axis=0)
        return ops.reshape(vectors, (-1, len(self.columns) * self.units))
