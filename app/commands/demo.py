"""`hornbill demo`: the whole workflow, from training to prediction."""

from pathlib import Path
from shlex import quote

import typer

from .terminal import (
    Output,
    examples,
    load_tensorflow,
)

DEMO_EXAMPLES = examples("hornbill demo", "hornbill demo --output /tmp/demo")


def demo(output: Output = Path()) -> None:
    """Run the whole workflow in about a minute: train, export, verify, predict, compare."""
    load_tensorflow()
    from rich.console import Console

    from app.bundles.demo import run_demo

    result = run_demo(output / "runs", output / "dist", Console())
    model_folder = quote(str(result.bundle.parent))
    typer.echo("Next:")
    for command in (
        f"hornbill verify {model_folder}",
        f"hornbill predict {model_folder} YOUR_DIGIT.png",
        "hornbill train digits --set variant=mlp",
    ):
        typer.echo(f"  {command}")
