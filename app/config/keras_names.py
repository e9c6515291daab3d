"""Names of Keras' losses and metrics, which are checked before Keras is imported."""

import re
from collections.abc import Iterable

from app.system.user_code import is_reference
from models.checks import suggest

# Losses that suit the heads of families, and the choice among them.
LOSSES = ("auto", "cross_entropy", "binary_cross_entropy", "mse", "kl_divergence")
# Other losses of Keras.
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
    "acc": "accuracy",
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


def check_loss(name: str) -> None:
    """Require the name of a loss or a reference.

    Raises:
        ValueError: it is neither.
    """
    if name not in LOSSES and keras_name(name) not in KERAS_LOSSES and not is_reference(name):
        raise ValueError(
            f"loss must be one of {', '.join(LOSSES)}, another loss of Keras such as huber, or "
            f"file.py:name. Received: loss={name!r}.{suggest(name, (*LOSSES, *KERAS_LOSSES))}"
        )


def check_metrics(names: Iterable[str]) -> None:
    """Require names of metrics or references.

    Raises:
        ValueError: one is neither.
    """
    for name in names:
        if keras_name(name) not in KERAS_METRICS and not is_reference(name):
            raise ValueError(
                "metrics must be metrics of Keras such as auc, or file.py:name. "
                f"Received: metrics={name!r}.{suggest(name, KERAS_METRICS)}"
            )


def check_references(names: Iterable[str]) -> None:
    """Require references to callbacks.

    Raises:
        ValueError: one is none.
    """
    for name in names:
        if not is_reference(name):
            raise ValueError(
                f"callbacks must be file.py:name or module:name. Received: callbacks={name!r}."
            )
