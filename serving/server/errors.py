"""What a request is refused with."""

from collections.abc import Mapping

from ..errors import ServingError


class RequestError(ServingError):
    """A request that gets an answer other than 200.

    Attributes:
        status: of HTTP.
        headers: that the answer has besides, such as `retry-after`.
    """

    def __init__(
        self, message: str, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
