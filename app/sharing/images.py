"""OCI images: their manifests, and the layer that holds a bundle.

The layer holds the folder `models`, which KServe mounts, as a Triton model repository. The same
version gives the same bytes.
Source: the OCI image specification 1.1; POSIX.1-1988 for the layer (ustar).
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from app.errors import SharingError
from serving.bundle import read_manifest
from serving.errors import one_line
from serving.manifest import Manifest
from serving.packed import MAX_FILES, files_to_pack, place_of_files

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
_ROOT = "models"
_BLOCK = 512
_CHUNK = 2**20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Descriptor:
    """What a blob must be.

    Attributes:
        media_type: type of its content.
        digest: `sha256:` and 64 hexadecimal digits.
        size: number of bytes.
    """

    media_type: str
    digest: str
    size: int

    def as_json(self) -> dict[str, Any]:
        """Return the descriptor as manifests have it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Image:
    """The manifest of an image.

    Attributes:
        config: its configuration.
        layers: its layers, the lowest first.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]


def is_digest(value: Any) -> bool:
    """Return whether a value is the digest of a blob: `sha256:` and 64 hexadecimal digits."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def digest_of(content: bytes) -> str:
    """Return the digest of a blob."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def as_bytes(value: dict[str, Any]) -> bytes:
    """Return a JSON object of an image; the same object gives the same bytes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def describe_file(path: Path, media_type: str) -> Descriptor:
    """Return the descriptor of a file's content."""
    with path.open("rb") as file:
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    return Descriptor(media_type, digest, path.stat().st_size)


def parse_image(content: bytes, where: str) -> Image:
    """Read the manifest of an image.

    Args:
        content: the manifest.
        where: the image, for the error.

    Raises:
        SharingError: it is not the manifest of an image with layers.
    """
    try:
        value = json.loads(content)
        config = _parse_descriptor(value["config"])
        layers = tuple(_parse_descriptor(layer) for layer in value["layers"])
    except (ValueError, KeyError, TypeError, RecursionError):
        kind = "an index of several images" if b'"manifests"' in content else "something else"
        raise SharingError(
            f"{where} must be one image with layers, described as OCI does. Received: {kind}."
        ) from None
    return Image(config, layers)


def _parse_descriptor(value: Any) -> Descriptor:
    media_type, digest, size = value["mediaType"], value["digest"], value["size"]
    if not is_digest(digest) or not isinstance(media_type, str):
        raise ValueError(digest)
    if type(size) is not int or size < 0:
        raise ValueError(size)
    return Descriptor(media_type, digest, size)


def build_manifest(
    manifest: Manifest, layer: Descriptor, base: Image | None, base_config: bytes
) -> tuple[bytes, bytes]:
    """Return the configuration and the manifest of the image of a bundle.

    Args:
        manifest: manifest of the bundle.
        layer: the layer that holds it.
        base: the image to put the layer on; None for an image of this layer only.
        base_config: configuration of `base`.
    """
    value: dict[str, Any] = json.loads(base_config or b'{"architecture":"amd64","os":"linux"}')
    step = {"created": manifest.created, "created_by": "hornbill push"}
    below = value.get("rootfs", {}).get("diff_ids", [])
    value |= {
        "created": manifest.created,
        "history": [*value.get("history", []), step],
        "rootfs": {"type": "layers", "diff_ids": [*below, layer.digest]},
    }
    config = as_bytes(value)
    layers = [*(base.layers if base else ()), layer]
    annotations = {
        "created": manifest.created, "title": manifest.name, "version": str(manifest.version),
    }  # fmt: skip
    return config, as_bytes(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": Descriptor(CONFIG, digest_of(config), len(config)).as_json(),
            "layers": [each.as_json() for each in layers],
            "annotations": {f"org.opencontainers.image.{k}": v for k, v in annotations.items()},
        }
    )


def write_layer(folder: Path, manifest: Manifest, file: Any) -> None:
    """Write the layer of a version.

    Args:
        folder: folder of the version.
        manifest: its manifest.
        file: has a method `write`.

    Raises:
        ManifestError: a file of the version is missing or changed.
        SharingError: a layer cannot hold a file.
    """
    written: set[PurePosixPath] = set()
    for name, content in files_to_pack(folder, manifest):
        path = PurePosixPath(_ROOT, name)
        for parent in reversed(path.parents[:-1]):
            if parent not in written:
                written.add(parent)
                file.write(_head(f"{parent}/", 0, tarfile.DIRTYPE))
        file.write(_head(str(path), len(content), tarfile.REGTYPE))
        file.write(content)
        file.write(bytes(-len(content) % _BLOCK))
    file.write(bytes(2 * _BLOCK))


def _head(name: str, size: int, kind: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, size
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    try:
        return entry.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError as error:
        raise SharingError(
            "A layer must have paths of at most 255 bytes and files of at most 8 GB. "
            f"Received: {name!r:.80}, {one_line(error)}."
        ) from None


def read_layer(path: Path, workplace: Path) -> Path:
    """Write the version that a layer holds into an empty folder.

    Args:
        path: file of the layer.
        workplace: the folder.

    Returns:
        The folder of the version in it, `NAME/VERSION`.

    Raises:
        SharingError: the layer is not exactly what `write_layer` writes.
        ManifestError: it holds no version.
    """
    with path.open("rb") as file:
        names = [name for name, _ in _entries(file)]
    version = workplace.joinpath(*place_of_files(names))
    with path.open("rb") as file:
        for name, size in _entries(file):
            target = workplace / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as copy:
                left = size
                while part := file.read(min(_CHUNK, left)):
                    copy.write(part)
                    left -= len(part)
    wanted = _Digest()
    write_layer(version, read_manifest(version), wanted)
    received = describe_file(path, LAYER).digest
    if f"sha256:{wanted.hash.hexdigest()}" != received:
        raise SharingError(
            "The layer of a bundle must be as hornbill push writes it. "
            f"Received: {received[:19]}…, which holds something else too."
        )
    return version


class _Digest:
    """A file that keeps only the SHA-256 of what is written."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, content: bytes) -> None:
        self.hash.update(content)


def _entries(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """Yield the path in `models` and the size of each file of a layer, with `file` at its content.

    No header is followed to another place or interpreted further: links, sparse files and headers
    that change others are refused.
    """
    count = 0
    while any(block := file.read(_BLOCK)):
        count += 1
        try:
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise SharingError(f"A layer must be a tar file. Received: {error}.") from None
        inside = entry.name.partition("/")[2]
        is_plain = entry.type in (tarfile.REGTYPE, tarfile.DIRTYPE) and 0 <= entry.size < 2**33
        if not is_plain or entry.name.split("/")[0] != _ROOT or count > 2 * MAX_FILES:
            raise SharingError(
                f"The layer of a bundle must hold plain files in {_ROOT}, at most {MAX_FILES:,}. "
                f"Received: {entry.name!r:.80}."
            )
        if entry.type == tarfile.DIRTYPE:
            continue
        start = file.tell()
        yield inside, entry.size
        file.seek(start + entry.size + -entry.size % _BLOCK)
