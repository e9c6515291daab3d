"""Compares two bundles, versions or runs on the same samples."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from app.batch.reading import read_files
from app.data.datasets import Dataset
from app.data.labeled import read_labeled
from app.data.measured import choose_measured, warn_of_seen
from app.errors import DataError
from app.evaluation.comparison import (
    Answers,
    answer_names,
    change_matrix,
    compare_answers,
    compare_scores,
)
from app.evaluation.evaluations import data_gaps
from app.evaluation.metrics import make_scorer
from serving.bundle import version_numbers
from serving.errors import InputError, first_few
from serving.golden import read_golden
from serving.manifest import TASKS, Manifest
from serving.parity import Inputs, count_samples, take_samples
from serving.predictor import Predictor
from serving.timing import quartiles_ms

from .evaluating import reading_of
from .opening import is_run, opened, predict, title_of

# Batch sizes that are timed, and for about how long each.
_BATCH_SIZES = (1, 64)
_SECONDS, _MOST_ROUNDS, _LEAST_ROUNDS = 0.3, 60, 6
# Resamples of a comparison, and of a brief one.
_MOST_RESAMPLES, _FEW_RESAMPLES = 1000, 100
# A larger matrix of changes is a list of them.
_MATRIX = 30
_FACTS = ("family", "parameters", "opset", "preprocessing")


@dataclass(frozen=True)
class Comparison:
    """What a comparison has found.

    Attributes:
        facts: `models`, `measured_on`, `task`, `settings`, `latency`; what
            `app.evaluation.comparison.compare_answers` returns, with the names of examples; of
            labeled data also `positive`, the positive one of two classes, and what `compare_scores`
            and `app.evaluation.evaluations.data_gaps` return; of files without targets `left_out`,
            a reason for each image that could not be read, if there are any; and `matrix` for at
            most thirty classes.
        labels: labels of the first model.
        pictures: images of examples by the index of the sample, uint8 `(height, width)` or with
            channels at the end; empty if the samples are no images.
    """

    facts: dict[str, Any]
    labels: tuple[str, ...]
    pictures: dict[int, np.ndarray]


def compare(
    first: Path,
    second: Path,
    *,
    data: str = "",
    files: str = "",
    given: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compare what two models answer.

    Args:
        first: bundle, version or run, such as what runs now.
        second: the same, such as what is to replace it.
        data: labeled data source; empty if `files` are given.
        files: pattern of files without targets, see `app.batch.files.find_files`.
        given: how labeled data is read, see `app.bundles.evaluating.reading_of`; of `files` only
            `image_column` is used.

    Raises:
        ManifestError: a bundle cannot be used.
        RunError: a run cannot be used.
        DataError: the models differ in task or labels, or the data cannot be used.
    """
    paths = (first, second)
    with ExitStack() as stack:
        predictors = [stack.enter_context(opened(path)) for path in paths]
        _require_same_targets(*(predictor.manifest for predictor in predictors))
        if data:
            samples = _labeled_samples(predictors, data, given or {})
        else:
            samples = _other_samples(predictors, files, (given or {}).get("image_column"))
        return _compared(predictors, paths, samples)


def previous_version(folder: Path) -> Path | None:
    """Return the folder of the version before a version; None if there is none."""
    number = int(folder.name)
    before = [one for one in version_numbers(folder.parent) if one < number]
    return folder.parent / str(before[-1]) if before else None


@dataclass(frozen=True)
class KnownSamples:
    """Labeled samples that an export has read, and that its model was not trained on.

    Attributes:
        dataset: the samples.
        source: what they were read from.
        indices: those to compare on, int64 `(samples,)`.
        description: what they are.
        given: how the source is read, see `app.bundles.evaluating.reading_of`; empty if the version
            itself says so.
    """

    dataset: Dataset
    source: str
    indices: np.ndarray
    description: str
    given: Mapping[str, Any] = field(default_factory=dict)


def compare_with_previous(folder: Path, known: KnownSamples | None = None) -> dict[str, Any]:
    """Compare a version with the one before it, briefly: differences have wider intervals.

    Args:
        folder: folder of a version that is not the first.
        known: the samples, of which only those count that the version before was not trained on
            either; None to compare on the golden samples of both.

    Raises:
        ManifestError: the version before is broken.
        DataError: the versions cannot be compared, or no sample is left.
    """
    paths = (previous_version(folder) or folder, folder)
    with ExitStack() as stack:
        predictors = [stack.enter_context(opened(path)) for path in paths]
        _require_same_targets(*(predictor.manifest for predictor in predictors))
        if known is None:
            samples = _golden_samples(predictors, paths)
        else:
            indices, measured_on = _new_to_both(known, predictors[0].manifest)
            datasets = [_read_before(known, *(p.manifest for p in predictors)), known.dataset]
            samples = _dataset_samples(predictors, datasets, indices, measured_on)
        return _compared(predictors, paths, samples, _FEW_RESAMPLES).facts


