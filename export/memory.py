"""Returns freed memory to the system."""

import ctypes
import gc
import sys


def return_memory() -> None:
    """Return freed memory, which glibc keeps: several times the size of a model."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl lacks it
        if trim is not None:
            trim(0)
