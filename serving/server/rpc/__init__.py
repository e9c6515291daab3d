"""gRPC: the Open Inference Protocol v2, TF Serving's predictions, health and reflection.

What HTTP has as well, such as models, batching, limits and readiness, belongs to `serving.server`,
which imports this package only when a port for gRPC is set.
"""

from .services import RpcServer, Services

__all__ = ["RpcServer", "Services"]
