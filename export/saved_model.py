"""Writes and runs the SavedModel."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from .inference import InferenceFunction, lookup_tables

SIGNATURE = "serving_default"


def write_saved_model(inference: InferenceFunction, folder: Path) -> None:
    """Write `saved_model.pb`, `variables/` and `fingerprint.pb` into `folder`.

    The signature `serving_default` has the names of the model's inputs and outputs.

    Raises:
        OSError: A file cannot be written completely.
    """
    module = tf.Module()
    module.weights = [variable.value for variable in inference.model.variables]
    module.tables = lookup_tables(inference.model)
    try:
        tf.saved_model.save(module, str(folder), signatures={SIGNATURE: inference.function})
    except tf.errors.OpError as error:  # TensorFlow writes weights with an operation
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise OSError(reason) from None
    (folder / "assets").rmdir()  # always empty, and a checksum list cannot hold a folder


def convert_to_litert(folder: Path) -> bytes:
    """Convert a SavedModel to LiteRT, formerly TensorFlow Lite."""
    content: bytes = tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()
    return content


def load_saved_model(folder: Path) -> Any:
    """Load a SavedModel on the CPU; return its signature, a function of keyword arguments."""
    with tf.device("/CPU:0"):
        loaded = tf.saved_model.load(str(folder))
    function = loaded.signatures[SIGNATURE]
    function.keep_alive = loaded  # the signature alone does not keep the variables alive
    return function
