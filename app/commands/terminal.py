"""Shared by all commands: common options, output, and how a command ends."""

import codecs
import json
import sys
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from app.system.signals import sigterm_as_sigint
from serving.errors import printable

Bundle = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE",
        help="Bundle: dist/NAME for its latest version, dist/NAME/1, or a packed file.",
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write into.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
# Options of both `train` and `tune`.
Family = Annotated[
    str | None,
    typer.Argument(
        metavar="FAMILY",
        help="Model family: digits, softmax or features; or a model of your own: file.py:function, "
        "module:function, or a .keras file to go on from.",
        show_default=False,
    ),
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMNS",
        help="Column of a table to predict; several are comma-separated, or given one by one.",
    ),
]
Categorical = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMNS", help="Columns of numbers to treat as categories, comma-separated."
    ),
]
Drop = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMNS", help="Columns to leave out, comma-separated."),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMNS",
        help="Columns to learn from that would be left out, such as identifiers, comma-separated.",
    ),
]
ImageColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column with the paths of images, relative to the folder of the table, or, in "
        "parquet, with the images themselves.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Setting to change; hornbill settings FAMILY lists them all. May be given several "
        "times.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        max=2**32 - 1,
        help="Seed of splits, weights and sample order. Default: 0.",
    ),
]


class _PlainFlags:
    """A command whose help shows no type for flags, which take no value."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters; those that are flags without the name of a value."""
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class ServerCommand(_PlainFlags, TyperCommand):
    """A command that handles signals itself."""


class Command(ServerCommand):
    """A command, which SIGTERM ends as Ctrl-C does, so that it leaves nothing half done."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with sigterm_as_sigint():
            return super().invoke(ctx)


class Group(_PlainFlags, TyperGroup):
    """A group of commands."""


def examples(*lines: str) -> str:
    """Return the examples at the end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"    {line}" for line in lines)


def fail(message: str, status: int) -> NoReturn:
    """Print a line on standard error and exit with `status`."""
    if message:  # it is empty after the help was shown
        typer.echo(f"hornbill: {printable(message)}", err=True)
    sys.exit(status)


def joined(names: list[str] | None) -> str | None:
    """Return what was given for an option that names columns, as one text."""
    return ",".join(names) if names else None


def named_columns(
    image_column: str | None, **given: list[str] | None
) -> dict[str, list[str] | str]:
    """Return the settings of the options that name columns, comma-separated or one by one."""
    lists: dict[str, list[str] | str] = {
        key: [name.strip() for text in texts for name in text.split(",")]
        for key, texts in given.items()
        if texts
    }
    return lists if image_column is None else {**lists, "image_column": image_column}


def check_data(config: Any) -> None:
    """Check the files that a configuration names, as far as that takes no TensorFlow.

    Raises:
        DataError: see `app.data.source_kinds.check_source`; or several columns are classes.
        ConfigError: a file of weights or code, or of a model of your own, does not exist; or such a
            model has no data.
    """
    from app.config.families import family_named, is_own_model, task_of
    from app.config.weight_files import check_code_files, check_weight_files
    from app.data.source_kinds import check_source

    family = family_named(config.family)
    family.check_file(config.data)
    check_weight_files(config)
    check_code_files(config)
    check_source(config.data, config.reading, family)
    if len(config.reading.target) > 1 and not is_own_model(config.family):
        from app.data.targets import task_of_targets

        task_of_targets(config.reading, task_of(config.model))


def describe_config(config: Any) -> str:
    """Return what is trained on what, such as `features on churn.csv, target Churn`."""
    target = ", ".join(config.reading.target)
    from app.config.families import family_named, is_own_model

    own = is_own_model(config.family)
    name = family_named(config.family).builder_name if own else config.family
    return f"{name} on {config.data}{f', target {target}' if target else ''}"


def announce(what: str, hidden: bool) -> None:
    """Say on standard error what a command does, before it imports TensorFlow."""
    if not hidden:
        typer.echo(printable(f"{what} …"), err=True)


def load_tensorflow(has_data: bool = True) -> None:
    """Import TensorFlow without its start-up messages, and scikit-learn if data is read."""
    from app.system.tensorflow_import import import_tensorflow_quietly

    import_tensorflow_quietly(has_data)


def print_json(value: Any) -> None:
    """Print a value as JSON on one line."""
    # In other encodings than UTF-8, every character that is not ASCII becomes a JSON escape.
    is_ascii = codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"
    # File names may be any bytes; those that are not UTF-8 become JSON escapes.
    text = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "backslashreplace").decode()
    typer.echo(text)


def suggest(command: str, **options: object) -> None:
    """Suggest a command to run next.

    Args:
        command: the command, quoted for a shell.
        options: values of its options by name; those that are None are left out.
    """
    given = [
        f" --{name.replace('_', '-')} {quote(str(value))}"
        for name, value in options.items()
        if value is not None
    ]
    typer.echo(f"next: {printable(command + ''.join(given))}")


def status(text: str, hidden: bool) -> Any:
    """Return a context manager that shows a spinner with a text, unless `hidden` is true."""
    from contextlib import nullcontext

    from rich.console import Console

    return nullcontext() if hidden else Console(stderr=True).status(text)


def import_signature() -> Any:
    """Return `serving.signature`; exit with a message if its packages are not installed."""
    try:
        from serving import signature
    except ModuleNotFoundError as error:
        fail(
            "Signing and checking signatures need the extra `sign`. Received: no module "
            f"{error.name!r}. Install it in the clone of Hornbill with: pip install '.[sign]'.",
            2,
        )
    return signature
