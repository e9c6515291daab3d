"""HTTP as uvicorn reads it, for clients that say nothing, half of it, or something else."""

import asyncio

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """A connection that is closed unless requests come on it, and that refuses in JSON.

    Attributes:
        silence_s: how long a connection may stay without a new head of a request while none is
            being answered, or without the body of one; twice that at most. uvicorn itself waits
            for ever for a head, for a body, and for the rest of a body that was refused.
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
        lacks_body = not is_idle and self.cycle.more_body and not self.cycle.body
        if (is_idle or lacks_body) and self.cycle is self._seen:
            if lacks_body:
                self._refuse(b"408 Request Timeout", "A body must come soon. Received: none of it.")
            self.transport.close()
            return
        self._seen = self.cycle if is_idle or lacks_body else self
        self._watch = self.loop.call_later(self.silence_s, self._look)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, as everything else is refused."""
        self._refuse(b"400 Bad Request", f"A request must be HTTP. Received: {msg}")
        self.transport.close()

    def _refuse(self, status: bytes, message: str) -> None:
        body = msgspec.json.encode({"error": message})
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (status, len(body), body)
        )

    def _unsupported_upgrade_warning(self) -> None:
        """Take a request for another protocol as one of HTTP, without a line in the log."""
