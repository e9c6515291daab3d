"""Training and evaluation steps on batches that several devices share."""

from typing import Any

import keras

from models.image_mixing import MixingModel


class SharedModel(keras.Model):
    """A functional model on JAX whose steps drop the rows that pad a batch.

    Inside a step a batch is one array over all devices. Its rows are in the order that a single
    process would see, so that loss, metrics, batch statistics and random numbers are the same.

    Attributes:
        training_sizes: number of samples by number of rows, for training batches; see
            `app.data.shards.Shard.filled_sizes`.
        evaluation_sizes: the same for evaluation batches.
    """

    training_sizes: dict[int, int]
    evaluation_sizes: dict[int, int]

    def train_step(self, state: Any, data: Any) -> Any:
        """Train on the samples of a batch, without its padding."""
        return super().train_step(state, _samples(data, self.training_sizes))

    def test_step(self, state: Any, data: Any) -> Any:
        """Evaluate the samples of a batch, without its padding."""
        return super().test_step(state, _samples(data, self.evaluation_sizes))


class SharedMixingModel(SharedModel, MixingModel):
    """A `SharedModel` that learns from mixed images."""


def _samples(data: Any, sizes: dict[int, int]) -> Any:
    return keras.tree.map_structure(lambda rows: rows[: sizes.get(rows.shape[0])], data)
