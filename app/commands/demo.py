"""`hornbill demo`: the whole workflow, from training to prediction."""

import time
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from .terminal import (
    Output,
    announce,
    examples,
    load_tensorflow,
)

DEMO_EXAMPLES = examples(
    "hornbill demo", "hornbill demo --images", "hornbill demo --output /tmp/demo"
)
# Of a test image that `predict` takes.
_SHAPE = Path("test", "red ball", "0000.png")


def demo(
    output: Output = Path(),
    images: Annotated[
        bool,
        typer.Option(
            "--images", help="Use images in color, which are drawn first. Takes about as long."
        ),
    ] = False,
) -> None:
    """Run the whole workflow: train, export, verify, predict, compare; a minute of two cores."""
    start = time.perf_counter()
    announce("running the demo", hidden=False)
    load_tensorflow()
    from rich.console import Console

    from app.bundles.demo import SHAPES, run_demo, run_image_demo

    folders = output / "runs", output / "dist"
    if images:
        data = output / SHAPES
        result = run_image_demo(data, *folders, Console())
        file, train, action = (
            quote(str(data / _SHAPE)),
            "features --data YOUR_FOLDER",
            "drop an image",
        )
    else:
        result = run_demo(*folders, Console())
        file, train, action = "YOUR_DIGIT.png", "digits --set variant=mlp", "draw a digit"
    model_folder = quote(str(result.bundle.parent))
    typer.echo(f"Done in {time.perf_counter() - start:,.0f} s. Next:")
    for command in (
        f"hornbill verify {model_folder}",
        f"hornbill predict {model_folder} {file}",
        f"hornbill train {train}",
        f"hornbill serve {quote(str(folders[1]))}  # and {action} at http://localhost:8000",
    ):
        typer.echo(f"  {command}")
