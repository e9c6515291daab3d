"""Imports ONNX Runtime with its telemetry off. Import `onnxruntime` from here, nowhere else.

Since version 1.29 every process that imports onnxruntime writes a device id and a database into
the home folder and contacts its maker. It reads `ORT_DISABLE_TELEMETRY` when it is imported, so
the default must be set before the import. A value that the user has set is respected: 0 turns
telemetry on.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
