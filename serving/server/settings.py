"""What an operator can choose."""

from dataclasses import dataclass
from pathlib import Path

from ..bundle import CHECKSUMS, MANIFEST
from ..errors import InputError

VERSIONS = ("latest", "all")
# What Granian, zlib and timers can take.
_MOST = {
    "max_body_mb": 1_000_000,
    "max_rows": 1_000_000_000,
    "max_requests": 1_000_000,
    "max_delay_ms": 1_000_000,
    "body_s": 1_000_000,
    "poll_s": 1_000_000,
}


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        folder: of bundles, or of one model.
        versions: of each model: `latest`, or `all`.
        token: that requests must bear; None to take any.
        max_body_mb: largest body, after decompression.
        max_rows: most samples in a request.
        max_requests: how many may be under way at once; more are answered 503.
        max_delay_ms: how long a batch may take because it waited to be filled.
        body_s: how long the body of a request may take to come.
        poll_s: how often the folder is looked at for new versions.
        log_requests: whether each request is a line of JSON on standard output.

    Raises:
        InputError: a value is out of range, or there is no such folder, or it cannot be read.
    """

    folder: Path
    versions: str = "latest"
    token: str | None = None
    max_body_mb: float = 64.0
    max_rows: int = 16384
    max_requests: int = 1024
    max_delay_ms: float = 5.0
    body_s: float = 20.0
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
            raise InputError("token must not be empty. Received: one of blanks.")
        if self.token is not None and not self.token.isascii():  # no header has others
            raise InputError("token must be of ASCII characters. Received: one with others.")
        for name, most in _MOST.items():
            if not 0 < getattr(self, name) <= most:
                raise InputError(
                    f"{name} must be above 0 and at most {most:,}. Received: {getattr(self, name)}."
                )


def _check_folder(folder: Path) -> None:
    """Raise `InputError` unless bundles can be looked for in it."""
    try:
        names = [path.name for path in folder.iterdir()]
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"Bundles must lie in a folder that can be read, such as dist. "
            f"Received: {folder}, {reason}."
        ) from None
    if CHECKSUMS in names and MANIFEST in names:
        raise InputError(
            "Bundles must lie in a folder such as dist, or dist/digits. "
            f"Received: {folder}, one version. Serve the folder around it."
        )
