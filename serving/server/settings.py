"""The settings of a server."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundle import CHECKSUMS, MANIFEST
from ..errors import InputError, cannot_read
from .origins import check_origin

VERSIONS = ("latest", "all")
# An address of IPv6 has two colons or more; with one it is a name and a port.
_HOST = re.compile(r"(\*\.)?[\w.-]+|\[?[0-9a-fA-F]*(:[0-9a-fA-F]*){2,7}\]?")
MODEL_CONTROLS = ("poll", "explicit")
# Upper limits of Granian, zlib and timers.
_MAX = {
    "max_body_mb": 1_000_000,
    "max_rows": 1_000_000_000,
    "max_requests": 1_000_000,
    "max_delay_ms": 1_000_000,
    "body_s": 1_000_000,
    "write_s": 1_000_000,
    "poll_s": 1_000_000,
    "selftest_s": 1_000_000,
    "max_load_seconds": 1_000_000,
    "max_load_memory_gb": 1_000_000,
}
_MAX_DRAIN_S = 3600
# Characters that need no encoding in a path, RFC 3986.
_ROOT_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        folder: folder of bundles, or of one model.
        versions: which versions of each model are served: `latest` or `all`.
        token: bearer token that requests must present; None to accept all requests.
        token_file: file with names and tokens of which requests must present one, see
            `tokens.read_tokens`; it is read anew when it changes. None if there is none.
        public_key: file of a public key; only versions signed with its private key are served.
            None to serve all.
        tls_certificate: file of the certificate with which the server speaks TLS; None for HTTP.
        tls_key: file of its private key.
        root_path: path under which a proxy publishes the server, such as `/models`; may be empty.
        cors_origins: origins whose pages may send requests from a browser; `*` allows all.
        max_body_mb: largest body in megabytes, after decompression.
        max_rows: largest number of samples in a request.
        max_requests: largest number of requests in flight; further ones get 503.
        max_delay_ms: latency budget for a batch, in milliseconds.
        body_s: seconds within which the body of a request must arrive.
        write_s: seconds in which a client must take a megabyte of a long response, or the rest.
        allowed_hosts: names that requests may give as their host, see `Hosts`; empty for any.
        poll_s: seconds between two checks for new versions.
        selftest_s: seconds between two golden samples that each version answers.
        grpc_address: address for gRPC, such as `127.0.0.1:8001`; None to serve no gRPC.
        log_requests: whether each request is logged as a line of JSON on standard output.
        require: names of models without which the server is not ready.
        model_control: what is loaded: `poll`, what is in the folder; `explicit`, what `require`
            names and what clients ask for.
        max_load_seconds: longest time to verify and load a version; None for the default of
            `trial.verify_in_limits`.
        max_load_memory_gb: largest memory for that in gigabytes; None for its default.
        drain_delay_s: seconds between SIGTERM and the end of the listener. Meanwhile the server is
            not ready, and its responses close their connections.
        shared_folder: folder in which the processes share what clients asked to load, and the
            last valid tokens and `serving.toml`; None if there is only one process.

    Raises:
        InputError: a value is out of range, or the folder is missing or cannot be read.
    """

    folder: Path
    versions: str = "latest"
    token: str | None = None
    token_file: Path | None = None
    public_key: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    root_path: str = ""
    cors_origins: tuple[str, ...] = ()
    max_body_mb: float = 64.0
    max_rows: int = 16384
    max_requests: int = 1024
    max_delay_ms: float = 5.0
    body_s: float = 20.0
    write_s: float = 10.0
    allowed_hosts: Sequence[str] = ()
    poll_s: float = 2.0
    selftest_s: float = 60.0
    grpc_address: str | None = None
    log_requests: bool = True
    require: tuple[str, ...] = ()
    model_control: str = "poll"
    max_load_seconds: float | None = None
    max_load_memory_gb: float | None = None
    drain_delay_s: float = 1.0
    shared_folder: Path | None = None

    def shared(self, name: str) -> Path | None:
        """Return the path of a file that the processes share; None if there is only one."""
        return None if self.shared_folder is None else self.shared_folder / name

    def __post_init__(self) -> None:
        """Check the values."""
        _check_folder(self.folder)
        for name, choices in (("versions", VERSIONS), ("model_control", MODEL_CONTROLS)):
            value = getattr(self, name)
            if value not in choices:
                raise InputError(
                    f"{name} must be one of {', '.join(choices)}. Received: {value!r}."
                )
        if self.token is not None and not self.token.strip():
            raise InputError(f"token must not be empty. Received: {self.token!r}.")
        if self.token is not None and not self.token.isascii():  # headers cannot hold others
            raise InputError("token must only have ASCII characters. Received: one with others.")
        for host in self.allowed_hosts:
            if not _HOST.fullmatch(host):
                raise InputError(
                    "allowed_hosts must be names or addresses without a port, such as "
                    f"models.example.com. Received: {host!r:.80}."
                )
        _check_publication(self)
        for name, largest in _MAX.items():
            value = getattr(self, name)
            if value is not None and not 0 < value <= largest:
                raise InputError(
                    f"{name} must be above 0 and at most {largest:,}. Received: {value}."
                )
        if not 0 <= self.drain_delay_s <= _MAX_DRAIN_S:
            raise InputError(
                f"drain_delay_s must be from 0 to {_MAX_DRAIN_S:,}. Received: {self.drain_delay_s}."
            )


def _check_publication(settings: Settings) -> None:
    """Raise `InputError` if it is unclear how clients reach the server."""
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        received = "no key" if settings.tls_key is None else "no certificate"
        raise InputError(f"TLS needs a certificate and its key. Received: {received}.")
    if settings.root_path and not _ROOT_PATH.fullmatch(settings.root_path):
        raise InputError(
            "root_path must begin with / and not end with it, such as /models. "
            f"Received: {settings.root_path!r:.80}."
        )
    for origin in settings.cors_origins:
        check_origin(origin)


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
