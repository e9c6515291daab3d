"""`hornbill serve`: serves a folder of bundles over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from .terminal import (
    examples,
)

SERVE_EXAMPLES = examples(
    "hornbill serve dist",
    "hornbill serve dist --port 8080 --versions all",
    "HORNBILL_TOKEN=… hornbill serve dist --host 0.0.0.0 --workers 2",
)


def serve(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of bundles, or of a single model, or a packed file."
        ),
    ] = Path("dist"),
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            metavar="PORT", min=0, max=65535, help="Port to listen on; 0 picks a free one."
        ),
    ] = 8000,
    versions: Annotated[
        str, typer.Option(metavar="latest|all", help="Versions of each model to serve.")
    ] = "latest",
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, max=256, help="Number of processes.")
    ] = 1,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            envvar="HORNBILL_TOKEN",
            help="Bearer token that requests must present. Default: none is required.",
            show_envvar=True,
        ),
    ] = None,
    max_body_mb: Annotated[
        float, typer.Option(metavar="MB", help="Maximum size of a request body.")
    ] = 64.0,
    max_rows: Annotated[
        int, typer.Option(metavar="N", help="Maximum number of samples in a request.")
    ] = 16384,
    max_requests: Annotated[
        int, typer.Option(metavar="N", help="Maximum concurrent requests; further ones get 503.")
    ] = 1024,
    max_delay_ms: Annotated[
        float, typer.Option(metavar="MS", help="Latency budget for a batch.")
    ] = 5.0,
    allowed_hosts: Annotated[
        str,
        typer.Option(
            metavar="NAME,…",
            help="Names that requests may give as their host; *.example.com allows those below it. "
            "Default: any.",
        ),
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not log requests.")] = False,
) -> None:
    """Serve bundles over the Open Inference Protocol v2 and TF Serving's REST interface."""
    from serving.packed import PACKED
    from serving.server import Settings
    from serving.server.running import find_address, run_server
    from serving.versions import find_version

    settings = Settings(
        folder=find_version(folder).parent if folder.suffix == PACKED else folder,
        versions=versions,
        token=token,
        max_body_mb=max_body_mb,
        max_rows=max_rows,
        max_requests=max_requests,
        max_delay_ms=max_delay_ms,
        allowed_hosts=tuple(allowed_hosts.replace(",", " ").split()),
        log_requests=not quiet,
    )
    address = find_address(host, port)
    typer.echo(f"serving {folder} on {address.url}, API docs at /docs", err=True)
    run_server(settings, address, workers)
