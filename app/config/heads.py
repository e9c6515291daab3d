"""Settings of a head that is trained on the features of a model, for `--on-features`."""

from collections.abc import Mapping
from typing import Any

from app.errors import ConfigError

# Settings of the backbone itself.
_OF_BACKBONE = ("backbone", "weights", "freeze", "width", "depth", "head_epochs", "backbone_rate")
_SOFTMAX = {"head": "softmax", "hidden": [], "dropout": 0.0}


def head_settings(
    family: str | None, model: str, settings: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return family and settings of a head on the features of a trained model.

    A softmax regression on features is the family `features` without hidden layers.

    Args:
        family: `softmax` or `features`; None means `features`.
        model: a run, a bundle or a `.keras` file.
        settings: the other settings that the user has given, by flat key.

    Raises:
        ConfigError: the family takes no features, or a setting contradicts the head.
    """
    if family not in ("softmax", "features", None):
        raise ConfigError(
            "--on-features needs the family softmax or features, which train a head. "
            f"Received: {family}."
        )
    target = settings.get("target", ())
    if family == "softmax" and isinstance(target, list | tuple) and len(target) > 1:
        raise ConfigError(
            "A softmax regression on features predicts one column of classes. "
            f"Received: target={','.join(target)}. Use the family features with head=sigmoid for "
            "labels, or head=linear for values."
        )
    for key, value in settings.items():
        if key in _OF_BACKBONE:
            raise ConfigError(
                f"--on-features keeps the weights of {model}. "
                f"Received: {key}={value}. Leave it out, or use --set backbone={model} instead of "
                "--on-features."
            )
        if family == "softmax" and key in _SOFTMAX:
            raise ConfigError(
                "A softmax regression on features is a single layer for classes. "
                f"Received: {key}={value}. Use the family features."
            )
    return "features", {
        **settings,
        **(_SOFTMAX if family == "softmax" else {}),
        "backbone": model,
        "freeze": "all",
    }
