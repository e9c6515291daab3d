"""Checks the `Host` of requests, so that a page of another site cannot read this server's answers.

Sources: RFC 9112, 3.2, which requires 400 for a missing, repeated or malformed field; for browsers
that were led to this address by another site's name: "DNS rebinding".
"""

import re
from collections.abc import Sequence

from granian.rsgi import Headers

from .errors import RequestError
from .http import header_values

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s/?#@\\\[\]:]*)(:\d*)?")
_MAX_KNOWN = 1024  # clients can invent hosts


class Hosts:
    """Knows the hosts that requests may name."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """Make a checker.

        Args:
            allowed: names and addresses without port, case ignored; `*.example.com` allows all
                names below it. None allow any host.
        """
        self._allowed = {name.lower().strip("[]") for name in allowed}
        self._known: set[str] = set()

    def check(self, headers: Headers, is_open: bool) -> None:
        """Raise `RequestError` unless a request names one host, which is allowed.

        Args:
            headers: headers of the request.
            is_open: whether every host is allowed, as for health checks.
        """
        hosts = header_values(headers, "host")
        if len(hosts) != 1:
            received = "none" if not hosts else ", ".join(hosts)
            raise RequestError(f"A request must have one Host. Received: {received:.80}.")
        if hosts[0] not in self._known:
            self._check(hosts[0], is_open)

    def _check(self, host: str, is_open: bool) -> None:
        match = _HOST.fullmatch(host)
        if match is None:
            raise RequestError(f"Host must be a name or an address. Received: {host!r:.80}.")
        name = match[1].lower().strip("[]").removesuffix(".")
        _, _, above = name.partition(".")
        while above and f"*.{above}" not in self._allowed:
            _, _, above = above.partition(".")
        if not self._allowed or name in self._allowed or above:
            if len(self._known) < _MAX_KNOWN:
                self._known.add(host)
        elif not is_open:
            raise RequestError(
                f"Host must be among {', '.join(sorted(self._allowed))}. Received: {host:.80}.", 421
            )
