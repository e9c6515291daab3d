"""A server for bundles: the Open Inference Protocol v2, TF Serving's REST interface, and a page."""

from .app import Server
from .settings import Settings

__all__ = ["Server", "Settings"]
