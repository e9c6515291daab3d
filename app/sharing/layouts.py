"""Images in a folder with the OCI image layout, as `skopeo` and `oras` read and write it.

Source: the OCI image specification 1.1, image-layout.md.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock

from app.errors import SharingError
from app.system.atomic_files import atomic_path
from serving.bundle import open_regular
from serving.errors import cannot_read, cannot_write

from .images import MANIFEST, Descriptor, as_bytes, digest_of, is_digest
from .stores import MAX_MANIFEST

_VERSION = b'{"imageLayoutVersion":"1.0.0"}'
_TAG = "org.opencontainers.image.ref.name"
# What a folder may hold before its first image is published.
_BEGUN = {"blobs", ".lock"}
_CHUNK = 2**20


class Layout:
    """The images in a folder; see `stores.Store`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tags(self) -> list[str]:
        """Return all tags."""
        if not (self.folder / "index.json").exists():
            self._entries()  # raises if it is a folder of something else
            raise SharingError(f"oci:{self.folder} must exist. Received: no such image layout.")
        return [tag for entry in self._entries() if (tag := _tag_of(entry))]

    def read_manifest(self, name: str) -> bytes | None:
        """Return the manifest with a tag or digest; None if there is none."""
        found = [
            entry["digest"]
            for entry in self._entries()
            if name in (entry["digest"], _tag_of(entry))
        ]
        return self._read(self._blob(found[-1])) if found else None

    def fetch(self, blob: Descriptor, path: Path) -> None:
        """Write a blob into a file, at most one byte more than it must have."""
        source = self._blob(blob.digest)
        try:
            with open_regular(source) as file, path.open("wb") as copy:
                left = blob.size + 1
                while part := file.read(min(left, _CHUNK)):
                    copy.write(part)
                    left -= len(part)
        except OSError as error:
            raise SharingError(cannot_read(source, error)) from None

    def add(self, blob: Descriptor, path: Path) -> None:
        """Store the content of a file."""
        target = self._blob(blob.digest)
        try:
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(target) as new:
                    shutil.copyfile(path, new)
        except OSError as error:
            raise SharingError(cannot_write(target, error)) from None

    def publish(self, manifest: bytes, tag: str) -> None:
        """Store a manifest whose blobs are stored; its tag then names this one."""
        blob = Descriptor(MANIFEST, digest_of(manifest), len(manifest))
        try:
            with FileLock(self.folder / ".lock"):
                others = _without(self._entries(), tag, blob.digest)
                entry = {**blob.as_json(), "annotations": {_TAG: tag}}
                self._write(self._blob(blob.digest), manifest)
                self._write(self.folder / "oci-layout", _VERSION)
                index = {"schemaVersion": 2, "manifests": [*others, entry]}
                self._write(self.folder / "index.json", as_bytes(index))
                (self.folder / ".lock").unlink()
        except OSError as error:
            raise SharingError(cannot_write(self.folder, error)) from None

    def _write(self, path: Path, content: bytes) -> None:
        with atomic_path(path) as new:
            new.write_bytes(content)

    def _blob(self, digest: str) -> Path:
        return self.folder.joinpath("blobs", *digest.split(":"))

    def _entries(self) -> list[dict[str, Any]]:
        """Return the entries of the index; none if there is no layout yet."""
        path = self.folder / "index.json"
        if not path.exists():
            others = self.folder.exists() and {p.name for p in self.folder.iterdir()} - _BEGUN
            if others:
                raise SharingError(
                    "An OCI image layout needs a folder of its own. "
                    f"Received: {self.folder}, which holds {min(others)!r:.80}."
                )
            return []
        try:
            entries: list[dict[str, Any]] = json.loads(self._read(path))["manifests"]
            is_index = all(is_digest(e["digest"]) and _tag_of(e) != "" for e in entries)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            is_index = False
        if not is_index:
            raise SharingError(
                f"{path} must be the index of an OCI image layout. Received: another."
            )
        return entries

    def _read(self, path: Path) -> bytes:
        try:
            with open_regular(path) as file:
                content = file.read(MAX_MANIFEST + 1)
        except OSError as error:
            raise SharingError(cannot_read(path, error)) from None
        if len(content) > MAX_MANIFEST:
            raise SharingError(f"{path} must have at most {MAX_MANIFEST:,} bytes. Received: more.")
        return content


def _without(entries: list[dict[str, Any]], tag: str, digest: str) -> list[dict[str, Any]]:
    """Return entries without a tag, which is to name the image with `digest`.

    The image that had the tag stays, so that its digest names it for ever.
    """
    named = [entry for entry in entries if _tag_of(entry) not in (tag, None)]
    known = {digest, *(entry["digest"] for entry in named)}
    rest: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if _tag_of(entry) in (tag, None) and entry["digest"] not in known:
            others = {k: v for k, v in entry.get("annotations", {}).items() if k != _TAG}
            bare = {key: value for key, value in entry.items() if key != "annotations"}
            rest[entry["digest"]] = {**bare, "annotations": others} if others else bare
    return [*rest.values(), *named]


def _tag_of(entry: dict[str, Any]) -> str | None:
    tag = entry.get("annotations", {}).get(_TAG)
    return tag if isinstance(tag, str) else None
