"""Names the devices that Keras computes on."""

import keras
import tensorflow as tf


def describe_devices() -> str:
    """Return the device, such as `cpu:0` or `gpu:0 (NVIDIA L4)`, or how many: `2 x gpu`."""
    names = keras.distribution.list_devices()
    if len(names) > 1:
        return f"{len(names)} x {names[0].partition(':')[0]}"
    product = _product() if names[0].startswith("gpu") else ""
    return f"{names[0]} ({product})" if product else str(names[0])


def _product() -> str:
    """Return what the maker calls the first GPU; empty if TensorFlow sees none."""
    for device in tf.config.list_physical_devices("GPU")[:1]:
        details = tf.config.experimental.get_device_details(device)
        return str(details.get("device_name", ""))
    return ""
