"""A server for bundles, by the Open Inference Protocol v2 and TF Serving's REST."""

from .app import Server
from .settings import Settings

__all__ = ["Server", "Settings"]
