"""What every command of the command line shares: options, what it prints, how it ends."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from serving.errors import printable

INTERRUPTED = 130

Bundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="dist/NAME (its latest version) or dist/NAME/1.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
# Of what is trained, once or many times.
Family = Annotated[
    str | None, typer.Argument(help="digits, softmax or features.", show_default=False)
]
Target = Annotated[
    str | None, typer.Option(help="Column of a CSV to predict; several with commas.")
]
Categorical = Annotated[
    str | None, typer.Option(help="Columns of a CSV whose numbers are names, with commas.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting; may be given many times."),
]
Seed = Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="0 unless given.")]


def examples(*lines: str) -> str:
    """Return the end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"    {line}" for line in lines)


def fail(message: str, status: int) -> NoReturn:
    """End with a line on standard error, and an exit status."""
    if message:  # none when the help was shown
        typer.echo(f"hornbill: {printable(message)}", err=True)
    sys.exit(status)


def named_columns(target: str | None, categorical: str | None) -> dict[str, list[str]]:
    """Return the settings that name columns of a CSV, of options that take several with commas."""
    given = {"target": target, "categorical": categorical}
    return {
        key: [name.strip() for name in text.split(",")]
        for key, text in given.items()
        if text is not None
    }


def load_tensorflow() -> None:
    """Import TensorFlow without its start-up lines."""
    from app.system.tensorflow_import import import_tensorflow_quietly

    import_tensorflow_quietly()


def print_json(value: Any) -> None:
    """Print one object on a line."""
    # Names of files may be any bytes; what is no UTF-8 becomes an escape that JSON knows.
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    typer.echo(text)


def suggest(command: str) -> None:
    """Print the command that is worth running next."""
    typer.echo(f"next: {printable(command)}")


def status(text: str, hidden: bool) -> Any:
    """Return a context that shows a spinner, unless it is hidden."""
    from contextlib import nullcontext

    from rich.console import Console

    return nullcontext() if hidden else Console(stderr=True).status(text)


def import_signature() -> Any:
    """Return the module that signs, or end in a line if its packages are not installed."""
    try:
        from serving import signature
    except ModuleNotFoundError as error:
        typer.echo(
            f"Signing needs the extra `sign`. Received: no module {error.name!r}. "
            "Install it with: pip install 'hornbill[sign]'",
            err=True,
        )
        raise typer.Exit(2) from None
    return signature
