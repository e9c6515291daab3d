"""`hornbill settings`: lists every setting of a family."""

import json
import shutil
import textwrap
from dataclasses import asdict
from itertools import groupby
from typing import Annotated, Any

import typer

from .terminal import Json, examples, print_json, suggest

SETTINGS_EXAMPLES = examples(
    "hornbill settings features",
    "hornbill settings digits optimizer",
    "hornbill settings softmax --json",
)
# Lines are not wider than this, which is easy to read.
_MAX_WIDTH = 100


def settings(
    family: Annotated[
        str, typer.Argument(metavar="FAMILY", help="Model family: digits, softmax or features.")
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORD…",
            help="Show only settings whose key contains one of these.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List every setting of a family: default, values, and what it does."""
    from app.config.settings import describe_settings
    from app.errors import ConfigError

    found = [
        setting
        for setting in describe_settings(family)
        if not words or any(word in setting.key for word in words)
    ]
    if not found:
        raise ConfigError(
            f"A word must be part of a key. Received: {', '.join(words or ())}. "
            f"See hornbill settings {family}."
        )
    if as_json:
        print_json({"family": family, "settings": [asdict(setting) for setting in found]})
        return
    for group, members in groupby(found, lambda setting: setting.group):
        typer.echo(f"{group}:")
        for setting in members:
            for line in _lines(setting):
                typer.echo(line)
        typer.echo()
    suggest(f"hornbill train {family} --set {found[0].key}=VALUE")


def _lines(setting: Any) -> list[str]:
    width = min(shutil.get_terminal_size().columns, _MAX_WIDTH)
    texts = [f"{setting.meaning[:1].upper()}{setting.meaning[1:]}", f"Values: {setting.values}."]
    if setting.chosen:
        texts.append(f"Chosen from the data unless you set it: {setting.chosen}.")
    indent = "      "
    wrapped = (
        textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
        for text in texts
    )
    title = f"  {setting.key} = {_spelled(setting.default)}"
    return [title, *(line for lines in wrapped for line in lines)]


def _spelled(value: Any) -> str:
    """Return a value as `--set` takes it."""
    if isinstance(value, tuple):
        return ",".join(map(_spelled, value)) or "[]"
    return json.dumps(value) if isinstance(value, bool) else str(value) or '""'
