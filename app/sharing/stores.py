"""What registries and image layouts have in common: blobs by digest, manifests by tag."""

from pathlib import Path
from typing import Protocol

from .images import Descriptor

# Bytes that a manifest may have, as registries limit it too.
MAX_MANIFEST = 4 * 2**20


class Store(Protocol):
    """The images of one name."""

    def tags(self) -> list[str]:
        """Return all tags.

        Raises:
            SharingError: there is no such store, or it cannot be read.
        """

    def read_manifest(self, name: str) -> bytes | None:
        """Return the manifest with a tag or digest, at most `MAX_MANIFEST` bytes; None without one.

        Raises:
            SharingError: the store cannot be read.
        """

    def fetch(self, blob: Descriptor, path: Path) -> None:
        """Write a blob into a file, at most one byte more than it must have.

        Raises:
            SharingError: the store cannot be read, or lacks the blob.
        """

    def add(self, blob: Descriptor, path: Path) -> None:
        """Store the content of a file.

        Raises:
            SharingError: the store cannot be written.
        """

    def publish(self, manifest: bytes, tag: str) -> None:
        """Store a manifest whose blobs are stored; its tag then names this one.

        Raises:
            SharingError: the store cannot be written.
        """