def _read_before(known: KnownSamples, previous: Manifest, current: Manifest) -> Dataset:
    """Return the known samples as the version before reads them, such as columns in its order."""
    if not _reads_otherwise(previous, current):
        return known.dataset
    dataset = read_labeled(known.source, previous, reading_of(current, known.given))
    _require_same_samples(dataset, known.dataset, known.source)
    return dataset


def _new_to_both(known: KnownSamples, previous: Manifest) -> tuple[np.ndarray, str]:
    """Return the known samples that the version before was not trained on, and what they are."""
    others, _ = choose_measured(known.dataset, known.source, [previous])
    indices = np.intersect1d(known.indices, others)
    if len(indices) == len(known.indices):
        remark = warn_of_seen(known.dataset, known.source, [previous])
        return indices, known.description + remark
    if not len(indices):
        raise DataError(
            f"Versions are compared on samples that neither was trained on. Received: none of "
            f"{known.description}. Compare them on other data with hornbill compare --data."
        )
    return indices, f"the {len(indices):,} of {known.description} that are new to both versions"


def _golden_samples(predictors: Sequence[Predictor], paths: Sequence[Path]) -> "_Samples":
    """Return the golden samples of both versions, which both predict.

    Those of two versions are predicted separately: variable axes may have other sizes.
    """
    found: list[Inputs] = [
        dict(read_golden(path, "input", predictor.manifest.inputs))
        for path, predictor in zip(paths, predictors, strict=True)
    ]
    counts = [count_samples(inputs) for inputs in found]
    return _Samples(
        f"the {sum(counts)} golden samples of both",
        [
            np.concatenate(
                [
                    predictor.predict(inputs).outputs[str(predictor.manifest.prediction_output)]
                    for inputs in found
                ]
            )
            for predictor in predictors
        ],
        lambda _, size: take_samples(found[0], np.resize(np.arange(counts[0]), size)),
        lambda number: f"golden sample {number}",
        lambda _: None,
    )


def _compared(
    predictors: Sequence[Predictor],
    paths: Sequence[Path],
    samples: "_Samples",
    resamples: int = _MOST_RESAMPLES,
) -> Comparison:
    manifests = [predictor.manifest for predictor in predictors]
    answers = [
        Answers(manifest, found)
        for manifest, found in zip(manifests, samples.predictions, strict=True)
    ]
    answers[1] = _in_order_of(answers[0], answers[1])
    facts: dict[str, Any] = {
        "models": [_describe(*pair) for pair in zip(predictors, paths, strict=True)],
        "measured_on": samples.measured_on,
        "task": manifests[0].task,
        **compare_answers(*answers),
    }
    if manifests[0].task == "multiclass" and len(manifests[0].labels) <= _MATRIX:
        facts["matrix"] = change_matrix(*answers)
    if samples.dataset is not None:
        facts |= _scores(answers, samples.dataset, samples.indices, resamples)
    elif samples.left_out:
        facts["left_out"] = list(samples.left_out)
    facts["latency"] = _latency(predictors, samples.batch)
    facts["settings"] = changed_settings(*manifests)
    pictures: dict[int, np.ndarray] = {}
    for change in facts.get("changes", ()):
        examples = change["examples"]
        pictures |= {n: image for n in examples if (image := samples.picture(n)) is not None}
        change["examples"] = [_example(answers, samples, number) for number in examples]
    return Comparison(facts, manifests[0].labels, pictures)


@dataclass(frozen=True)
class _Samples:
    """Samples that both models have predicted.

    Attributes:
        measured_on: what they are.
        predictions: what each model predicts for them, `(samples, labels)`.
        batch: some inputs of each model, by its number and how many.
        name: function from the index of a sample to its name.
        picture: function from the index of a sample to its image; None if it is none.
        dataset: the data, if it is labeled.
        indices: the samples of the data that were measured.
        left_out: a reason for each image of files without targets that could not be read.
    """

    measured_on: str
    predictions: list[np.ndarray]
    batch: Callable[[int, int], Inputs]
    name: Callable[[int], str]
    picture: Callable[[int], np.ndarray | None]
    dataset: Dataset | None = None
    indices: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    left_out: tuple[str, ...] = ()


