"""Names the devices that Keras computes on."""

import keras


def describe_devices() -> str:
    """Return the name of the device, such as `cpu:0`, or the number of devices: `2 x gpu`."""
    names = keras.distribution.list_devices()
    return str(names[0]) if len(names) == 1 else f"{len(names)} x {names[0].partition(':')[0]}"
