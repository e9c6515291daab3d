"""A gRPC server for one event loop: receives calls and hands each to one function.

grpc.aio takes 250 to 300 microseconds of processor time for a call, before the model runs: it makes
three tasks and a dozen futures for each. This module takes 80, on the layer that both of grpcio's
own servers are written on. A thread waits for events outside Python's lock, and the event loop
wakes up once for all calls that have arrived.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
from grpc._cython import cygrpc

_LOG = logging.getLogger("hornbill.server")
# Calls that the next layer may accept before this one has heard of the first.
_REQUESTED = 64
# Bytes of long responses that clients have not read yet, in all; and what counts as long.
_MAX_UNSENT, _LONG = 256_000_000, 16_000
_MAX_STREAMS = 1000  # calls of one connection at once
_SWEEP_S = 0.1
_CLOSING_S = 5.0  # to cancel all calls
_NUMBERS = {code: code.value[0] for code in grpc.StatusCode}
_OK = grpc.StatusCode.OK


class Call:
    """One call of a client.

    Attributes:
        method: path of the method, such as `/inference.GRPCInferenceService/ModelInfer`.
        model: name of the model that it asks for, for metrics.
        message: the first message; None if the client sent none, or if the call was not admitted.
        token: name of the token that it presents; None until it is admitted.
        is_over: whether its status was sent, or the client has gone.
        task: the task that answers it.
        closing: the operation that tells when the client has gone; None if it was not started.
    """

    __slots__ = (
        "_core", "_has_begun", "_metadata", "_server", "closing", "is_over", "message",
        "method", "model", "task", "token",
    )  # fmt: skip

    def __init__(self, server: "CallServer", event: Any) -> None:
        self._server = server
        self._core = event.call
        self._has_begun = False
        self.method: str = event.call_details.method.decode("utf-8", "replace")
        self._metadata = event.invocation_metadata
        self.model = ""
        self.message: bytes | None = None
        self.token: str | None = None
        self.is_over = False
        self.task: asyncio.Task[None] | None = None
        self.closing: Any = None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata of the call by key; the last value of a key that is repeated."""
        return dict(self._metadata)

    def finish(
        self, message: bytes | None, code: grpc.StatusCode = _OK, details: str = ""
    ) -> grpc.StatusCode:
        """Send the last message, if there is one, and the status; nothing if the call is over.

        Returns:
            The status: another one if too many responses wait for clients to read them.
        """
        if self.is_over or self._server.is_closed:
            return code
        self.is_over = True
        server, operations = self._server, self._first()
        if message is not None and len(message) >= _LONG and not server.keep(self, len(message)):
            message, code = None, grpc.StatusCode.UNAVAILABLE
            details = "Clients must read their responses. Received: too many wait. Try again later."
        if message is not None:
            operations.append(cygrpc.SendMessageOperation(message, 0))
        status = cygrpc.SendStatusFromServerOperation(None, _NUMBERS[code], details.encode(), 0)
        operations.append(status)
        if self.closing is None:
            self.closing = cygrpc.ReceiveCloseOnServerOperation(0)
            operations.append(self.closing)
        server.start(self, self._core, operations, server.forget)
        return code

    async def receive(self) -> bytes | None:
        """Return the next message; None if the client has sent its last one."""
        operation = cygrpc.ReceiveMessageOperation(0)
        await self._run([operation])
        message: bytes | None = operation.message()
        return message

    async def send(self, message: bytes) -> None:
        """Send a message that is not the last one, and wait until the client can read it."""
        await self._run([*self._first(), cygrpc.SendMessageOperation(message, 0)])

    def cancel(self, code: grpc.StatusCode, details: str) -> None:
        """End the call, whatever it waits for."""
        self._core.cancel(_NUMBERS[code], details)

    def _first(self) -> list[Any]:
        """Return the operation that must come before all others that send."""
        if self._has_begun:
            return []
        self._has_begun = True
        return [cygrpc.SendInitialMetadataOperation(None, 0)]

    async def _run(self, operations: Sequence[Any]) -> None:
        if self._server.is_closed:
            raise asyncio.CancelledError
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._server.start(
            self, self._core, operations, lambda _: loop.call_soon_threadsafe(_settle, done)
        )
        await done

    def watch(self) -> None:
        """Have the task cancelled when the client goes; costs an event of its own."""
        if self.closing is None and not self.is_over and not self._server.is_closed:
            self.closing = cygrpc.ReceiveCloseOnServerOperation(0)
            self._server.start_closing(self, self._core)


Handle = Callable[[Call], Coroutine[Any, Any, None]]
Admit = Callable[[Call], None]


