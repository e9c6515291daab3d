"""HTTP as uvicorn reads it, for clients that say nothing, half of it, or something else."""

import asyncio

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """A connection that is closed unless requests come on it, and that refuses in JSON.

    Attributes:
        silence_s: how long a connection may stay without a new head of a request while none is
            being answered; twice that at most. uvicorn itself waits for ever for the first head,
            for the rest of one, and for the rest of a body that was refused.
    """

    silence_s = 20.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch."""
        super().connection_made(transport)
        self._seen: object = self
        self._watch = self.loop.call_later(self.silence_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """End to watch."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.cycle is self._seen:
            self.transport.close()
            return
        self._seen = self.cycle if is_idle else self
        self._watch = self.loop.call_later(self.silence_s, self._look)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, as everything else is refused."""
        body = msgspec.json.encode({"error": f"A request must be HTTP. Received: {msg}"})
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Take a request for another protocol as one of HTTP, without a line in the log."""
