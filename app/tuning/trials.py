"""One trial: a configuration is trained by the project's own `fit`, and measured on validation."""

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
from app.evaluation.metrics import SCORES, measure, predict_targets
from app.system.memory import translate_out_of_memory
from app.training.fit import fit
from app.training.losses import metric_name

# What a search lowers: a mean over samples without penalties, comparable whatever was trained on.
LOSSES = {"multiclass": "cross_entropy", "multilabel": "binary_cross_entropy", "regression": "rmse"}
_DECIDE_THE_LOSS = ("loss", "label_smoothing")
_NONE = np.array([], np.int64)


@dataclass(frozen=True)
class TrialData:
    """What trials train and are measured on. No sample of the test split is in it.

    Attributes:
        dataset: the samples outside the test split; on disk if the source's are.
        parts: training and validation splits; one, or one for each fold.
    """

    dataset: Dataset
    parts: tuple[Splits, ...]


@dataclass(frozen=True)
class Outcome:
    """What a trial found, as means over folds.

    Attributes:
        loss: on validation, see `LOSSES`.
        score: on validation, see `app.evaluation.metrics.SCORES`.
    """

    loss: float
    score: float


def make_trial_data(config: RunConfig, dataset: Dataset, folds: int) -> TrialData:
    """Take the test split away, and part the rest.

    Args:
        config: whose seed and share of validation decide, as in the run that refits the best.
        dataset: as it was read.
        folds: of a cross validation; 1 for the validation split.

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
        test_start=None,
    )


def _fold(dataset: Dataset, folds: int, seed: int) -> Iterator[Splits]:
    is_classes = dataset.task == "multiclass"
    rarest = int(np.bincount(dataset.targets).min()) if is_classes else len(dataset.targets)
    if is_classes and rarest < folds:
        raise DataError(
            f"Each class must have a sample for each fold. Received: folds={folds}, "
            f"and {rarest} samples of the rarest outside the test split of {dataset.source}."
        )
    if not is_classes and rarest < MIN_VALUES * folds:
        raise DataError(
            f"Each fold must have {MIN_VALUES} samples or more, to tell how much they vary. "
            f"Received: folds={folds}, and {rarest} samples outside the test split of "
            f"{dataset.source}."
        )
    kind = StratifiedKFold if is_classes else KFold
    cut = kind(folds, shuffle=True, random_state=seed).split(dataset.targets, dataset.targets)
    return (Splits(train, validation, _NONE) for train, validation in cut)


def evaluate(
    config: RunConfig, material: TrialData, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> Outcome:
    """Train on each part and measure on its validation split.

    Args:
        config: of the trial.
        material: what to train on.
        callbacks: of the first part's training; these may raise `optuna.TrialPruned`.

    Raises:
        ConfigError: the values contradict each other or the data.
        RunError: the loss is no longer finite, or the model too large for this machine.
    """
    with translate_out_of_memory():
        found = [
            _train_and_measure(config, material.dataset, part, callbacks if number == 0 else ())
            for number, part in enumerate(material.parts)
        ]
    return Outcome(*np.mean(found, axis=0).tolist())


def _train_and_measure(
    config: RunConfig,
    dataset: Dataset,
    part: Splits,
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[float, float]:
    keras.utils.clear_session()  # else each trial's graphs stay in memory
    model = fit(config, dataset, part, callbacks).model
    kind = dataset.task
    answers = predict_targets(model, dataset, part.validation)
    measured = measure(kind, dataset.targets[part.validation], answers)
    return measured[LOSSES[kind]], measured[SCORES[kind]]


def metric_in_place_of_loss(keys: Iterable[str], task: str) -> str:
    """Return the metric whose distance from 1 trials are compared by in each epoch.

    It is empty where that is the loss: unless the loss itself is among the `keys` searched.
    """
    return metric_name(task) if set(keys) & set(_DECIDE_THE_LOSS) else ""


class Report(keras.callbacks.Callback):
    """Reports the validation loss of each epoch to the study, and ends a poor trial.

    Args:
        trial: that is run.
        keys: what is searched. Where the loss itself is, losses of two trials mean different
            things, and one minus the metric is reported.
        task: `multiclass`, `multilabel` or `regression`.
        prunes: whether poor trials end.
        folds: trained in turn, of which this is told of the first.
        after_epoch: called after each epoch.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        keys: Sequence[str],
        task: str,
        prunes: bool,
        folds: int,
        after_epoch: Callable[[], None],
    ) -> None:
        super().__init__()
        self._trial = trial
        self._metric = metric_in_place_of_loss(keys, task)
        self._prunes = prunes
        self._folds = folds
        self._after_epoch = after_epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report.

        Raises:
            TrialPruned: the trial is poorer than the others were at this epoch.
        """
        self._trial.report(self._comparable(logs or {}), epoch + 1)
        self._after_epoch()
        is_last = epoch + 1 == self.params["epochs"] or self.model.stop_training
        has_ended = is_last and self._folds == 1  # then nothing is left to spare
        if self._prunes and not has_ended and self._trial.should_prune():
            raise optuna.TrialPruned(f"poorer than others after epoch {epoch + 1}")

    def _comparable(self, logs: dict[str, Any]) -> float:
        if self._metric:
            return 1.0 - float(logs[f"val_{self._metric}"])
        # L1 and L2 are part of Keras' loss, and no part of how well a model predicts.
        penalties = sum(float(keras.ops.convert_to_numpy(each)) for each in self.model.losses)
        return float(logs["val_loss"]) - penalties
