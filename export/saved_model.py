"""Writes and runs the SavedModel."""

import re
from pathlib import Path
from typing import Any

import tensorflow as tf

from .errors import ExportError
from .inference import InferenceFunction, lookup_tables
from .logs import without_log

SIGNATURE = "serving_default"


def write_saved_model(inference: InferenceFunction, folder: Path) -> None:
    """Write `saved_model.pb`, `variables/` and `fingerprint.pb` into `folder`.

    The signature `serving_default` has the names of the model's inputs and outputs.

    Raises:
        ExportError: The function uses a table or variable that no layer holds.
        OSError: A file cannot be written completely.
    """
    module = tf.Module()
    module.weights = [variable.value for variable in inference.model.variables]
    module.used = list(inference.function.graph.variables)  # of an operation, which Keras omits
    module.tables = lookup_tables(inference.model)
    try:
        with without_log():
            tf.saved_model.save(module, str(folder), signatures={SIGNATURE: inference.function})
    except tf.errors.OpError as error:  # TensorFlow writes weights with an operation
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise OSError(reason) from None
    except AssertionError as error:  # a resource that belongs to no layer
        found = re.search(r"Trackable referencing this tensor = (<.*)", str(error))
        raise ExportError(
            "Layers must hold the tables and variables that they use, as attributes or by "
            f"add_weight. Received: {found[1] if found else 'a table that call makes'}."
        ) from None
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
