"""Pushes a bundle to a registry or an image layout, and pulls it from there."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import SharingError
from serving.bundle import CHECKSUMS, check_names, read_manifest
from serving.errors import ManifestError, first_few, one_line, reason_of
from serving.packed import files_to_pack, new_version_in, publish

from .images import (
    CONFIG,
    LAYER,
    Descriptor,
    Image,
    build_manifest,
    describe_file,
    digest_of,
    parse_image,
    read_layer,
    write_layer,
)
from .layouts import Layout
from .references import Reference, parse_reference
from .stores import Store

_VERSION = re.compile(r"[1-9]\d{0,17}")


@dataclass(frozen=True)
class HandedOn:
    """What was pushed or pulled.

    Attributes:
        reference: the image, with its tag.
        digest: digest of the image's manifest.
        folder: folder of the version.
    """

    reference: str
    digest: str
    folder: Path


def push(folder: Path, to: str, base: str | None = None) -> HandedOn:
    """Store a version as an image; its tag appears when all of it is there.

    Args:
        folder: folder of the version.
        to: reference to the image; without a tag, the tag is the version.
        base: reference to an image to put the bundle on; None for an image of the bundle only.

    Raises:
        SharingError: a reference is none, a place cannot be used, or the tag is a number that is
            another version, or that names another image already; or a temporary file cannot be
            written.
        ManifestError: a file of the version is missing, changed, unlisted or a link, or there are
            no golden samples. Behavior is only checked by `verify`.
    """
    reference = parse_reference(to)
    check_names(folder)
    manifest = read_manifest(folder)
    tag = reference.tag or str(manifest.version)
    if reference.digest or (_VERSION.fullmatch(tag) and tag != str(manifest.version)):
        raise SharingError(
            f"A tag that is a number must be the version, {manifest.version}, and a digest cannot "
            f"be chosen. Received: {to}."
        )
    store = _open(reference)
    with _workplace() as workplace:
        blobs: dict[Descriptor, Path] = {}
        below, config = _fetch_base(base, workplace, blobs) if base else (None, b"")
        path = workplace / "layer"
        with path.open("wb") as file:
            write_layer(folder, manifest, file)
        layer = describe_file(path, LAYER)
        config, content = build_manifest(manifest, layer, below, config)
        blobs[layer] = path
        path = workplace / "config"
        path.write_bytes(config)
        blobs[describe_file(path, CONFIG)] = path
        digest = digest_of(content)
        _check_free(store, reference, tag, digest)
        for blob, path in blobs.items():
            store.add(blob, path)
    store.publish(content, tag)
    return HandedOn(reference.at(tag), digest, folder)


def pull(image: str, output: Path) -> HandedOn:
    """Write the version in an image into `OUTPUT/NAME/VERSION`, all of it or nothing.

    Args:
        image: reference to the image; without tag and digest, the tag that is the highest version.
        output: folder of bundles.

    Raises:
        SharingError: the reference is none, its place cannot be used, there is no such image, it
            was not written by `push`, or a digest differs.
        ManifestError: the version exists and is another one or was damaged, another version of the
            model has other inputs, outputs or labels, or the folder cannot be written.
    """
    reference = parse_reference(image)
    store = _open(reference)
    tag = reference.tag or ("" if reference.digest else _latest(store, reference))
    where = reference.at(tag, reference.digest)
    found, digest = _read_image(store, where, reference.digest or tag)
    layer = (Descriptor("no layer", "", 0), *found.layers)[-1]
    if layer.media_type != LAYER:
        raise SharingError(
            f"{where} must be an image that hornbill push wrote. Received: {layer.media_type:.80}."
        )
    with new_version_in(output) as workplace:
        path = workplace / "blob"
        for blob in (found.config, layer):
            _fetch(store, blob, path)
        version = read_layer(path, workplace)
        there = output / version.parent.name / version.name
        if _is_same(there, version):
            for own in filter(Path.is_file, version.parent.iterdir()):  # that all versions share
                if not (there.parent / own.name).exists():
                    shutil.copyfile(own, there.parent / own.name)
            return HandedOn(where, digest, there)
        return HandedOn(where, digest, publish(version, output))


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    """Yield a temporary folder.

    Raises:
        SharingError: nothing can be written there.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="hornbill-") as folder:
            yield Path(folder)
    except OSError as error:
        raise SharingError(
            "The folder of temporary files, TMPDIR, must have room for the bundle. "
            f"Received: {reason_of(error)}."
        ) from None


