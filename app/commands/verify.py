"""`hornbill verify`: checks that a bundle is unchanged and behaves as exported."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from serving.errors import printable

from .terminal import (
    Bundle,
    Json,
    Quiet,
    announce,
    examples,
    import_signature,
    print_json,
    suggest,
)

VERIFY_EXAMPLES = examples(
    "hornbill verify dist/digits",
    "hornbill verify dist/digits/1 --json",
    "hornbill verify dist/digits --key pub.pem",
    "hornbill verify dist/digits --runtimes 1.20.1,1.24.4",
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
    runtimes: Annotated[
        str | None,
        typer.Option(
            metavar="VERSIONS",
            help="Also run the golden samples with these versions of onnxruntime, such as "
            "1.20.1,1.24.4, each of which is installed temporarily. Exit with 1 if an answer "
            "changes.",
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=0.1,
            help="Longest time for all checks. Default: 60, and 1 for each megabyte.",
            show_default=False,
        ),
    ] = None,
    max_memory_gb: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            min=0.1,
            help="Most memory for the checks, on Linux. Default: 4, and 5 times the size of the "
            "files, but at most nine tenths of what is free.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check the files, contract and behavior of a bundle; exit with 1 if a check fails."""
    from serving.trial import verify_in_limits

    versions = [] if runtimes is None else _parse_versions(runtimes)

    check_signature = None if key is None else import_signature().read_verifier(key)
    checks = verify_in_limits(bundle, check_signature, max_seconds, max_memory_gb)
    passed = all(check.passed for check in checks)
    if not as_json:
        _show(checks, quiet)
    reports = _try_runtimes(bundle, versions, quiet or as_json) if passed and versions else []
    passed &= not any(report.changed or report.failure for report in reports)
    if as_json:
        print_json(
            {
                "passed": passed,
                "checks": [
                    {"name": c.name, "passed": c.passed, "detail": c.detail} for c in checks
                ],
                **({"runtimes": [asdict(report) for report in reports]} if versions else {}),
            }
        )
    elif not (quiet and passed):
        for line in _runtime_lines(reports):
            typer.echo(printable(line), err=quiet)
        if passed and _predicts_files(bundle):
            suggest(f"hornbill predict {quote(str(bundle))} FILE…")
    if not passed:
        raise typer.Exit(1)


def _predicts_files(bundle: Path) -> bool:
    from serving.bundle import read_manifest
    from serving.inputs import takes_files
    from serving.versions import find_version

    manifest = read_manifest(find_version(bundle))
    return manifest.prediction_output is not None and takes_files(manifest)


def _show(checks: Sequence[Any], quiet: bool) -> None:
    for check in checks:
        word = "PASS" if check.passed else "FAIL"
        if not (quiet and check.passed):
            typer.echo(f"{word}  {check.name:9}  {printable(check.detail)}", err=quiet)


def _parse_versions(text: str) -> list[str]:
    from app.bundles.runtime_gate import parse_versions

    return parse_versions(text)


def _try_runtimes(bundle: Path, versions: Sequence[str], quiet: bool) -> list[Any]:
    from app.bundles.runtime_gate import try_runtimes
    from serving.versions import find_version

    return try_runtimes(
        find_version(bundle),
        versions,
        begin=lambda step: announce(step, quiet),
    )


def _runtime_lines(reports: Sequence[Any]) -> list[str]:
    """Return a table of reports, the installed version first."""
    if not reports:
        return []
    lines = ["", "onnxruntime  largest difference  other answers  load     one sample"]
    for report in reports:
        word = "FAIL" if report.changed or report.failure else "PASS"
        if report.failure:
            lines.append(f"{report.version:11}  {report.failure}  {word}")
            continue
        changed = f"{report.changed} of {report.samples}"
        largest = report.largest_difference
        difference = "not finite" if largest is None else f"{largest:.1e}"
        lines.append(
            f"{report.version:11}  {difference:18}  {changed:13}  "
            f"{report.load_ms:4.0f} ms  {report.latency_ms:7.3f} ms  {word}"
        )
    return lines
