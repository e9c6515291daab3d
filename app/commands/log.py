"""`hornbill log`: a bundle as a run and a model on an MLflow server."""

from dataclasses import asdict
from shlex import quote
from typing import Annotated

import typer

from app.system.addresses import without_credentials
from serving.errors import InputError

from .terminal import Bundle, Json, Quiet, announce, examples, print_json, suggest

LOG_EXAMPLES = examples(
    "hornbill log dist/digits --server http://mlflow.example.com:5000",
    "hornbill log dist/digits --register",
)


def log(
    bundle: Bundle,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="MLFLOW_TRACKING_URI",
            help="Address of the MLflow server.",
            show_envvar=True,
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="MLFLOW_EXPERIMENT_NAME",
            help="Experiment to log to. Default: one with the name of the model.",
            show_envvar=True,
        ),
    ] = None,
    register: Annotated[
        bool,
        typer.Option(
            "--register", help="Also add it to the registered model with the name of the bundle."
        ),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Log a bundle to an MLflow server: metrics, settings, card, and the model as ONNX."""
    from serving.versions import find_version

    folder = find_version(bundle)
    if server is None or not server.startswith(("http://", "https://")):
        raise InputError(
            "--server or MLFLOW_TRACKING_URI must be the address of an MLflow server, "
            f"http://… or https://…. Received: {without_credentials(server or 'none')}."
        )
    announce(f"logging {folder} to {without_credentials(server)}", quiet or as_json)
    from app.sharing.mlflow_models import log_bundle

    logged = log_bundle(folder, server, experiment, register)
    if as_json:
        print_json(asdict(logged))
    elif not quiet:
        typer.echo(f"logged: {logged.model}")
        typer.echo(f"run:    {logged.url}")
        suggest(f"mlflow artifacts download --artifact-uri {quote(logged.model)}")