def _is_same(there: Path, version: Path) -> bool:
    """Return whether a version was published before, as when a container starts again.

    Raises:
        ManifestError: it was, and a file has been changed or lost since.
    """
    sums = there / CHECKSUMS
    if not sums.is_file() or sums.read_bytes() != (version / CHECKSUMS).read_bytes():
        return False
    try:
        check_names(there)
        for name, content in files_to_pack(there, read_manifest(there)):
            path = there.parent.parent / name
            # What versions share may be edited, such as Triton's configuration.
            if path.is_relative_to(there) and path.read_bytes() != content:
                raise ManifestError(f"{path} must be as it was pulled. Received: another content.")
    except (ManifestError, OSError) as error:
        raise ManifestError(f"{one_line(error)} Remove {there} and pull again.") from None
    return True


def _open(reference: Reference) -> Store:
    if reference.folder is not None:
        return Layout(reference.folder)
    from .registries import Repository

    return Repository(reference)


def _latest(store: Store, reference: Reference) -> str:
    tags = store.tags()
    versions = [int(tag) for tag in tags if _VERSION.fullmatch(tag)]
    if not versions:
        received = first_few(sorted(tags)) if tags else "no tag"
        raise SharingError(
            f"{reference.place} must have a tag that is a version, or be given with its tag. "
            f"Received: {received}."
        )
    return str(max(versions))


def _check_free(store: Store, reference: Reference, tag: str, digest: str) -> None:
    """Refuse to let the tag of a version name another image."""
    before = store.read_manifest(tag)
    if before is not None and _VERSION.fullmatch(tag) and digest_of(before) != digest:
        raise SharingError(
            f"A version is never overwritten. Received: {reference.at(tag)}, which is another "
            f"image, {digest_of(before)[:19]}…."
        )


def _read_image(store: Store, where: str, name: str) -> tuple[Image, str]:
    """Return the manifest with a tag or digest, and its digest."""
    content = store.read_manifest(name)
    if content is None:
        store.tags()  # raises if the place itself does not exist
        raise SharingError(f"{where} must exist. Received: no such image.")
    digest = digest_of(content)
    if ":" in name and digest != name:
        raise SharingError(f"{where} must have this digest. Received: {digest}.")
    return parse_image(content, where), digest


def _fetch(store: Store, blob: Descriptor, path: Path) -> None:
    """Write a blob into a file, and check its digest.

    Raises:
        SharingError: it differs, or the disk has no room for the blob.
    """
    free = shutil.disk_usage(path.parent).free
    if blob.size > free:
        raise SharingError(
            f"The disk of {path.parent} must have room for {blob.size:,} bytes. Received: {free:,}."
        )
    store.fetch(blob, path)
    received = describe_file(path, blob.media_type)
    if received != blob:
        raise SharingError(
            f"A blob must be as the image says, {blob.digest} of {blob.size:,} bytes. Received: "
            f"{received.digest[:19]}… of {received.size:,} bytes or more."
        )


def _fetch_base(base: str, workplace: Path, blobs: dict[Descriptor, Path]) -> tuple[Image, bytes]:
    """Fetch an image to put a bundle on.

    Args:
        base: reference to the image.
        workplace: folder for its layers.
        blobs: takes the file of each layer.

    Returns:
        The image and its configuration.
    """
    reference = parse_reference(base)
    store = _open(reference)
    image, _ = _read_image(store, base, reference.digest or reference.tag or "latest")
    config = workplace / "base"
    _fetch(store, image.config, config)
    for number, layer in enumerate(image.layers):
        path = workplace / f"base{number}"
        _fetch(store, layer, path)
        blobs[layer] = path
    return image, config.read_bytes()