def _require_same_targets(first: Manifest, second: Manifest) -> None:
    for what in ("task", "labels"):
        ours, theirs = getattr(first, what), getattr(second, what)
        if ours == theirs or (what == "labels" and sorted(ours) == sorted(theirs)):
            continue
        received = f"{ours} and {theirs}"
        if what == "labels":
            named = TASKS[first.task]
            only = [[n for n in a if n not in b] for a, b in ((ours, theirs), (theirs, ours))]
            received = " and ".join(
                f"{len(labels)} {named}{f' with {first_few(more)}' if more else ''}"
                for labels, more in zip((ours, theirs), only, strict=True)
            )
        raise DataError(
            f"Models that are compared must have the same {what}. Received: {received}."
        )
    for label, unit in first.target_units.items():
        other = second.target_units.get(label, unit)  # earlier versions had none
        if unit.casefold() != other.casefold():
            raise DataError(
                f"Models that are compared must have {label} in the same unit. "
                f"Received: {unit} and {other}."
            )
    if first.prediction_output is None:
        raise DataError(
            "Models that are compared must have labels. "
            f"Received: {first.name}, which has none. Export it with --labels."
        )


def _in_order_of(first: Answers, second: Answers) -> Answers:
    """Return the second answers with the labels in the order of the first."""
    labels = list(second.manifest.labels)
    if first.manifest.labels == second.manifest.labels:
        return second
    order = [labels.index(label) for label in first.manifest.labels]
    thresholds = second.manifest.thresholds
    if thresholds is not None:
        values, precision, recall = (
            tuple(column[n] for n in order)
            for column in (thresholds.values, thresholds.precision, thresholds.recall)
        )
        thresholds = replace(thresholds, values=values, precision=precision, recall=recall)
    manifest = replace(second.manifest, labels=first.manifest.labels, thresholds=thresholds)
    return Answers(manifest, second.predictions[:, order])


def _labeled_samples(
    predictors: Sequence[Predictor], source: str, given: Mapping[str, Any]
) -> _Samples:
    """Read labeled data for each model, and predict it. Each takes its own columns and sizes."""
    manifests = [predictor.manifest for predictor in predictors]
    first = read_labeled(source, manifests[0], reading_of(manifests[0], given))
    datasets = [first, first]
    if _reads_otherwise(*manifests):
        # the labels of the first model, whose order counts
        reading = reading_of(manifests[0], given)
        datasets[1] = read_labeled(source, manifests[1], reading)
    _require_same_samples(first, datasets[1], source)
    indices, measured_on = choose_measured(first, source, manifests)
    return _dataset_samples(predictors, datasets, indices, measured_on)


def _require_same_samples(first: Dataset, second: Dataset, source: str) -> None:
    if len(first.targets) != len(second.targets):
        raise DataError(
            f"Both models must be able to read the same samples of {source}. Received: "
            f"{len(first.targets):,} and {len(second.targets):,}."
        )


def _dataset_samples(
    predictors: Sequence[Predictor],
    datasets: Sequence[Dataset],
    indices: np.ndarray,
    measured_on: str,
) -> _Samples:
    """Predict samples of data that was read for each model."""
    first = datasets[0]

    def batch(model: int, size: int) -> Inputs:
        found: Inputs = datasets[model].model_inputs(np.resize(indices, size))
        return found

    def name(number: int) -> str:
        return first.files[indices[number]] if first.files else f"sample {indices[number]:,}"

    def picture(number: int) -> np.ndarray | None:
        return first.inputs[indices[[number]]][0] if first.kind == "images" else None

    return _Samples(
        measured_on,
        [predict(p, d, indices) for p, d in zip(predictors, datasets, strict=True)],
        batch,
        name,
        picture,
        first,
        indices,
    )


def _reads_otherwise(first: Manifest, second: Manifest) -> bool:
    """Return whether two models read data in different ways."""
    keys = ("inputs", "labels", "columns", "string_columns", "nullable_columns", "row_format")
    return any(getattr(first, key) != getattr(second, key) for key in (*keys, "family"))


def _other_samples(
    predictors: Sequence[Predictor], pattern: str, image_column: str | None
) -> _Samples:
    """Read files without targets for each model, and predict them."""
    left_out: list[str] = []

    def set_aside(_: str, error: InputError) -> None:
        left_out.append(str(error))

    manifests = [predictor.manifest for predictor in predictors]
    read = [
        read_files(pattern, manifest, set_aside, image_column)
        for manifest in (manifests if _reads_otherwise(*manifests) else manifests[:1])
    ]
    inputs, names = [found.inputs for found in read], read[0].names
    if names != read[-1].names:
        only = sorted(set(names) ^ set(read[-1].names))
        raise DataError(
            f"Both models must be able to read the same samples of {pattern}. Received: "
            f"{first_few(only)}, which only one can read."
        )
    inputs = [inputs[0], inputs[-1]]
    found = [
        predictor.predict(given).outputs[str(predictor.manifest.prediction_output)]
        for predictor, given in zip(predictors, inputs, strict=True)
    ]
    images = inputs[0] if isinstance(inputs[0], np.ndarray) else None
    is_image = images is not None and images.dtype == np.uint8 and images.ndim in (3, 4)
    return _Samples(
        f"{len(names):,} samples of {pattern}",
        found,
        lambda model, size: take_samples(
            inputs[model], np.resize(np.arange(count_samples(inputs[model])), size)
        ),
        lambda number: names[number],
        lambda number: images[number] if is_image and images is not None else None,
        left_out=tuple(dict.fromkeys(left_out)),
    )


