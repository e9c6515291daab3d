"""Renders pages, which open from disk as one file: their pictures are inside them."""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def render(template: str, **values: Any) -> str:
    """Return a template of `templates/` with its values; text is escaped in HTML alone."""
    templates = Environment(
        loader=PackageLoader("app.reports"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template(template).render(**values)


def data_uri(path: Path) -> str:
    """Return a PNG as an address, so that a page needs no file beside it."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def captioned_pictures(
    folders: Iterable[Path], captions: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return title, caption and address of each PNG that there is.

    Args:
        folders: where to look; a later one comes before an earlier one.
        captions: by the file's name without its ending, in the order of the page.
    """
    there = {path.stem: path for folder in folders for path in folder.glob("*.png")}
    return [
        {"title": stem.replace("_", " "), "caption": caption, "address": data_uri(there[stem])}
        for stem, caption in captions.items()
        if stem in there
    ]
