"""`hornbill study`: lists and tests claims about neural networks."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from app.system.signals import INTERRUPTED

from .terminal import (
    Command,
    Group,
    Json,
    Quiet,
    examples,
    fail,
    print_json,
    suggest,
)

study = typer.Typer(
    name="study",
    no_args_is_help=True,
    help="Learn from experiments: claims about neural networks, tested with many seeds.",
    epilog=examples("hornbill study list", "hornbill study run --all --quick"),
    cls=Group,
)


@study.command(
    "list", cls=Command, epilog=examples("hornbill study list", "hornbill study list --json")
)
def list_studies(as_json: Json = False) -> None:
    """List the studies in the order of the course, with the idea of each."""
    from app.studies.catalogue import NAMES, builds_on, course_parts, read_texts

    ideas = {name: read_texts(name)["en"].idea for name in NAMES}
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "part": part.title["en"],
                    "idea": ideas[name],
                    "builds_on": builds_on(name),
                }
                for part in course_parts()
                for name in part.studies
            ]
        )
        return
    width = max(map(len, NAMES))
    for number, part in enumerate(course_parts(), start=1):
        typer.echo(f"{number}. {part.title['en']}")
        for name in part.studies:
            typer.echo(f"   {name:{width}}  {ideas[name]}")
    suggest("hornbill study run softmax")


@study.command(
    cls=Command,
    epilog=examples(
        "hornbill study run xor-limit",
        "hornbill study run vanishing dead-relu --seeds 40",
        "hornbill study run --all",
        "hornbill study run --all --quick",
    ),
)
def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME…", help="Studies to run; hornbill study list names them."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Run all studies.")] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Run smaller experiments; all studies then take about two minutes."
        ),
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How often to repeat each training, 1 to 200. Default: depends on the study.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder to write into. Default: studies, or studies-quick with --quick.",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run studies, and skip the parts that are already finished."""
    from app.errors import StudyError
    from app.studies.catalogue import NAMES, check_name
    from app.studies.process_pool import run_studies
    from app.studies.progress import showing_progress

    if bool(names) == everything:
        raise StudyError(
            "Either name studies or give --all. "
            f"Received: {'both' if names else 'neither'}. See hornbill study list."
        )
    chosen = list(dict.fromkeys(names or NAMES))
    for name in chosen:
        check_name(name)
    folder = output or Path("studies-quick" if quick else "studies")
    try:
        with showing_progress(len(chosen), quiet or as_json) as progress:
            results = run_studies(chosen, folder, seeds, quick, progress)
    except KeyboardInterrupt:
        fail("Interrupted. Finished parts are kept; run the same command to resume.", INTERRUPTED)
    if as_json:
        print_json([_summary(result) for result in results])
    elif not quiet:
        _print_results(results)
    page, left_out = _write_pages(folder)
    if not (as_json or quiet):
        if left_out:
            typer.echo(
                "not on the page, because damaged or written by another version: "
                f"{', '.join(left_out)}. Run them again."
            )
        typer.echo(f"page: {page}")
        first = page if len(results) > 1 else results[0].folder / page.name
        suggest(f"open {quote(str(first))}")


def _write_pages(folder: Path) -> tuple[Path, list[str]]:
    """Write the pages of all studies in the folder.

    Returns:
        The page of the course, and the names of studies whose results cannot be read.
    """
    from app.studies.catalogue import NAMES
    from app.studies.report import write_pages
    from app.studies.runner import RESULT, read_result

    results = [result for name in NAMES if (result := read_result(name, folder))]
    shown = {result.name for result in results}
    written = [path.parent.name for path in sorted(folder.glob(f"*/{RESULT}"))]
    return write_pages(results, folder), [name for name in written if name not in shown]


def _summary(result: Any) -> dict[str, Any]:
    claims = [
        {"name": c.name, "sign": c.sign, "is_theorem": c.is_theorem, "figures": c.figures}
        for c in result.claims
    ]
    return {
        "study": result.name,
        "seeds": result.seeds,
        "quick": result.quick,
        "cached": result.is_cached,
        "claims": claims,
        "folder": str(result.folder),
    }


def _print_results(results: Sequence[Any]) -> None:
    from app.studies.report import MARKS, sentences

    for result in results:
        typer.echo(f"{result.name}{_remark(result)}")
        for claim, texts in zip(result.claims, sentences(result.name, result.claims), strict=True):
            text, sign = texts["en"], "theorem" if claim.is_theorem else claim.sign
            typer.echo(f"  {MARKS[claim.sign]} {sign:9}  {text.claim}")
            typer.echo(f"    {'':9}  {text.found}")


def _remark(result: Any) -> str:
    if result.is_cached:
        return f" (cached: same settings and version{'; ' + result.note if result.note else ''})"
    return f" (run again: {result.note})" if result.note else ""
