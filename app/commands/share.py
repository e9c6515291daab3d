"""`hornbill push` and `hornbill pull`: a bundle as an image in an OCI registry or layout."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from .terminal import Bundle, Json, Output, Quiet, examples, print_json, suggest

PUSH_EXAMPLES = examples(
    "hornbill push dist/digits registry.example.com/models/digits",
    "hornbill push dist/digits localhost:5000/digits:stable",
    "hornbill push dist/digits oci:images:digits",
)
PULL_EXAMPLES = examples(
    "hornbill pull registry.example.com/models/digits",
    "hornbill pull registry.example.com/models/digits@sha256:… --output models",
    "hornbill pull oci:images:digits",
)
_IMAGE = "HOST/NAME:TAG in a registry, or oci:FOLDER:TAG in a folder with the OCI image layout."


def push(
    bundle: Bundle,
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE", help=f"{_IMAGE} Without a tag, the tag is the bundle's version."
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            help="Image to put the bundle on, such as one with a shell, which KServe's modelcars "
            "need. Default: none.",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Store a bundle in an OCI registry or layout, as an image that holds the folder models."""
    from app.sharing.handing_on import push as push_bundle
    from serving.versions import find_version

    pushed = push_bundle(find_version(bundle), image, base)
    if as_json:
        print_json({"image": pushed.reference, "digest": pushed.digest})
    elif not quiet:
        typer.echo(f"pushed: {pushed.reference}")
        typer.echo(f"digest: {pushed.digest}")
        suggest(f"hornbill pull {quote(pushed.reference)}")


def pull(
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE",
            help=f"{_IMAGE} Without a tag, the tag that is the highest version; HOST/NAME@sha256:… "
            "always names the same image.",
        ),
    ],
    output: Output = Path("dist"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the bundle of an image into a folder of bundles, after checking every byte."""
    from app.sharing.handing_on import pull as pull_bundle

    pulled = pull_bundle(image, output)
    if as_json:
        print_json(
            {"bundle": str(pulled.folder), "image": pulled.reference, "digest": pulled.digest}
        )
    elif not quiet:
        typer.echo(f"pulled: {pulled.folder}")
        typer.echo(f"digest: {pulled.digest}")
        suggest(f"hornbill verify {quote(str(pulled.folder.parent))}")
