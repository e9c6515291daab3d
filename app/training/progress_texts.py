"""What the progress of a training says, in a terminal and in a log."""

from collections.abc import Mapping
from typing import Any

import keras

from app.system.devices import describe_devices
from models.features import COMPUTED_FEATURES
from serving.errors import counted

# Magnitudes of numbers of which four decimals show some digits, and no more than float32 has.
_SMALLEST, _LARGEST = 1e-4, 1e7


def describe_training(model: keras.Model, params: Mapping[str, Any]) -> str:
    """Return what is trained where, such as `36 samples an epoch in 3 steps, float32 on cpu:0`.

    Args:
        model: the model that is trained.
        params: parameters of the training, see `keras.callbacks.Callback.params`.
    """
    layers = model._flatten_layers(include_self=False)
    policies = {layer.dtype_policy.name for layer in layers}
    precision = next((name for name in sorted(policies) if name.startswith("mixed")), "float32")
    _, kind = samples_per_step(model, params)
    steps = params["steps"]
    count = f"{params['samples']:,} {kind}" if "samples" in params else f"{steps:,} steps"
    return f"{count} an epoch in {counted(steps, 'step')}, {precision} on {describe_devices()}"


def samples_per_step(model: keras.Model, params: Mapping[str, Any]) -> tuple[float, str]:
    """Return how many samples a step has, 0 if that is unknown, and what they are."""
    tensor = model.inputs[0]
    kind = {2: "rows", 4: "images"}.get(len(tensor.shape), "samples")  # such as time series
    if tensor.name == COMPUTED_FEATURES:
        kind = "feature vectors"
    return params.get("samples", 0) / params["steps"], kind


def describe_scores(logs: Mapping[str, Any] | None) -> str:
    """Return the scores of a step or an epoch, each with two spaces before it."""
    return "".join(f"  {name} {_write_score(float(value))}" for name, value in (logs or {}).items())


def _write_score(value: float) -> str:
    """Return a number with four decimals; with an exponent if that would show nothing of it.

    Metrics of values are in the units of the targets, of any size.
    """
    is_shown = not value or _SMALLEST <= abs(value) < _LARGEST
    return f"{value:.4f}" if is_shown else f"{value:.4e}"


def describe_duration(seconds: float) -> str:
    """Return a time as people write it: `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
