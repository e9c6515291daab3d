"""A hook of mkdocs: fills reference/cli.md with every command, its options and its examples.

The text is that of `hornbill COMMAND --help`, so that it cannot drift from the program.
"""

from collections.abc import Iterator
from typing import Any

import typer

from app.commands.cli import app

PAGE = "reference/cli.md"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page's text, with the commands at the end of `PAGE`."""
    if page.file.src_uri != PAGE:
        return markdown
    root = typer.main.get_command(app)
    return markdown + "\n" + "\n".join(_describe("hornbill", root))


def _describe(path: str, command: Any) -> Iterator[str]:
    """Yield the Markdown of a command, or of each command of a group."""
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from _describe(f"{path} {name}", child)
        return
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join([path, *("[OPTIONS]" for _ in options[:1]), *map(_metavar, arguments)])
    yield f"## {path}\n\n{command.help or ''}\n\n```\n{usage}\n```\n"
    yield "| option | description |\n|---|---|"
    for option in (*arguments, *options):
        yield f"| {_names(option)} | {_cell(option)} |"
    yield f"\n{_examples(command.epilog or '')}\n"


def _metavar(parameter: Any) -> str:
    return parameter.metavar or parameter.name.upper()


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    value = "" if parameter.is_flag else f" {_metavar(parameter)}"
    names = (*parameter.opts, *parameter.secondary_opts)
    return ", ".join(f"`{name}{value}`" for name in names)


def _cell(parameter: Any) -> str:
    """Return a parameter's help and default, as one cell of a table."""
    text = (parameter.help or "").replace("|", "\\|").replace("\n", " ")
    default = parameter.default
    if parameter.required:
        text += " Required."
    elif not callable(default) and default not in (None, False, (), ""):
        text += f" Default: `{default}`."
    return f"{text} Environment variable: `{parameter.envvar}`." if parameter.envvar else text


def _examples(epilog: str) -> str:
    lines = [line.strip() for line in epilog.splitlines()[1:] if line.strip()]
    return "\n".join(["```console", *(f"$ {line}" for line in lines), "```"]) if lines else ""
