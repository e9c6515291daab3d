"""From a trained Keras model to a bundle that proves itself.

Everything here turns a model into files. Training, data and the command line belong to `app`;
reading and running bundles belong to `serving`.
"""

from .bundle import export_bundle
from .errors import ExportError, ProofError
from .options import ExportOptions, ModelFacts
from .quantization import Int8Data
from .samples import Samples, with_edge_cases

__all__ = [
    "ExportError",
    "ExportOptions",
    "Int8Data",
    "ModelFacts",
    "ProofError",
    "Samples",
    "export_bundle",
    "with_edge_cases",
]
