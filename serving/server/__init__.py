"""The HTTP server: the Open Inference Protocol v2, TF Serving's REST interface, and a web page.

Prediction itself belongs to `serving`, which does not import the server.
"""

from .app import Server
from .settings import Settings

__all__ = ["Server", "Settings"]
