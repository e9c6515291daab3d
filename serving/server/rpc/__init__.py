"""gRPC: the Open Inference Protocol v2, TF Serving's predictions, health and reflection."""

from .services import RpcServer

__all__ = ["RpcServer"]
