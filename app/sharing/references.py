"""References to images: `HOST/NAME:TAG` in a registry, `oci:FOLDER:TAG` in an OCI image layout."""

import re
from dataclasses import dataclass
from pathlib import Path

from app.errors import SharingError
from app.system.addresses import without_credentials

_TAG = r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
_DIGEST = r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LAYOUT = re.compile(rf"oci:(?!//)(?P<folder>.+?){_TAG}{_DIGEST}")
_REGISTRY = re.compile(
    r"(?:(?P<scheme>oci|https|http)://)?"
    r"(?P<host>localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9.-]+(?=:)|\[[0-9A-Fa-f:]+\])"
    rf"(?P<port>:\d+)?/(?P<repository>{_PART}(?:/{_PART})*){_TAG}{_DIGEST}"
)
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")


@dataclass(frozen=True)
class Reference:
    """Where an image is.

    Attributes:
        folder: folder of an OCI image layout; None for a registry.
        scheme: `http` or `https`.
        host: host of the registry, with its port.
        repository: name of the image in the registry.
        tag: tag of the image; empty if none was given.
        digest: digest of the image's manifest; empty if none was given.
    """

    folder: Path | None
    scheme: str
    host: str
    repository: str
    tag: str
    digest: str

    @property
    def place(self) -> str:
        """The reference without tag and digest; with the scheme if the host has another one."""
        if self.folder:
            return f"oci:{self.folder}"
        scheme = "" if self.scheme == _scheme_of(self.host) else f"{self.scheme}://"
        return f"{scheme}{self.host}/{self.repository}"

    def at(self, tag: str = "", digest: str = "") -> str:
        """Return a reference to another image of the same place."""
        return self.place + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def parse_reference(text: str) -> Reference:
    """Return the parts of a reference.

    A registry on this machine is reached by HTTP, and others by HTTPS, unless the reference begins
    with `http://` or `https://`; `oci://`, as KServe writes it, may precede either.

    Raises:
        SharingError: the text is no reference.
    """
    found = _LAYOUT.fullmatch(text) or _REGISTRY.fullmatch(text)
    if found is None:
        raise SharingError(
            "An image must be HOST/NAME:TAG, such as registry.example.com/models/digits:1, with a "
            "name in lower case, or oci:FOLDER:TAG for an OCI image layout. "
            f"Received: {without_credentials(text)!r:.160}."
        )
    parts = {key: value or "" for key, value in found.groupdict().items()}
    tag, digest = parts["tag"], parts["digest"]
    if "folder" in parts:
        return Reference(Path(parts["folder"]), "", "", "", tag, digest)
    scheme, host = parts["scheme"], parts["host"] + parts["port"]
    if scheme in ("", "oci"):
        scheme = _scheme_of(host)
    return Reference(None, scheme, host, parts["repository"], tag, digest)


def _scheme_of(host: str) -> str:
    return "http" if _LOOPBACK.fullmatch(host) else "https"
