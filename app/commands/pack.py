"""`hornbill pack` and `hornbill unpack`: a bundle as one file."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from .terminal import Bundle, Json, Output, Quiet, examples, print_json, suggest

PACK_EXAMPLES = examples(
    "hornbill pack dist/digits",
    "hornbill pack dist/digits/1 --output digits.hornbill",
    "hornbill verify digits.hornbill",
)
UNPACK_EXAMPLES = examples(
    "hornbill unpack digits-1.hornbill",
    "hornbill unpack digits-1.hornbill --output models",
)


def pack(
    bundle: Bundle,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write. Default: NAME-VERSION.hornbill, in the working folder.",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a bundle one file, which verify, predict, serve and Predictor.load read as it is."""
    from serving.packed import pack as write_packed
    from serving.versions import find_version

    path = write_packed(find_version(bundle), output)
    size = path.stat().st_size
    if as_json:
        print_json({"file": str(path), "bytes": size})
    elif not quiet:
        typer.echo(f"packed: {path}, {size:,} bytes")
        suggest(f"hornbill verify {quote(str(path))}")


def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that hornbill pack wrote.")],
    output: Output = Path("dist"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the bundle in a packed file into a folder of bundles."""
    from serving.packed import unpack as write_version

    folder = write_version(file, output)
    if as_json:
        print_json({"bundle": str(folder)})
    elif not quiet:
        typer.echo(f"unpacked: {folder}")
        suggest(f"hornbill verify {quote(str(folder.parent))}")
