"""Renders HTML pages that open from disk as a single file, with their figures inside."""

import base64
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image


def render(template: str, **values: Any) -> str:
    """Render a template of `templates/`. Text is escaped in HTML templates only."""
    return _templates().get_template(template).render(**values)


@functools.cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("app.reports"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["quoted"] = lambda path: quote(str(path))  # for commands
    return environment


def data_uri(path: Path) -> str:
    """Return a PNG as a data URI, so that a page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _width(path: Path) -> int:
    """Return the width of a PNG in pixels."""
    with Image.open(path) as image:
        return image.width


def captioned_pictures(
    folders: Iterable[Path], captions: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return title, caption, data URI and width in pixels of each PNG that exists.

    Args:
        folders: folders to look in; of files with the same name, that of the last folder is used.
        captions: captions by file name without suffix, in the order of the page.
    """
    found = {path.stem: path for folder in folders for path in folder.glob("*.png")}
    return [
        {
            "title": stem.replace("roc", "ROC").replace("_", " "),
            "caption": caption,
            "address": data_uri(found[stem]),
            "pixels": str(_width(found[stem])),
        }
        for stem, caption in captions.items()
        if stem in found
    ]
