"""Reads the golden samples of a bundle and their expected outputs."""

from pathlib import Path

import numpy as np

from .bundle import GOLDEN, read_checked, read_checksums
from .checking import fits_shape
from .errors import ManifestError
from .manifest import TensorSpec, describe_spec
from .tensor_proto import read_tensor

# At most so many golden samples come from data, and are the first; the others are edge cases.
REAL_SAMPLES = 22
# The source of a proof whose samples are not from data.
DRAWN = "samples drawn to fit the inputs"


def read_golden(
    folder: Path, role: str, specs: tuple[TensorSpec, ...], data_set: str = GOLDEN
) -> dict[str, np.ndarray]:
    """Return the golden inputs or the golden outputs of a version, by name.

    Args:
        folder: folder of the version.
        role: `input` or `output`.
        specs: specs of the inputs or of the outputs.
        data_set: folder of the samples, one of `bundle.golden_sets`.

    Raises:
        ManifestError: a file is missing or changed, or its tensor does not fit its spec.
    """
    checksums = read_checksums(folder)
    arrays = {}
    for number, spec in enumerate(specs):
        name = f"{data_set}/{role}_{number}.pb"
        tensor_name, array = read_tensor(read_checked(folder, name, checksums))
        dtype = "string" if array.dtype == object else array.dtype.name
        if (tensor_name, dtype) != (spec.name, spec.dtype) or not fits_shape(array, spec):
            raise ManifestError(
                f"{name} must hold {describe_spec(spec)}. "
                f"Received: {tensor_name} {array.dtype} {array.shape}."
            )
        arrays[spec.name] = array
    return arrays
