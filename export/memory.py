"""Returns freed memory to the system."""

import ctypes
import gc
import sys
from typing import Any

# Looking for garbage takes a tenth of a second and more, and a smaller model leaves little.
_WORTHWHILE_PARAMETERS = 2_000_000


def return_memory(model: Any) -> None:
    """Return freed memory, which glibc keeps: several times the size of `model`, if it is large."""
    if model.count_params() < _WORTHWHILE_PARAMETERS:
        return
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl lacks it
        if trim is not None:
            trim(0)
