"""The space that a search without `--search` goes through: ranges around the chosen defaults."""

from collections.abc import Mapping
from typing import Any

from app.config.run_config import RunConfig, flat_config
from app.config.training_config import DECAYING

# A fraction must be below 1.
_LARGEST_FRACTION = 0.95


def default_space(base: RunConfig, kind: str) -> dict[str, str]:
    """Return the settings that matter most for a model and its data, and the values to search.

    Each range holds the value of `base`, so that a search can begin with it: no search then ends
    with a higher validation loss than the defaults have.

    Args:
        base: configuration with the defaults that suit the data.
        kind: `rows` or `images`.

    Returns:
        The values of each setting by flat key, as in `app.tuning.search_space.parse_space`.
    """
    settings = flat_config(base)
    space = {}
    if not base.training.optimizer.is_own:  # which has its own learning rate
        space["optimizer.learning_rate"] = _around(settings["optimizer.learning_rate"], 4)
    decay = settings["optimizer.weight_decay"]
    if settings["optimizer.name"] in DECAYING and decay:
        space["optimizer.weight_decay"] = _around(decay, 10, _LARGEST_FRACTION)
    if base.family == "features" and settings["l2"]:
        space["l2"] = _around(settings["l2"], 10)
    if base.family == "softmax":
        return space | _softmax_space(settings)
    space["dropout"] = _fraction(settings["dropout"], 0.5)
    if base.family == "digits":
        return space | _digit_space(settings)
    return space | (_row_space if kind == "rows" else _image_space)(base, settings)


def _softmax_space(settings: Mapping[str, Any]) -> dict[str, str]:
    penalties = sorted({settings["l2"], 0.0, 1e-5, 1e-4, 1e-3, 1e-2})
    return {
        "l2": f"choice:{'|'.join(map(repr, penalties))}",
        "batch_size": _around(settings["batch_size"], 4),
    }


def _digit_space(settings: Mapping[str, Any]) -> dict[str, str]:
    space = {
        "augmentation.rotation": _range(settings["augmentation.rotation"], 20),
        "augmentation.shift": _fraction(settings["augmentation.shift"], 0.1),
        "augmentation.scale": _fraction(settings["augmentation.scale"], 0.2),
    }
    return space | (_layers(settings) if settings["variant"] == "mlp" else {})


def _row_space(base: RunConfig, settings: Mapping[str, Any]) -> dict[str, str]:
    model: Any = base.model
    if model.is_trained or not settings["hidden"]:
        return {}
    return {
        **_layers(settings),
        "hidden_dropout": _fraction(settings["hidden_dropout"], 0.5),
        "numeric_embedding": "choice:none|piecewise|periodic",
        "num_bins": _around(settings["num_bins"], 4),
        "wide": "choice:true|false",
    }


def _image_space(base: RunConfig, settings: Mapping[str, Any]) -> dict[str, str]:
    model: Any = base.model
    if base.learns_head_only:
        return {}
    space = {}
    if model.head != "linear":  # values may change with the image
        space = {
            "augmentation.shift": _fraction(settings["augmentation.shift"], 0.15),
            "augmentation.scale": _fraction(settings["augmentation.scale"], 0.3),
            "augmentation.erase": _fraction(settings["augmentation.erase"], 0.5),
        }
    if model.has_two_phases:
        space["backbone_rate"] = _around(settings["backbone_rate"], 10)
    return space | (_layers(settings) if settings["backbone"] == "mlp" else {})


def _layers(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the space of hidden layers of one width; empty if the defaults have several widths."""
    hidden = settings["hidden"]
    if len(set(hidden)) != 1:
        return {}
    units = hidden[0]
    return {"hidden": f"layers:1..{max(3, len(hidden))}x{max(units // 4, 4)}..{2 * units}"}


def _around(value: float, factor: float, most: float = float("inf")) -> str:
    if isinstance(value, int):
        return f"log:{max(round(value / factor), min(value, 2))}..{round(value * factor)}"
    return f"log:{value / factor:.3g}..{min(value * factor, max(value, most)):.3g}"


def _fraction(value: float, most: float) -> str:
    return _range(value, min(most, _LARGEST_FRACTION))


def _range(value: float, most: float) -> str:
    return f"uniform:0..{max(value, most):.6g}"
