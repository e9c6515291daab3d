"""The rules of `app.config.chosen_defaults` in words, from the same numbers."""

from collections.abc import Mapping

from . import chosen_defaults as numbers


def _by_count(choices: Mapping[int, float], unit: str) -> str:
    """Return choices by the number of samples in words: `32, from 2,000 images on 64`."""
    ordered = sorted(choices.items())
    first = f"{ordered[0][1]:g}"
    more = [f"from {least:,} {unit} on {value:g}" for least, value in ordered[1:]]
    return ", ".join([first, *more])


_FROZEN = "a head on frozen features"
_SMOOTHED = "0.1 for classes and labels on images, or on frozen features unless l2 is chosen"
_MEMBERS = ", ".join(
    f"{count} for at most {most} columns" for most, count in numbers.MEMBERS.items()
)
# By flat key, how the family `features` chooses a default from the data.
CHOICE_RULES = {
    "image_size": "the size that suits the files",
    "epochs": f"rows: passes until {numbers.ROWS_READ:,} rows are read, from {numbers.MIN_PASSES} "
    f"to {numbers.MAX_PASSES}; images: {numbers.EPOCHS:,} divided by the square root of their "
    f"number, but at most {numbers.IMAGES_READ:,} divided by it, from {numbers.MIN_EPOCHS} to "
    f"{numbers.MAX_EPOCHS}, and divided by {numbers.GROWING_TIME} with progressive_resizing; "
    f"{_FROZEN}: {numbers.HEAD_EPOCHS}",
    "progressive_resizing": f"true for images of at least {numbers.LEAST_SIDE} pixels with "
    "backbone=residual",
    "repeat": f"rows: {_by_count(numbers.REPEATS, 'rows')}; {_FROZEN}: as many as give "
    f"{numbers.HEAD_EPOCHS} epochs {numbers.HEAD_STEPS:,} steps",
    "batch_size": f"rows: {_by_count(numbers.ROW_BATCH_SIZES, 'rows')}; images: "
    f"{_by_count(numbers.BATCH_SIZES, 'images')}",
    "patience": f"rows: {numbers.PATIENCE:.0%} of the epochs",
    "restore_best_weights": "rows: true",
    "validation_window": "rows: 5",
    "precision": "rows: float32",
    "label_smoothing": _SMOOTHED,
    "head_epochs": f"a backbone that was trained before: 1/{numbers.PARTS_OF_HEAD} of the epochs",
    "optimizer.name": "adamw; muon with backbone=residual",
    "optimizer.learning_rate": f"rows of classes: {_by_count(numbers.ROW_RATES, 'rows')}; of "
    f"values 0.005; a linear model or {_FROZEN} 0.01; images 0.01 with backbone=residual, 0.005 "
    "with a run, bundle or .keras file, 0.003 with mlp, 0.001 with others",
    "optimizer.weight_decay": "rows of classes 0.5, a linear model 0; of values: "
    f"{_by_count(numbers.VALUE_WEIGHT_DECAY, 'rows')}; images 0.2 with backbone=residual, 0.05 "
    f"with others; {_FROZEN} 0.05, with fewer than {numbers.FEW_SAMPLES:,} samples 0.5, and 0 if "
    "l2 is chosen",
    "l2": f"{_FROZEN}, of classes or labels, without hidden layers and with fewer than "
    f"{numbers.FEWEST_SAMPLES} samples: {numbers.HEAD_PENALTY:g} divided by their number, and by "
    "that of labels",
    "optimizer.beta_2": "rows of values: 0.95",
    "optimizer.warmup": "rows 0.05, images 0.2",
    "augmentation.flip": "true for classes and labels of images in color",
    "augmentation.shift": "images with classes or labels: 0.0625",
    "augmentation.erase": "images with classes or labels and backbone=residual: 0.25",
    "augmentation.randaugment": "images with classes or labels and backbone=residual: "
    f"{_by_count(numbers.RANDAUGMENT, 'images')}",
    "freeze": "all for rows with a backbone",
    "width": f"images with backbone=residual: {_by_count(numbers.WIDTHS, 'images')}",
    "hidden": f"rows: two layers of {_by_count(numbers.ROW_UNITS, 'rows')}; images with a backbone "
    "but mlp: none",
    "dropout": f"rows of classes: {_by_count(numbers.ROW_DROPOUT, 'rows')}; of values 0.1; images "
    "with a backbone but mlp: 0",
    "hidden_dropout": "rows: as dropout",
    "normalization": "rows: none",
    "scaling": "rows: robust",
    "numeric_embedding": f"rows: piecewise, with more than {numbers.MOST_EMBEDDED} columns none",
    "num_bins": f"rows: {_by_count(numbers.ROW_BINS, 'rows')}",
    "drop_binary": "rows: true",
    "max_one_hot": "rows: 32",
    "members": f"rows: {_MEMBERS}, otherwise 1",
    "wide": "rows: true",
    "clip_values": "rows of values: true",
}
