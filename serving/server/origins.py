"""Cross-origin requests: which pages of other hosts may send requests from a browser.

Sources: WHATWG, "Fetch", CORS protocol; for requests that a browser sends without asking first,
W3C, "Fetch Metadata Request Headers", and `CrossOriginProtection` of Go's net/http.
"""

from collections.abc import Sequence

from granian.rsgi import Headers

from ..errors import InputError
from .errors import RequestError
from .http import Response

ANY = "*"
_METHODS = "GET, HEAD, POST"
_EXPOSED = "inference-header-content-length, x-request-id, retry-after"
_DAY_S = "86400"


def check_origin(origin: str) -> None:
    """Raise `InputError` unless `origin` is `*` or has the form in which browsers send it."""
    scheme, separator, host = origin.partition("://")
    is_origin = scheme in ("http", "https") and separator and host
    if origin == ANY or (is_origin and origin.isascii() and not set(host) & set("/?#@, *")):
        return
    raise InputError(
        "An origin must be * or a scheme, a host and a port if it is not the usual one, such as "
        f"https://example.org, without a path. Received: {origin!r:.80}."
    )


def preflight(origins: Sequence[str], headers: Headers) -> Response | None:
    """Return the response by which a browser learns what it may send; None if it asks nothing.

    Args:
        origins: the allowed origins.
        headers: headers of a request with the method OPTIONS.
    """
    if "access-control-request-method" not in headers or not _allowed(origins, headers):
        return None
    names = headers.get("access-control-request-headers", "")
    sent = [("access-control-allow-methods", _METHODS), ("access-control-max-age", _DAY_S)]
    if names:
        sent.append(("access-control-allow-headers", names))
    return Response(b"", 204, headers=sent)


def with_origin(origins: Sequence[str], headers: Headers, response: Response) -> Response:
    """Return the response, with the headers that let a page of an allowed origin read it."""
    sent = [*response.headers]
    if allowed := _allowed(origins, headers):
        sent += [
            ("access-control-allow-origin", allowed),
            ("access-control-expose-headers", _EXPOSED),
        ]
    if ANY not in origins:
        sent.append(("vary", "origin"))
    return response._replace(headers=sent)


def refuse_foreign(origins: Sequence[str], headers: Headers) -> None:
    """Raise `RequestError` for a request from a page of another origin that is not allowed.

    For requests that change something: a browser sends an empty POST of any page without asking,
    and only keeps the answer from it. Other programs rarely send either header.

    Args:
        origins: the allowed origins.
        headers: headers of the request.
    """
    origin, site = headers.get("origin", ""), headers.get("sec-fetch-site", "")
    _, _, host = origin.partition("://")
    is_own = site in ("same-origin", "none") if site else host == headers.get("host", "")
    if (origin or site) and not is_own and not _allowed(origins, headers):
        raise RequestError(
            "A page may only change what is served if --cors-origin allows its origin. "
            f"Received: {origin or site:.80}.",
            403,
        )


def _allowed(origins: Sequence[str], headers: Headers) -> str:
    """Return the origin that may read a response; an empty text if it may not."""
    origin: str = headers.get("origin", "")
    if not origin:
        return ""
    return ANY if ANY in origins else origin if origin in origins else ""