def _scores(
    answers: Sequence[Answers], dataset: Dataset, indices: np.ndarray, resamples: int
) -> dict[str, Any]:
    targets = dataset.targets[indices]
    scorers = [
        make_scorer(
            each.manifest.task,
            targets,
            each.predictions,
            None if each.manifest.thresholds is None else each.manifest.thresholds.values,
            dataset.positive,
        )
        for each in answers
    ]
    return {
        "positive": dataset.positive_label,
        **data_gaps(dataset, indices),
        **compare_scores(answers, scorers, targets, resamples),
    }


def _example(answers: Sequence[Answers], samples: _Samples, number: int) -> dict[str, Any]:
    """Return a sample whose answer changes: its name, its target, and both confidences."""
    found: dict[str, Any] = {"sample": samples.name(number), "number": number}
    manifest = answers[0].manifest
    if samples.dataset is not None:
        target = samples.dataset.targets[samples.indices[number]]
        known = Answers(manifest, np.eye(len(manifest.labels))[[target]])
        if manifest.task == "multilabel":
            known = Answers(manifest, target[np.newaxis])
        found["true"] = _plain_names(known)
    for key, each in zip(("first", "second"), answers, strict=True):
        name, row = answer_names(each, np.array([number]))[0], each.predictions[number]
        if manifest.task == "multiclass":
            found[key] = float(row[manifest.labels.index(name)])
        else:
            found[key] = dict(zip(manifest.labels, row.tolist(), strict=True))
    return found


def _plain_names(answers: Answers) -> str:
    """Return the names of targets, to which no threshold applies."""
    labels, (row,) = answers.manifest.labels, answers.predictions
    return ", ".join(label for label, is_set in zip(labels, row, strict=True) if is_set) or "none"


def _describe(predictor: Predictor, path: Path) -> dict[str, Any]:
    manifest = predictor.manifest
    return {
        "title": title_of(path, manifest),
        "name": manifest.name,
        "version": manifest.version,
        "created": None if is_run(path) else manifest.created,
        "parameters": manifest.parameters,
        "precision": predictor.precision,
    }


def changed_settings(first: Manifest, second: Manifest) -> dict[str, list[Any]]:
    """Return what differs in how two models were made, by key: both values, None for none."""
    found = {key: [getattr(m, key) for m in (first, second)] for key in _FACTS}
    for part in ("config", "data"):
        pair = [getattr(manifest, part) for manifest in (first, second)]
        for key in dict.fromkeys((*pair[0], *pair[1])):
            name = key if part == "config" else f"data.{key}"
            found[name] = [values.get(key) for values in pair]
    rules = [m.thresholds and m.thresholds.rule for m in (first, second)]
    temperatures = [m.calibration and m.calibration.temperature for m in (first, second)]
    found |= {"threshold": rules, "temperature": temperatures}
    return {key: list(pair) for key, pair in found.items() if pair[0] != pair[1]}


def _latency(
    predictors: Sequence[Predictor], batch: Callable[[int, int], Inputs]
) -> dict[str, dict[str, float]]:
    """Return the median latency of both models in turns, by batch size, and their ratio."""
    found = {}
    for size in _BATCH_SIZES:
        calls = {
            key: _call(predictor, batch(number, size))
            for number, (key, predictor) in enumerate(
                zip(("first", "second"), predictors, strict=True)
            )
        }
        once = sum(row[1] for row in quartiles_ms(calls, 2, warm_up=1).values()) / 1000
        rounds = int(np.clip(_SECONDS / max(once, 1e-6), _LEAST_ROUNDS, _MOST_ROUNDS))
        times = quartiles_ms(calls, rounds)
        medians = {f"{key}_ms": row[1] for key, row in times.items()}
        found[str(size)] = {**medians, "ratio": times["second"][1] / times["first"][1]}
    return found


def _call(predictor: Predictor, inputs: Inputs) -> Callable[[], object]:
    return lambda: predictor.predict(inputs)
