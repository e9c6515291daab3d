"""Headers and responses of HTTP."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from granian.rsgi import Headers

JSON = "application/json"
BINARY = "application/octet-stream"
# The window sizes by which zlib distinguishes the encodings.
WINDOWS = {"gzip": 31, "deflate": 15}
MIN_COMPRESSED = 1400  # bytes: a shorter body fits one packet anyway
_ENCODER = msgspec.json.Encoder()


class Response(NamedTuple):
    """A response before it is sent.

    Attributes:
        body: its body, or the first part of it.
        status: its status.
        media_type: type of its content.
        headers: further headers.
        more: the other parts of a long body.
        room: the room that it takes, to be left when it is sent.
    """

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Sequence[tuple[str, str]] = ()
    more: Sequence[bytes] = ()
    room: int = 0

    @property
    def size(self) -> int:
        """Number of bytes of the body."""
        return len(self.body) + sum(map(len, self.more)) if self.more else len(self.body)


def header_values(headers: Headers, name: str) -> list[str]:
    """Return the values of a header, one for each line that has it, except those not in ASCII."""
    values: list[str] = headers.get_all(name)  # type: ignore[attr-defined]
    return values


def json_response(value: Any, status: int = 200) -> Response:
    """Return a response of JSON."""
    return Response(_ENCODER.encode(value), status)


def error_response(message: str, status: int, headers: Mapping[str, str]) -> Response:
    """Return an error in the form of both protocols."""
    content = _ENCODER.encode(ErrorResponse(message))
    return Response(content, status, headers=tuple(headers.items()))


class ErrorResponse(msgspec.Struct):
    """The body of every response but 200: what was wrong, and what would be right."""

    error: str


def compressed(response: Response, headers: Headers) -> Response:
    """Return the response, compressed if the client accepts that and the body is long enough."""
    if response.size < MIN_COMPRESSED:
        return response
    encoding = _accepted(headers.get("accept-encoding", ""))
    if encoding is None:
        return response
    stream = zlib.compressobj(1, wbits=WINDOWS[encoding])
    parts = [stream.compress(part) for part in (response.body, *response.more)]
    added = ("content-encoding", encoding), ("vary", "accept-encoding")
    return response._replace(
        body=b"".join([*parts, stream.flush()]), headers=(*response.headers, *added), more=()
    )


def _accepted(value: str) -> str | None:
    offers = [offer.strip().lower().partition(";") for offer in value.split(",")]
    accepted = {name.strip() for name, _, weight in offers if weight.strip().rstrip("0.") != "q="}
    return next((name for name in WINDOWS if name in accepted), None)
