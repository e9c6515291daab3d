"""The settings of a server."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundle import CHECKSUMS, MANIFEST
from ..errors import InputError, cannot_read

VERSIONS = ("latest", "all")
_HOST = re.compile(r"(\*\.)?[\w.-]+|\[?[0-9a-fA-F:]+\]?")
# Upper limits of Granian, zlib and timers.
_MAX = {
    "max_body_mb": 1_000_000,
    "max_rows": 1_000_000_000,
    "max_requests": 1_000_000,
    "max_delay_ms": 1_000_000,
    "body_s": 1_000_000,
    "write_s": 1_000_000,
    "poll_s": 1_000_000,
}


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        folder: folder of bundles, or of one model.
        versions: which versions of each model are served: `latest` or `all`.
        token: bearer token that requests must present; None to accept all requests.
        max_body_mb: largest body in megabytes, after decompression.
        max_rows: largest number of samples in a request.
        max_requests: largest number of requests in flight; further ones get 503.
        max_delay_ms: latency budget for a batch, in milliseconds.
        body_s: seconds within which the body of a request must arrive.
        write_s: seconds in which a client must take a megabyte of a long response, or the rest.
        allowed_hosts: names that requests may give as their host, see `Hosts`; empty for any.
        poll_s: seconds between two checks for new versions.
        log_requests: whether each request is logged as a line of JSON on standard output.

    Raises:
        InputError: a value is out of range, or the folder is missing or cannot be read.
    """

    folder: Path
    versions: str = "latest"
    token: str | None = None
    max_body_mb: float = 64.0
    max_rows: int = 16384
    max_requests: int = 1024
    max_delay_ms: float = 5.0
    body_s: float = 20.0
    write_s: float = 10.0
    allowed_hosts: Sequence[str] = ()
    poll_s: float = 2.0
    log_requests: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        _check_folder(self.folder)
        if self.versions not in VERSIONS:
            raise InputError(
                f"versions must be one of {', '.join(VERSIONS)}. Received: {self.versions!r}."
            )
        if self.token is not None and not self.token.strip():
            raise InputError("token must not be empty. Received: only spaces.")
        if self.token is not None and not self.token.isascii():  # headers cannot hold others
            raise InputError("token must only have ASCII characters. Received: one with others.")
        for host in self.allowed_hosts:
            if not _HOST.fullmatch(host):
                raise InputError(
                    "allowed_hosts must be names or addresses without a port, such as "
                    f"models.example.com. Received: {host!r:.80}."
                )
        for name, largest in _MAX.items():
            if not 0 < getattr(self, name) <= largest:
                raise InputError(
                    f"{name} must be above 0 and at most {largest:,}. "
                    f"Received: {getattr(self, name)}."
                )


def _check_folder(folder: Path) -> None:
    """Raise `InputError` unless it is a readable folder of bundles or of one model."""
    try:
        names = [path.name for path in folder.iterdir()]
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        raise InputError(f"{cannot_read(folder, error)} Give a folder such as dist.") from None
    if CHECKSUMS in names and MANIFEST in names:
        raise InputError(
            "The folder must hold bundles, such as dist, or one model, such as dist/digits. "
            f"Received: {folder}, a single version. Serve its parent folder."
        )
