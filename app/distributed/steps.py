"""Steps of a model on batches that several devices share."""

from typing import Any

import keras


class SharedModel(keras.Model):
    """A functional model, on JAX, whose steps leave out the rows that filled a batch up.

    Inside a step a batch is one array over all devices, whose rows are those of one process'
    batch in the same order: loss, metrics, statistics of batches and random numbers are the same.

    Attributes:
        training_sizes: see `app.data.shards.Shard.filled_sizes`; of batches for training.
        evaluation_sizes: of batches for evaluation.
    """

    training_sizes: dict[int, int]
    evaluation_sizes: dict[int, int]

    def train_step(self, state: Any, data: Any) -> Any:
        """Take a step on the samples of a batch."""
        return super().train_step(state, _samples(data, self.training_sizes))

    def test_step(self, state: Any, data: Any) -> Any:
        """Evaluate the samples of a batch."""
        return super().test_step(state, _samples(data, self.evaluation_sizes))


def _samples(data: Any, sizes: dict[int, int]) -> Any:
    return keras.tree.map_structure(lambda rows: rows[: sizes.get(rows.shape[0])], data)
