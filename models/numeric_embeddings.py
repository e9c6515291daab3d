"""Numerical embeddings: each number becomes several features, linear or periodic in pieces.

A fully connected layer changes slowly with its input. Trees do not, and an embedding gives a net
the same freedom (Gorishniy et al., 2022, "On Embeddings for Numerical Features in Tabular Deep
Learning", arXiv 2203.05556).
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from .precision import Float32Layer

# The matrices learn at this fraction of the learning rate, and embeddings begin smaller than the
# numbers beside them: a number without steps needs no embedding.
_RATE = 0.3


class _NumericEmbedding(Float32Layer):
    """A layer that computes features of each number and combines them by a matrix of its own.

    Input shape: float32 `(batch, columns)`, scaled, without NaN.
    Output shape: float32 `(batch, columns * units)`.

    Args:
        features: number of features of each number.
        units: size of the embedding of each number.
    """

    def __init__(self, features: int, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = features
        self.units = units

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "features": self.features, "units": self.units}

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the matrices."""
        self.columns = input_shape[1]
        self.kernel = self.add_weight(
            shape=(self.columns, self.features, self.units),
            initializer=keras.initializers.RandomNormal(stddev=self.features**-0.5),
            name="kernel",
        )
        super().build(input_shape)

    def features_of(self, x: Any) -> Any:
        """Return float32 `(columns, batch, features)` for numbers `(columns, batch, 1)`."""
        raise NotImplementedError

    def call(self, x: Any) -> Any:
        """Return the embeddings of all columns, one after the other."""
        # A product needs the columns first, and now there is the least to transpose.
        features = self.features_of(ops.expand_dims(ops.transpose(x), 2))
        embedded = ops.transpose(ops.matmul(features, self.kernel * _RATE), (1, 0, 2))
        return ops.reshape(embedded, (-1, self.columns * self.units))


@keras.saving.register_keras_serializable(package="hornbill")
class PiecewiseLinearEmbedding(_NumericEmbedding):
    """Embeds numbers by functions that are linear between quantiles of the column.

    The bins of a column hold about equally many different values of the training data. The feature
    of a bin rises from 0 to 1 inside the bin, and stays at 0 below and at 1 above it.
    """

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the bins, which have no effect until `adapt` sets them."""
        shape = (input_shape[1], 1, self.features)
        self.edges = self.add_weight(
            shape=shape, initializer="zeros", trainable=False, name="edges"
        )
        self.slopes = self.add_weight(
            shape=shape, initializer="zeros", trainable=False, name="slopes"
        )
        super().build(input_shape)

    def adapt(self, x: np.ndarray) -> None:
        """Set the bins to those of scaled numbers, float32 `(rows, columns)`; NaN does not count.

        A value that occurs often counts as the square root of its frequency. Otherwise a column
        that is nearly always 0, such as gains of capital, would have a single bin. Quantiles that
        coincide make one bin, so that a column with few values has few bins.
        """
        edges = np.zeros((self.columns, 1, self.features), np.float32)
        slopes = np.zeros_like(edges)
        for number, column in enumerate(x.T):
            present = column[~np.isnan(column)]
            if not len(present):
                continue
            values, counts = np.unique(present, return_counts=True)
            shares = np.cumsum(np.sqrt(counts))
            places = np.searchsorted(shares, np.linspace(0, shares[-1], self.features + 1))
            limits = np.unique(values[np.minimum(places, len(values) - 1)])
            count = len(limits) - 1
            edges[number, 0, :count] = limits[:-1]
            slopes[number, 0, :count] = 1 / np.diff(limits)
        self.edges.assign(edges)
        self.slopes.assign(slopes)

    def features_of(self, x: Any) -> Any:
        """Return how far each number is in each bin, from 0 to 1."""
        return ops.clip((x - self.edges) * self.slopes, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="hornbill")
class PeriodicEmbedding(_NumericEmbedding):
    """Embeds numbers by cosines whose frequencies and phases are learned.

    The frequencies begin at random, as in Gorishniy et al. (2022); the phases are those of
    Holzmüller et al. (2024).

    Args:
        features: number of cosines of each number.
        units: size of the embedding of each number.
        frequency_scale: standard deviation of the initial frequencies.
    """

    def __init__(
        self, features: int, units: int, frequency_scale: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(features, units, **kwargs)
        self.frequency_scale = frequency_scale

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "frequency_scale": self.frequency_scale}

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create frequencies and phases."""
        shape = (input_shape[1], 1, self.features)
        frequencies = keras.initializers.RandomNormal(stddev=2 * np.pi * self.frequency_scale)
        phases = keras.initializers.RandomUniform(-np.pi, np.pi)
        self.frequencies = self.add_weight(shape=shape, initializer=frequencies, name="frequencies")
        self.phases = self.add_weight(shape=shape, initializer=phases, name="phases")
        super().build(input_shape)

    def features_of(self, x: Any) -> Any:
        """Return the cosines."""
        return ops.cos(x * self.frequencies + self.phases)
