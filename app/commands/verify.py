"""`hornbill verify`: checks that a bundle is unchanged and behaves as exported."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from serving.errors import printable

from .terminal import (
    Bundle,
    Json,
    Quiet,
    examples,
    import_signature,
    print_json,
    suggest,
)

VERIFY_EXAMPLES = examples(
    "hornbill verify dist/digits",
    "hornbill verify dist/digits/1 --json",
    "hornbill verify dist/digits --key pub.pem",
)


def verify(
    bundle: Bundle,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="PUB",
            help="Public key (PEM) to check the signature with. Default: it is not checked.",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check the files, contract and behavior of a bundle; exit with 1 if a check fails."""
    from serving.verify import verify_bundle

    checks = verify_bundle(bundle, None if key is None else import_signature().read_verifier(key))
    passed = all(check.passed for check in checks)
    if as_json:
        print_json(
            {
                "passed": passed,
                "checks": [
                    {"name": c.name, "passed": c.passed, "detail": c.detail} for c in checks
                ],
            }
        )
    else:
        for check in checks:
            word = "PASS" if check.passed else "FAIL"
            if not (quiet and check.passed):
                typer.echo(f"{word}  {check.name:9}  {printable(check.detail)}", err=quiet)
        if passed and not quiet:
            suggest(f"hornbill predict {quote(str(bundle))} FILE…")
    if not passed:
        raise typer.Exit(1)
