"""Runs one trial: trains a configuration with `fit` and measures it on the validation split."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import optuna
from sklearn.model_selection import KFold, StratifiedKFold

from app.config.run_config import RunConfig
from app.data.arrays import rows_at
from app.data.datasets import Dataset
from app.data.splits import MIN_VALUES, Splits, split_dataset
from app.errors import DataError
from app.evaluation.metrics import SCORES, measure
from app.evaluation.predictions import predict_samples
from app.system.memory import translate_out_of_memory
from app.training.fit import fit
from app.training.losses import metric_name
from serving.errors import counted
from serving.written_numbers import metric_name as name_for_people
from serving.written_numbers import write_score

# The objective that a search minimizes: a mean over samples without penalties, which can be
# compared whatever loss was used for training.
LOSSES = {"multiclass": "cross_entropy", "multilabel": "binary_cross_entropy", "regression": "rmse"}
_LOSS_SETTINGS = ("loss", "label_smoothing", "class_weight")
_NONE = np.array([], np.int64)


def objective_name(task: str) -> str:
    """Return what people call the objective: a loss, or the measure that it is for values.

    Args:
        task: `multiclass`, `multilabel` or `regression`.
    """
    return name_for_people(LOSSES[task]) if task == "regression" else "loss"


def write_objective(task: str, value: float) -> str:
    """Return the objective of a trial with its name, such as `validation loss 0.0034`."""
    number = write_score(LOSSES[task], value) if task == "regression" else f"{value:.4f}"
    return f"validation {objective_name(task)} {number}"


@dataclass(frozen=True)
class TrialData:
    """The samples that trials use: all but the test split.

    Attributes:
        dataset: samples outside the test split; streamed from disk if the source is.
        parts: training and validation splits, one for each fold.
    """

    dataset: Dataset
    parts: tuple[Splits, ...]


@dataclass(frozen=True)
class Outcome:
    """Results of a trial on the validation split, as means over folds.

    Attributes:
        loss: objective, see `LOSSES`.
        score: see `app.evaluation.metrics.SCORES`.
    """

    loss: float
    score: float


def make_trial_data(config: RunConfig, dataset: Dataset, folds: int) -> TrialData:
    """Remove the test split and divide the rest into training and validation splits.

    Args:
        config: its seed and `validation_split` determine the splits, as they do for the refit.
        dataset: all samples.
        folds: number of cross-validation folds; 1 uses the validation split.

    Raises:
        DataError: there are too few samples.
    """
    splits = split_dataset(dataset, config.seed, config.training.validation_split)
    kept = np.sort(np.concatenate([splits.train, splits.validation]))
    rest = _only(dataset, kept)
    if folds == 1:
        train, validation = (np.searchsorted(kept, s) for s in (splits.train, splits.validation))
        return TrialData(rest, (Splits(train, validation, _NONE),))
    return TrialData(rest, tuple(_fold(rest, folds, config.seed)))


def _only(dataset: Dataset, kept: np.ndarray) -> Dataset:
    codes = None if dataset.codes is None else rows_at(dataset.codes, kept)
    return replace(
        dataset,
        inputs=rows_at(dataset.inputs, kept),
        targets=dataset.targets[kept],
        codes=codes,
        validation_start=None,
        test_start=None,
    )


def _fold(dataset: Dataset, folds: int, seed: int) -> Iterator[Splits]:
    is_classes = dataset.task == "multiclass"
    rarest = int(np.bincount(dataset.targets).min()) if is_classes else len(dataset.targets)
    if is_classes and rarest < folds:
        raise DataError(
            f"Each class must have a sample for each fold. Received: folds={folds}, and "
            f"{counted(rarest, 'sample')} of the rarest class outside the test split of "
            f"{dataset.source}."
        )
    if not is_classes and rarest < MIN_VALUES * folds:
        raise DataError(
            f"Each fold must have {MIN_VALUES} samples or more, to estimate their spread. "
            f"Received: folds={folds}, and {counted(rarest, 'sample')} outside the test split of "
            f"{dataset.source}."
        )
    kind = StratifiedKFold if is_classes else KFold
    cut = kind(folds, shuffle=True, random_state=seed).split(dataset.targets, dataset.targets)
    return (Splits(train, validation, _NONE) for train, validation in cut)


def evaluate(
    config: RunConfig, data: TrialData, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> Outcome:
    """Train on each part and measure on its validation split.

    Args:
        config: configuration of the trial.
        data: samples to train and validate on.
        callbacks: Keras callbacks for the first part; they may raise `optuna.TrialPruned`.

    Raises:
        ConfigError: the values contradict each other or the data.
        RunError: the loss is no longer finite, or the model is too large for this machine.
    """
    with translate_out_of_memory():
        results = [
            _train_and_measure(config, data.dataset, part, callbacks if number == 0 else ())
            for number, part in enumerate(data.parts)
        ]
    return Outcome(*np.mean(results, axis=0).tolist())


def _train_and_measure(
    config: RunConfig,
    dataset: Dataset,
    part: Splits,
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[float, float]:
    keras.utils.clear_session()  # otherwise each trial's graphs stay in memory
    model = fit(config, dataset, part, callbacks).model
    task = dataset.task
    predictions = predict_samples(model, dataset, part.validation)
    measured = measure(task, dataset.targets[part.validation], predictions)
    return measured[LOSSES[task]], measured[SCORES[task]]


def metric_in_place_of_loss(keys: Iterable[str], task: str) -> str:
    """Return the metric that compares trials in each epoch if the loss itself is searched.

    It is empty if no setting of the loss is among the searched `keys`: then the loss is compared.
    """
    return metric_name(task) if set(keys) & set(_LOSS_SETTINGS) else ""


class Report(keras.callbacks.Callback):
    """Reports the validation loss of each epoch to the search, and prunes a poor trial.

    Args:
        trial: trial that is running.
        keys: searched settings. If the loss itself is among them, the losses of two trials are not
            comparable, and one minus the metric is reported instead.
        task: `multiclass`, `multilabel` or `regression`.
        prunes: whether to prune poor trials.
        folds: number of folds; this callback sees only the first one.
        on_epoch: called after each epoch.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        keys: Sequence[str],
        task: str,
        prunes: bool,
        folds: int,
        on_epoch: Callable[[], None],
    ) -> None:
        super().__init__()
        self._trial = trial
        self._metric = metric_in_place_of_loss(keys, task)
        self._prunes = prunes
        self._folds = folds
        self._on_epoch = on_epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report the epoch to the search.

        Raises:
            TrialPruned: the trial is worse than the median of the others at this epoch.
        """
        self._trial.report(self._comparable(logs or {}), epoch + 1)
        self._on_epoch()
        is_last = epoch + 1 == self.params["epochs"] or self.model.stop_training
        has_ended = is_last and self._folds == 1  # then pruning would save nothing
        if self._prunes and not has_ended and self._trial.should_prune():
            raise optuna.TrialPruned(f"worse than the median of the others after epoch {epoch + 1}")

    def _comparable(self, logs: dict[str, Any]) -> float:
        if self._metric:
            return 1.0 - float(logs[f"val_{self._metric}"])
        # Keras' loss includes L1 and L2, which say nothing about the quality of predictions.
        penalties = sum(float(keras.ops.convert_to_numpy(each)) for each in self.model.losses)
        return float(logs["val_loss"]) - penalties