class CallServer:
    """Receives calls on an address, and limits what slow clients hold.

    Attributes:
        is_closed: whether it has ended. Operations must not be started any more: grpcio would end
            the process.
    """

    def __init__(
        self, admit: Admit, handle: Handle, max_bytes: int, client_s: float, max_calls: int
    ) -> None:
        """Make a server that does not listen yet.

        Args:
            admit: sets the token of a call before its message is received, or leaves it None, and
                it is not received; runs in a thread.
            handle: answers a call; runs as a task on the event loop, cancelled if the client goes.
            max_bytes: largest size of a message.
            client_s: seconds within which a client must send a message, or read one.
            max_calls: largest number of open calls; further ones get UNAVAILABLE.
        """
        self._admit = admit
        self._handle = handle
        self._client_s = client_s
        self._max_calls = max_calls
        self._queue = cygrpc.CompletionQueue()
        options = (
            ("grpc.so_reuseport", 1),  # all processes of the server listen on one port
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.max_concurrent_streams", _MAX_STREAMS),
            ("grpc.keepalive_time_ms", 60_000),  # ends connections whose client is gone
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
        )
        self._server = cygrpc.Server(options, False)
        self._server.register_completion_queue(self._queue)
        self._thread = threading.Thread(target=self._poll, name="hornbill-grpc", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived: deque[Call] = deque()
        self._is_woken = False
        self._open: set[Call] = set()
        self._late: dict[Call, float] = {}  # since when a call has waited for its client
        self._unsent: dict[Call, int] = {}
        self.is_closed = self._is_ending = False
        self._is_shut = threading.Event()
        self._has_ended = asyncio.Event()

    def listen(self, address: str, credentials: grpc.ServerCredentials | None = None) -> None:
        """Start to receive calls, on the running event loop.

        Args:
            address: IP address and port.
            credentials: a certificate with its key; None to serve without TLS.

        Raises:
            OSError: the address cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        self._new_task = self._loop.create_task
        credential = [] if credentials is None else [credentials._credentials]
        if not self._server.add_http2_port(address.encode(), *credential):
            raise OSError(f"The address for gRPC must be free. Received: {address}.")
        self._server.start()
        for _ in range(_REQUESTED):
            self._request()
        self._thread.start()

    async def watch(self) -> None:
        """End the calls of clients that are too slow; runs until it is cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            for call in self._open.copy():
                if call.task is not None:  # most calls are over sooner
                    call.watch()
            latest = time.monotonic() - self._client_s
            for call, since in self._late.copy().items():
                if since < latest:
                    call.cancel(
                        grpc.StatusCode.DEADLINE_EXCEEDED,
                        f"A client must send or read a message within {self._client_s:g} s.",
                    )

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls and complete the open ones; cancel those that take longer."""
        if not self._thread.is_alive():
            return
        self._is_ending = True
        self._server.shutdown(self._queue, self._on_shutdown)
        try:
            async with asyncio.timeout(grace_s):
                await self._has_ended.wait()
        except TimeoutError:
            self.close()
        else:
            self._end()

    def close(self) -> None:
        """End at once."""
        if not self._thread.is_alive():
            return
        if not self._is_ending:
            self._server.shutdown(self._queue, self._on_shutdown)
        self._server.cancel_all_calls()
        if self._is_shut.wait(_CLOSING_S):
            self._end()
        self.is_closed = True

    def _end(self) -> None:
        # Here, since the event loop is where operations are started.
        self.is_closed = True
        self._server.destroy()
        self._queue.shutdown()
        self._thread.join()

    def keep(self, call: Call, size: int) -> bool:
        """Return whether there is room for a long response that waits for its client."""
        if sum(self._unsent.values()) + size > _MAX_UNSENT:
            return False
        self._unsent[call] = size
        return True

    def start_closing(self, call: Call, core: Any) -> None:
        """Start the operation that ends when the client goes, or when the call is over."""
        core.start_server_batch([call.closing], partial(self._on_close, call))

    def start(
        self, call: Call, core: Any, operations: Sequence[Any], done: Callable[[Call], Any]
    ) -> None:
        """Start operations that wait for the client; `done` is called in another thread."""
        self._late[call] = time.monotonic()
        core.start_server_batch(operations, partial(self._on_done, call, done))

    # What follows runs in the thread.

    def _poll(self) -> None:
        while True:
            event = self._queue.poll()
            if event.completion_type == cygrpc.CompletionType.queue_shutdown:
                return
            try:
                event.tag(event)
            except Exception:
                _LOG.exception("A gRPC call failed.")
            event = None  # it may hold the last reference to a call

    def _request(self) -> None:
        with suppress(ValueError):  # the server is being shut down
            self._server.request_call(self._queue, self._queue, self._on_call)

    def _on_call(self, event: Any) -> None:
        if not event.success:  # the server has been shut down
            return
        self._request()
        call = Call(self, event)
        self._open.add(call)
        if len(self._open) > self._max_calls:
            details = f"At most {self._max_calls:,} calls may be open. Received: one more."
            call.finish(None, grpc.StatusCode.UNAVAILABLE, f"{details} Try again later.")
            return
        self._admit(call)
        if call.token is None:
            self._hand_over(call)
            return
        operation = cygrpc.ReceiveMessageOperation(0)
        self.start(call, event.call, [operation], partial(self._on_message, operation))

    def _on_message(self, operation: Any, call: Call) -> None:
        call.message = operation.message()
        self._hand_over(call)

    def _hand_over(self, call: Call) -> None:
        self._arrived.append(call)
        if not self._is_woken:
            self._is_woken = True
            self._call_soon(self._take)

    def _on_done(self, call: Call, done: Callable[[Call], Any], _event: Any) -> None:
        self._late.pop(call, None)
        done(call)

    def forget(self, call: Call) -> None:
        """Forget a call whose response the client has got, or has given up."""
        self._open.discard(call)
        self._unsent.pop(call, None)

    def _on_close(self, call: Call, _event: Any) -> None:
        if call.closing.cancelled() and not call.is_over:
            self._open.discard(call)
            self._call_soon(partial(self._abandon, call))

    def _on_shutdown(self, _event: Any) -> None:
        self._is_shut.set()
        self._call_soon(self._has_ended.set)

    def _call_soon(self, call: Callable[[], Any]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    # What follows runs on the event loop.

    def _take(self) -> None:
        self._is_woken = False
        while self._arrived:
            call = self._arrived.popleft()
            call.task = self._new_task(self._handle(call))

    def _abandon(self, call: Call) -> None:
        call.is_over = True
        if call.task is not None:
            call.task.cancel()


def _settle(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)
