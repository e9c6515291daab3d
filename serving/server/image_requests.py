"""Requests whose body is an image file, as the page and curl send them."""

from typing import Any

import msgspec
import numpy as np

from ..decisions import thresholds_of
from ..errors import InputError
from ..manifest import Manifest, describe_spec
from ..predictor import Prediction
from .errors import RequestError
from .http import Response, json_response
from .repository import Repository
from .samples import image_shape_of, takes_rows
from .tensors import check_finite, with_data
from .versions import VersionState

_ENCODER = msgspec.json.Encoder()


class ModelImage(msgspec.Struct):
    """An image as the model sees it, row-major."""

    shape: list[int]
    data: list[int]


class ImageResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The prediction for one image.

    Has `label`, `accepted` and `probabilities` from a model of classes, `labels` and
    `probabilities` from one of labels, `values` from one of values, and `lower` and `upper` if the
    values have intervals. `milliseconds` is the time to run the model, with the wait for it;
    `reading_milliseconds` the time to read the image.
    """

    model_name: str
    model_version: str
    label: str | msgspec.UnsetType = msgspec.UNSET
    accepted: bool | msgspec.UnsetType = msgspec.UNSET
    labels: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    probabilities: list[float] | msgspec.UnsetType = msgspec.UNSET
    values: list[float] | msgspec.UnsetType = msgspec.UNSET
    lower: list[float] | msgspec.UnsetType = msgspec.UNSET
    upper: list[float] | msgspec.UnsetType = msgspec.UNSET
    image: ModelImage
    milliseconds: float
    reading_milliseconds: float


def require_images(manifest: Manifest) -> None:
    """Raise `RequestError` unless the model takes images and its task is known."""
    if image_shape_of(manifest) is None:
        raise RequestError(
            "The model must take uint8 images, gray or RGB, and have a known task. "
            f"Received: {manifest.name}, which takes {_describe_inputs(manifest)[0]}."
        )


def refused_image(error: InputError, body: bytes) -> RequestError:
    """Return the error for a body that cannot be read as an image, with a hint if it is text.

    A form, a URL of data and base64 begin with text; image files do not.
    """
    start = b"".join(body[:16].split())
    is_text = start.isascii() and start.decode("ascii", "ignore").isprintable()
    hint = " The body must be the file itself, as curl --data-binary @FILE sends it."
    return RequestError(f"{error}{hint if is_text else ''}")


def write_image_response(
    prediction: Prediction, image: np.ndarray, milliseconds: float, reading_milliseconds: float
) -> Response:
    """Return the response for one image, which includes the image as the model sees it.

    The image is written part by part.

    Args:
        prediction: prediction for this image alone.
        image: uint8 `(height, width)` or `(height, width, channels)`.
        milliseconds: time to run the model.
        reading_milliseconds: time to read the image.

    Raises:
        RequestError: JSON cannot hold the prediction, since it has NaN or infinity.
    """
    manifest = prediction.manifest
    response = ImageResponse(
        model_name=manifest.name,
        model_version=str(manifest.version),
        **_predicted(prediction),
        image=ModelImage(list(image.shape), []),
        milliseconds=round(milliseconds, 3),
        reading_milliseconds=round(reading_milliseconds, 3),
    )
    first, *more = with_data(_ENCODER.encode(response), [image])
    return Response(first, more=more)


def _predicted(prediction: Prediction) -> dict[str, Any]:
    """Return the fields of a response that depend on the task."""
    task = prediction.manifest.task
    if task == "regression":
        ends = {"values": prediction.values, "lower": prediction.lower, "upper": prediction.upper}
        named = {name: array for name, array in ends.items() if array is not None}
        check_finite(named)
        return {name: array[0].tolist() for name, array in named.items()}
    check_finite({"probabilities": prediction.probabilities})
    probabilities = {"probabilities": prediction.probabilities[0].tolist()}
    if task == "multilabel":
        return {"labels": prediction.labels[0]} | probabilities
    return {
        "label": prediction.labels[0],
        "accepted": bool(prediction.accepted[0]),
    } | probabilities


def list_models(repository: Repository) -> Response:
    """Return the state of every version: `loading`, `ready` or `failed`, with the reason."""
    return json_response({"models": [_describe_state(state) for state in repository.states()]})


def _describe_state(state: VersionState) -> dict[str, Any]:
    reason = state.failure.reason if state.failure else ""
    if state.loaded is None:
        return _row(state.name, state.number, state.status, reason=reason)
    return _describe(state.loaded.model.manifest) | {"reason": reason}


def _describe(manifest: Manifest) -> dict[str, Any]:
    return _row(
        manifest.name,
        manifest.version,
        "ready",
        created=manifest.created,
        inputs=_describe_inputs(manifest),
        input=manifest.inputs[0].name,
        output=manifest.prediction_output,
        task=manifest.task,
        labels=manifest.labels,
        units=manifest.target_units,
        image_shape=image_shape_of(manifest),
        takes_rows=takes_rows(manifest),
        batch_size=manifest.batch_size,
        threshold=manifest.reject_option.threshold if manifest.reject_option else None,
        thresholds=thresholds_of(manifest),
    )


def _row(name: str, version: int, state: str, **more: Any) -> dict[str, Any]:
    # JavaScript has no int64.
    row = {"name": name, "version": str(version), "state": state, "reason": ""}
    unknown: dict[str, Any] = {"inputs": [], "labels": [], "image_shape": None, "takes_rows": False}
    return row | unknown | dict.fromkeys(("batch_size", "threshold", "thresholds")) | more


def _describe_inputs(manifest: Manifest) -> list[str]:
    return [describe_spec(spec) for spec in manifest.inputs]
