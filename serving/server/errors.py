"""The error that refuses a request."""

from collections.abc import Mapping

from ..errors import ServingError


class RequestError(ServingError):
    """A request that gets a response other than 200.

    Attributes:
        status: HTTP status of the response.
        headers: additional headers of the response, such as `retry-after`.
    """

    def __init__(
        self, message: str, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
