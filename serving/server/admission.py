"""Lets requests in: those for an allowed host, with a token that counts, and not too many."""

from collections.abc import Mapping
from functools import partial

from granian.rsgi import Headers

from .errors import RequestError
from .hosts import Hosts
from .rereading import Reread
from .settings import Settings
from .tokens import Tokens, identify, read_tokens

# Never refused: a busy server must not look dead to its health checks. The empty path leads to `/`.
_OPEN = frozenset((
    "/v2/health/live", "/v2/health/ready", "/", "",
    "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
    "/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady",
))  # fmt: skip


class Admission:
    """Decides which requests are let in, over both protocols.

    Attributes:
        in_flight: number of requests in flight.
    """

    def __init__(self, settings: Settings) -> None:
        self.in_flight = 0
        self._max_requests = settings.max_requests
        self._hosts = Hosts(settings.allowed_hosts)
        nobody: Tokens | None = {}
        read = partial(read_tokens, settings.token, settings.token_file)
        self._tokens = Reread(read, nobody, settings.shared("tokens"))

    def refresh(self) -> None:
        """Read the file of tokens again."""
        self._tokens.refresh()

    def check_host(self, path: str, headers: Headers) -> None:
        """Raise `RequestError` unless a request of HTTP names one host, which is allowed."""
        self._hosts.check(headers, path in _OPEN)

    def identify(self, path: str, headers: Headers | Mapping[str, str]) -> str:
        """Return the name of the token that a request presents; empty if it needs none.

        Args:
            path: path of the request, or of the method that is called.
            headers: its headers, or its metadata.

        Raises:
            RequestError: the token is wrong.
        """
        if path in _OPEN:
            return ""
        return identify(self._tokens.value, headers.get("authorization", ""))

    def refuse_one_too_many(self, path: str = "") -> None:
        """Raise `RequestError` if more requests are in flight than may be, but for open paths."""
        if self.in_flight > self._max_requests and path not in _OPEN:
            raise RequestError(
                f"At most {self._max_requests} requests may be in flight. "
                "Received: one more. Try again later.",
                503,
                {"retry-after": "1"},
            )
