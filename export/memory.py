"""Gives memory back to the system."""

import ctypes
import gc
import sys


def return_memory() -> None:
    """Give back what is free: glibc keeps it, several times the size of a model."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
