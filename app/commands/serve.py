"""`hornbill serve`: serves a folder of bundles over HTTP."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from .terminal import examples, import_signature

_TOKEN = "HORNBILL_TOKEN"  # noqa: S105 - the name of a variable
SERVE_EXAMPLES = examples(
    "hornbill serve dist",
    "hornbill serve dist --port 8080 --grpc-port 8001 --versions all",
    "HORNBILL_TOKEN=… hornbill serve dist --host 0.0.0.0 --workers 2",
    "hornbill serve dist --key pub.pem --tls-cert server.crt --tls-key server.key",
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
    uds: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Unix domain socket to listen on, in place of host and port."
        ),
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=0,
            max=65535,
            help="Port for gRPC, which the extra grpc installs; 0 picks a free one. "
            "Default: no gRPC.",
        ),
    ] = None,
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
            envvar=_TOKEN,
            help="Bearer token that requests must present. Default: none is required.",
            show_envvar=True,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of tokens, a name and a token in each line, which is read anew when it "
            "changes. The log shows the name of the token used.",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="PUB",
            help="Public key (PEM): serve only versions that its private key has signed.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificate (PEM), to serve HTTPS. Needs --tls-key."),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Private key (PEM) of the certificate."),
    ] = None,
    root_path: Annotated[
        str,
        typer.Option(metavar="PATH", help="Path under which a proxy publishes the server."),
    ] = "",
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Origin whose pages may send requests, such as https://example.org; * allows "
            "all. May be repeated.",
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
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="Names that requests may give as their host; *.example.com allows those below it. "
            "Default: any.",
        ),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A model without which the server is not ready; may be given several times.",
        ),
    ] = None,
    model_control: Annotated[
        str,
        typer.Option(
            metavar="poll|explicit",
            help="What is loaded: what is in DIR, or what --require names and clients ask for.",
        ),
    ] = "poll",
    max_load_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Longest time to verify and load a version. Default: 60, and 1 for each megabyte.",
            show_default=False,
        ),
    ] = None,
    max_load_memory_gb: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            help="Most memory to verify and load a version, on Linux. Default: 4, and 5 times the "
            "size of its files, but at most nine tenths of what is free.",
            show_default=False,
        ),
    ] = None,
    drain_delay: Annotated[
        float,
        typer.Option(
            metavar="S",
            help="Time from SIGTERM, when the server stops being ready, until it stops listening.",
        ),
    ] = 1.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not log requests.")] = False,
) -> None:
    """Serve bundles over the Open Inference Protocol v2 and TF Serving's interface."""
    from serving.bundle import PACKED
    from serving.server import Settings
    from serving.server.running import (
        check_files,
        find_address,
        find_grpc_address,
        find_socket,
        run_server,
    )
    from serving.versions import find_version

    grpc_address = None if grpc_port is None else find_grpc_address(host, grpc_port)
    with _options_named():
        settings = Settings(
            folder=find_version(folder).parent if folder.suffix == PACKED else folder,
            versions=versions,
            # An empty variable, which Typer passes over, must not open the server to all.
            token=os.environ.get(_TOKEN) if token is None else token,
            token_file=token_file,
            public_key=key,
            tls_certificate=tls_cert,
            tls_key=tls_key,
            root_path=root_path.rstrip("/"),
            cors_origins=tuple(cors_origin or ()),
            max_body_mb=max_body_mb,
            max_rows=max_rows,
            max_requests=max_requests,
            max_delay_ms=max_delay_ms,
            allowed_hosts=() if allowed_hosts is None else _names(allowed_hosts),
            grpc_address=grpc_address and str(grpc_address),
            log_requests=not quiet,
            require=tuple(require or ()),
            model_control=model_control,
            max_load_seconds=max_load_seconds,
            max_load_memory_gb=max_load_memory_gb,
            drain_delay_s=drain_delay,
        )
    if key is not None:
        import_signature()
    check_files(settings)
    address = find_address(host, port) if uds is None else find_socket(uds)
    url = address.url(tls_cert is not None)
    also = f", gRPC on {grpc_address}" if grpc_address else ""
    with suppress(OSError):  # a server is of use without anybody who reads this
        os.write(2, f"serving {folder} on {url}, API docs at /docs{also}\n".encode())
    run_server(settings, address, workers)


def _names(given: str) -> tuple[str, ...]:
    """Return the names of a list; an empty one has an empty name, which is refused."""
    return tuple(given.replace(",", " ").split()) or ("",)


@contextmanager
def _options_named() -> Iterator[None]:
    """Let the error of a setting name the option that people gave."""
    from serving.errors import InputError
    from serving.server import Settings

    try:
        yield
    except InputError as error:
        name, _, rest = str(error).partition(" ")
        if name not in {field.name for field in fields(Settings)}:
            raise
        option = f"--{name.removesuffix('_s').replace('_', '-')}"
        raise InputError(f"{option}{f' or {_TOKEN}' * (name == 'token')} {rest}") from None
