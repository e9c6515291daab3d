"""A sheet of the images that a model gets wrong, the worst first: classes, labels or values."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from app.data.datasets import Dataset
from serving.decisions import decide
from serving.written_numbers import write_number

from .plotting import save, short_names

_MISTAKES, _MISTAKES_IN_ROW = 36, 6
# In inches: a cell of the sheet of mistakes, caption included, and the longer side of its image.
_CELL_WIDTH, _CELL_HEIGHT, _IMAGE_SIDE = 1.5, 1.75, 1.3
# Captions with more characters take two lines, the second one with at most so many.
_CAPTION_LENGTH, _SECOND_LENGTH = 16, 20


def draw_mistakes(
    dataset: Dataset,
    test: np.ndarray,
    predictions: np.ndarray,
    thresholds: Sequence[float] | None,
    path: Path,
) -> None:
    """Write a PNG of the most confident mistakes, or the largest errors, if there are any.

    Args:
        dataset: a data set of images.
        test: indices of the test split, int64 `(samples,)`.
        predictions: probabilities or values for them, `(samples, outputs)`.
        thresholds: threshold of each class or label; None for the default.
        path: the file to write.
    """
    targets = dataset.targets[test]
    if is_value := dataset.task == "regression":
        sizes, caption = _errors(dataset, targets, predictions)
    elif dataset.task == "multilabel":
        sizes, caption = _wrong_labels(dataset, targets, predictions, thresholds)
    else:
        sizes, caption = _wrong_classes(dataset, targets, predictions, thresholds)
    wrong = np.flatnonzero(sizes >= 0)
    worst = wrong[np.argsort(-sizes[wrong], kind="stable")][:_MISTAKES]
    if not worst.size:
        return
    width = _MISTAKES_IN_ROW * _CELL_WIDTH
    height = -(-len(worst) // _MISTAKES_IN_ROW) * _CELL_HEIGHT
    figure = Figure(figsize=(width, height + 0.4), layout="constrained")
    axes = figure.subplots()  # shared: laying out axes for each image takes most of a second
    images = dataset.inputs[test[worst]]
    for place, (sample, image) in enumerate(zip(worst, images, strict=True)):
        row, column = divmod(place, _MISTAKES_IN_ROW)
        middle, top = (column + 0.5) * _CELL_WIDTH, row * _CELL_HEIGHT
        _show_image(axes, image, middle, top, caption(sample))
    axes.set(xlim=(0, width), ylim=(height, -0.05), aspect="equal")  # the frame of the first row
    axes.set_axis_off()
    shown, found = len(worst), f"{len(wrong):,}"
    told = f"{shown} largest of {found} errors" if is_value else f"{shown} of {found} mistakes"
    figure.suptitle(f"true → predicted{'' if is_value else ', confidence'}: {told}")
    save(figure, path)


# For each sample, how bad the mistake is, negative without any; and its caption.
_Mistakes = tuple[np.ndarray, Callable[[int], str]]


def _wrong_classes(
    dataset: Dataset,
    targets: np.ndarray,
    probabilities: np.ndarray,
    thresholds: Sequence[float] | None,
) -> _Mistakes:
    predicted = decide("multiclass", probabilities, thresholds)
    confidences = probabilities[np.arange(len(predicted)), predicted]

    def caption(sample: int) -> str:
        true, taken = (dataset.labels[k[sample]] for k in (targets, predicted))
        return _caption(true, taken, confidences[sample])

    return np.where(predicted != targets, confidences, -1), caption


def _wrong_labels(
    dataset: Dataset,
    targets: np.ndarray,
    probabilities: np.ndarray,
    thresholds: Sequence[float] | None,
) -> _Mistakes:
    """Return the most confident of the wrong labels of each image."""
    is_set, names = decide("multilabel", probabilities, thresholds), _names(dataset)
    sizes = np.where(
        is_set != (targets == 1), np.where(is_set, probabilities, 1 - probabilities), -1
    )
    worst = sizes.argmax(axis=1)

    def caption(sample: int) -> str:
        label = worst[sample]
        change = "no → yes" if is_set[sample, label] else "yes → no"
        return f"{names[label]}:\n{change} {sizes[sample, label]:.2f}"

    return sizes.max(axis=1), caption


def _errors(dataset: Dataset, targets: np.ndarray, values: np.ndarray) -> _Mistakes:
    """Return the largest error of each image, relative to how far the true values spread."""
    spread, names = targets.std(axis=0), _names(dataset)
    sizes = np.abs(values - targets) / np.where(spread > 0, spread, 1)
    worst = sizes.argmax(axis=1)

    def caption(sample: int) -> str:
        pair = (write_number(array[sample, worst[sample]]) for array in (targets, values))
        name = f"{names[worst[sample]]}:\n" if len(names) > 1 else ""
        return name + " → ".join(pair)

    largest = sizes.max(axis=1)
    return np.where(largest > 0, largest, -1), caption


def _names(dataset: Dataset) -> list[str]:
    return short_names(dataset.labels, _SECOND_LENGTH)


def _show_image(axes: Any, image: np.ndarray, middle: float, top: float, caption: str) -> None:
    """Show an image in a frame with a caption below. Positions are in inches from the top."""
    rows, columns = image.shape[:2]
    height, width = (_IMAGE_SIDE * side / max(rows, columns) for side in (rows, columns))
    left, right, bottom = middle - width / 2, middle + width / 2, top + height
    colors = "gray_r" if image.ndim == 2 else "gray"  # digits are ink on paper
    axes.imshow(image, cmap=colors, vmin=0, vmax=255, extent=(left, right, bottom, top))
    axes.add_patch(Rectangle((left, top), width, height, fill=False, linewidth=0.8))
    axes.text(middle, bottom + 0.05, caption, ha="center", va="top", fontsize=8)


def _caption(true: str, predicted: str, confidence: float) -> str:
    end = f" {confidence:.2f}"
    line = f"{' → '.join(short_names((true, predicted)))}{end}"
    if len(line) <= _CAPTION_LENGTH:
        return line
    first, second = short_names((true, predicted), _SECOND_LENGTH - len("→ ") - len(end))
    return f"{first}\n→ {second}{end}"
