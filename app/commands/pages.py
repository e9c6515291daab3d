"""The option that writes a result as a page, and its checks."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from app.errors import ConfigError
from serving.errors import cannot_write

Page = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="HTML file to write the result to, with its figures."),
]


def check_page(page: Path | None) -> None:
    """Check the path of a page before the work begins.

    Raises:
        ConfigError: it does not end in .html, or its folder does not exist.
    """
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--page must end in .html. Received: {page}.")
    if page is not None and not page.absolute().parent.is_dir():
        raise ConfigError(f"The folder of --page must exist. Received: {page}.")


def write_page(write: Callable[[], None], page: Path) -> None:
    """Write a page.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        write()
    except OSError as error:
        raise ConfigError(cannot_write(page, error)) from None
