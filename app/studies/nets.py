"""What studies train and measure: replicas of small nets, trained by the project's own loop."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_digits

from app.config.run_config import RunConfig, make_config
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.evaluation.metrics import OUTPUTS
from app.training.fit import FitResult
from app.training.replicas import ReplicaJob, Replicas

# Plain nets, unless a study is about what makes them less plain.
_PLAIN = {"normalization": "none", "dropout": 0.0, "optimizer.schedule": "constant"}
# Steps that the device takes before Python is asked again: tiny ones take less time than asking.
_STEPS = 500
NONE = np.arange(0)


def rows(
    name: str, inputs: Any, targets: Any, kind: str = "multiclass", labels: Sequence[str] = ()
) -> Dataset:
    """Return a data set that a study makes up.

    Args:
        name: of it.
        inputs: `(samples, columns)`.
        targets: of the kind `multiclass` `(samples,)`, else `(samples, targets)`.
        kind: as of `Dataset.task`.
        labels: names of the targets; numbers unless given.
    """
    inputs, targets = np.asarray(inputs, np.float32), np.asarray(targets)
    count = int(targets.max()) + 1 if kind == "multiclass" else targets.shape[1]
    return Dataset(
        source=name,
        inputs=inputs,
        targets=targets.astype(np.int64 if kind == "multiclass" else np.float32),
        task=kind,
        labels=tuple(labels) or tuple(map(str, range(count))),
        columns=tuple(f"column{number}" for number in range(inputs.shape[1])),
    )


def digit_rows() -> Dataset:
    """Return scikit-learn's digits as rows: 64 pixels each, 1,797 samples of 10 classes."""
    bunch = load_digits()
    return rows("digits8x8", bunch.data, bunch.target)


def split_for_replicas(
    dataset: Dataset, count: int, train: int, test: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return samples to train and to test each net on, drawn anew for each.

    Returns:
        int64 `(train, nets)` and `(test, nets)`; no sample of a net is in both.
    """
    orders = [
        np.random.default_rng(net).permutation(len(dataset.targets))[: train + test]
        for net in range(count)
    ]
    order = np.stack(orders, axis=1)
    return order[:train], order[train:]


def plain_config(settings: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a plain model.

    Args:
        settings: values by flat key, as `make_config` takes them, and `family` if it is not
            `features`.
    """
    given = dict(settings)
    family = given.pop("family", "features")
    plain = _PLAIN if family != "softmax" else {"optimizer.schedule": "constant"}
    return make_config(family, {**plain, "steps_per_execution": _STEPS, **given}, data="study")


def configure(settings: Mapping[str, Any], count: int, rates: Sequence[float] = ()) -> Replicas:
    """Return replicas of a plain model.

    Args:
        settings: see `plain_config`.
        count: number of replicas.
        rates: learning rate of each replica; empty if all have that of the settings.
    """
    return Replicas(plain_config(settings), count, tuple(rates))


def build_replicas(replicas: Replicas, dataset: Dataset, train: np.ndarray) -> keras.Model:
    """Return the replicas as training begins with them."""
    return ReplicaJob(replicas, dataset, Splits(train, NONE, NONE)).model


def prepared(model: keras.Model, dataset: Dataset, indices: np.ndarray) -> Any:
    """Return what the layers of nets that learn take, float32 `(samples, nets, columns)`.

    Args:
        model: of `build_nets`.
        dataset: the samples.
        indices: which of them, `(samples,)`.
    """
    preparation = keras.Model(model.inputs, model.get_layer("replicas").output)
    return preparation(keras.ops.convert_to_tensor(dataset.model_inputs(indices)))


def losses(fitted: FitResult, split: str = "") -> np.ndarray:
    """Return the loss of each net after each epoch, `(epochs, nets)`; `split` may be `val_`."""
    return np.array([row[f"{split}replica_losses"] for row in fitted.history], float)


def answers(fitted: FitResult, dataset: Dataset) -> np.ndarray:
    """Return what each net answers to every sample, `(samples, nets, outputs)`.

    Of a net alone `(samples, outputs)`.
    """
    inputs = dataset.model_inputs(np.arange(len(dataset.targets)))
    answered: np.ndarray = outputs(fitted.model, inputs)[OUTPUTS[dataset.task]]
    return answered


def outputs(model: keras.Model, inputs: Any) -> Any:
    """Return what a model gives for a few samples, NumPy arrays in the structure of its outputs.

    Sooner than by `keras.Model.predict`, which traces it first.
    """
    given = model(keras.ops.convert_to_tensor(inputs), training=False)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, given)


def accuracies(fitted: FitResult, dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """Return the share of samples that each net gets right, `(nets,)`.

    Args:
        fitted: the nets.
        dataset: the samples.
        indices: which of them: `(samples,)`, or `(samples, nets)`.
    """
    is_right = answers(fitted, dataset).argmax(axis=2) == dataset.targets[:, np.newaxis]
    chosen = (
        is_right[indices] if indices.ndim == 1 else np.take_along_axis(is_right, indices, axis=0)
    )
    shares: np.ndarray = chosen.mean(axis=0)
    return shares


class AfterEachEpoch(keras.callbacks.Callback):
    """Measures something of nets before their training, and after each epoch.

    Args:
        nets: of `build_nets`; they are given the weights of those that are trained.
        measure: called then.

    Attributes:
        found: what was measured.
    """

    def __init__(self, nets: keras.Model, measure: Callable[[], Any]) -> None:
        super().__init__()
        self.nets = nets
        self.measure = measure
        self.found: list[Any] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Measure what training begins with."""
        self._measure()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Measure."""
        self._measure()

    def _measure(self) -> None:
        pairs = zip(self.nets.trainable_variables, self.model.trainable_variables, strict=True)
        for own, trained in pairs:
            own.assign(trained)
        self.found.append(self.measure())


class StartFrom(keras.callbacks.Callback):
    """Begins training with weights of one's choice.

    Args:
        weights: of the layers that learn, in their order.
    """

    def __init__(self, weights: Sequence[np.ndarray]) -> None:
        super().__init__()
        self.weights = weights

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Set the weights."""
        self.model.set_weights(self.weights)


def learning_weights(model: keras.Model) -> list[np.ndarray]:
    """Return the weights that training changes, in the order of `StartFrom`."""
    return [keras.ops.convert_to_numpy(weight) for weight in model.trainable_variables]
