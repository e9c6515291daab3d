"""Names of Keras' losses and metrics, which are checked before Keras is imported."""

import re
from collections.abc import Sequence

from app.system.user_code import is_reference
from models.checks import suggest

KERAS_LOSSES = (
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "circle",
    "cosine_similarity",
    "dice",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "tversky",
)
# Metrics that need no arguments.
KERAS_METRICS = (
    "accuracy",
    "auc",
    "binary_accuracy",
    "binary_crossentropy",
    "binary_io_u",
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_hinge",
    "concordance_correlation",
    "cosine_similarity",
    "f1_score",
    "false_negatives",
    "false_positives",
    "hinge",
    "kl_divergence",
    "log_cosh_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "pearson_correlation",
    "poisson",
    "precision",
    "r2_score",
    "recall",
    "root_mean_squared_error",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
    "squared_hinge",
    "top_k_categorical_accuracy",
    "true_negatives",
    "true_positives",
)
_SHORT = {
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "mse": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
    "bce": "binary_crossentropy",
    "kld": "kl_divergence",
}


def keras_name(name: str) -> str:
    """Return the name of a function for that of a class or a short one: `huber` for `Huber`."""
    words = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    snake = re.sub("([a-z0-9])([A-Z])", r"\1_\2", words).lower()
    return _SHORT.get(snake, snake)


def check_loss(name: str, own: Sequence[str]) -> None:
    """Require the name of a loss or a reference.

    Args:
        name: the value of the setting.
        own: names that are no losses of Keras.

    Raises:
        ValueError: it is neither.
    """
    if name not in own and keras_name(name) not in KERAS_LOSSES and not is_reference(name):
        hint = suggest(name, (*own, *KERAS_LOSSES))
        raise ValueError(
            f"loss must be one of {', '.join(own)}, another loss of Keras such as huber, or "
            f"file.py:name. Received: loss={name!r}.{hint}"
        )


def check_metric(name: str) -> None:
    """Require the name of a metric or a reference.

    Raises:
        ValueError: it is neither.
    """
    if keras_name(name) not in KERAS_METRICS and not is_reference(name):
        raise ValueError(
            "metrics must be metrics of Keras such as auc, or file.py:name. "
            f"Received: metrics={name!r}.{suggest(name, KERAS_METRICS)}"
        )
