"""Image files as requests: what the page sends, and anybody with curl."""

from typing import Any

import numpy as np

from ..errors import InputError
from ..inputs import image_size
from ..manifest import Manifest, describe_spec
from ..predictor import Prediction
from .errors import RequestError
from .http import Answer, json_answer
from .repository import Repository


def require_images(manifest: Manifest) -> None:
    """Raise `RequestError` unless a model takes images and tells classes apart."""
    if not _takes_images(manifest):
        raise RequestError(
            "Images are for models of gray images that have classes. "
            f"Received: {manifest.name}, which takes {_describe_inputs(manifest)[0]}."
        )


def write_image_answer(prediction: Prediction, image: np.ndarray, milliseconds: float) -> Answer:
    """Return the answer for one image, and the image as it was brought to the model's input.

    Args:
        prediction: for this image.
        image: uint8 `(height, width)`.
        milliseconds: that reading and running took.
    """
    manifest = prediction.manifest
    return json_answer(
        {
            "model_name": manifest.name,
            "model_version": str(manifest.version),
            "label": prediction.labels[0],
            "accepted": bool(prediction.accepted[0]),
            "probabilities": prediction.probabilities[0].tolist(),
            "image": {"shape": list(image.shape), "data": image.ravel().tolist()},
            "milliseconds": round(milliseconds, 3),
        }
    )


def list_models(repository: Repository) -> Answer:
    """Return every version that answers or failed, as a person would want to know of it."""
    good = [
        _describe(served.model.manifest)
        for versions in repository.models.values()
        for served in versions.values()
    ]
    bad = [
        _row(name, number, "failed", reason=failure.reason)
        for name, failures in repository.failures().items()
        for number, failure in failures.items()
    ]
    return json_answer({"models": sorted([*good, *bad], key=_place)})


def _place(row: dict[str, Any]) -> tuple[str, int]:
    return row["name"], row["version"]


def _describe(manifest: Manifest) -> dict[str, Any]:
    return _row(
        manifest.name,
        manifest.version,
        "ready",
        inputs=_describe_inputs(manifest),
        labels=manifest.labels,
        takes_images=_takes_images(manifest),
        threshold=manifest.reject_option.threshold if manifest.reject_option else None,
    )


def _row(name: str, version: int, state: str, **more: Any) -> dict[str, Any]:
    row = {"name": name, "version": version, "state": state, "reason": ""}
    return row | {"inputs": [], "labels": [], "takes_images": False, "threshold": None} | more


def _describe_inputs(manifest: Manifest) -> list[str]:
    return [describe_spec(spec) for spec in manifest.inputs]


def _takes_images(manifest: Manifest) -> bool:
    try:
        image_size(manifest)
    except InputError:
        return False
    return manifest.task == "multiclass"
