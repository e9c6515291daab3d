"""Settings of earlier versions. They only serve error messages: no old name or value works."""

from collections.abc import Mapping
from typing import Any

from app.errors import ConfigError

_RENAMED = {
    "averaging": "optimizer.ema_momentum",
    "class_weights": "class_weight",
    "every": "optimizer.decay_epochs",
    "factor": "optimizer.decay_rate",
    "passes": "repeat",
    "training_shares": "train_sizes",
    "validation": "validation_split",
    "optimizer.averaging": "optimizer.ema_momentum",
    "optimizer.every": "optimizer.decay_epochs",
    "optimizer.factor": "optimizer.decay_rate",
}
_BOOLEANS = {"on": "true", "off": "false"}


def refuse_renamed(settings: Mapping[str, Any], source: str = "") -> None:
    """Require settings of this version.

    Args:
        settings: values by flat key.
        source: where they come from, such as the path of a file.

    Raises:
        ConfigError: some are from an earlier version. It names all of them with what they are now.
    """
    changes = [change for key, value in settings.items() if (change := _change(key, value))]
    if changes:
        place = f" in {source}" if source else ""
        raise ConfigError(f"Some settings{place} have changed: {'; '.join(changes)}.")


def _change(key: str, value: Any) -> str:
    if key in _RENAMED:
        return f"{key} is now {_RENAMED[key]}"
    if key == "keep" and value in ("best", "last"):  # it now names columns
        return f"keep={value} is now restore_best_weights={'true' if value == 'best' else 'false'}"
    if key in ("residual", "xla") and str(value) in _BOOLEANS:
        return f"{key}={value} is now {key}={_BOOLEANS[str(value)]}"
    return ""
