"""gRPC servers that return a constant: the upper limits of grpcio.

python constant_rpc.py aio PORT     on grpc.aio, its server for event loops
python constant_rpc.py core PORT    on the layer below, in one loop without threads
"""

import asyncio
import sys
from typing import Any

import grpc
from grpc._cython import cygrpc

METHOD = "ModelInfer"
RESPONSE = b"\n\x03mlp" + bytes(72)  # as long as a response of `mlp`


async def serve_aio(address: str) -> None:
    """Answer calls with grpc.aio until the process ends."""

    async def answer(_message: bytes, _context: Any) -> bytes:
        return RESPONSE

    server = grpc.aio.server()
    methods = {METHOD: grpc.unary_unary_rpc_method_handler(answer)}
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def serve_core(address: str) -> None:
    """Answer calls, of whatever method, until the process ends."""
    queue, server = cygrpc.CompletionQueue(), cygrpc.Server((), False)

    def receive(event: Any) -> None:
        server.request_call(queue, queue, receive)
        operation, call = cygrpc.ReceiveMessageOperation(0), event.call

        def answer(_event: Any) -> None:
            sent = cygrpc.SendInitialMetadataOperation(None, 0)
            status = cygrpc.SendStatusFromServerOperation(None, 0, b"", 0)
            message = cygrpc.SendMessageOperation(RESPONSE, 0)
            closed = cygrpc.ReceiveCloseOnServerOperation(0)
            call.start_server_batch([sent, message, status, closed], lambda _: None)

        call.start_server_batch([operation], answer)

    server.register_completion_queue(queue)
    server.add_http2_port(address.encode())
    server.start()
    for _ in range(64):
        server.request_call(queue, queue, receive)
    while True:
        event = queue.poll()
        event.tag(event)


if __name__ == "__main__":
    kind, port = sys.argv[1:]
    if kind == "aio":
        asyncio.run(serve_aio(f"127.0.0.1:{port}"))
    else:
        serve_core(f"127.0.0.1:{port}")
