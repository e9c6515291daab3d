"""`hornbill study`: lists and tests claims about neural networks."""

import contextlib
from collections.abc import Iterator, Sequence
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
    from app.studies.catalogue import NAMES
    from app.studies.process_pool import run_studies
    from app.studies.progress import showing_progress
    from app.studies.runner import check_run

    if bool(names) == everything:
        raise StudyError(
            "Either name studies or give --all. "
            f"Received: {'both' if names else 'neither'}. See hornbill study list."
        )
    chosen = list(dict.fromkeys(names or NAMES))
    folder = output or Path("studies-quick" if quick else "studies")
    options = f"{' --quick' if quick else ''}{f' --output {quote(str(output))}' if output else ''}"
    check_run(chosen, folder, seeds)
    with _pages_after_failure(folder, options):
        with showing_progress(len(chosen), quiet or as_json) as progress:
            results = run_studies(chosen, folder, seeds, quick, progress)
        if as_json:
            print_json([_summary(result) for result in results])
        elif not quiet:
            _print_results(results)
    page, left_out = _write_pages(folder, options)
    if not (as_json or quiet):
        _print_left_out(left_out)
        typer.echo(f"page: {page}")
        first = page if len(results) > 1 else results[0].folder / page.name
        suggest(f"open {quote(str(first))}")
    _check_theorems(results)


@contextlib.contextmanager
def _pages_after_failure(folder: Path, options: str) -> Iterator[None]:
    """Write the pages if studies are interrupted or fail: others may have new figures."""
    from app.errors import StudyError

    try:
        yield
    except BaseException as error:
        with contextlib.suppress(StudyError):  # there may be no folder yet
            _write_pages(folder, options)
        if isinstance(error, KeyboardInterrupt):
            fail(
                "Interrupted. Finished parts are kept; run the same command to resume.",
                INTERRUPTED,
            )
        raise


def _write_pages(folder: Path, options: str) -> tuple[Path, list[str]]:
    """Write the pages of all studies in the folder.

    Args:
        folder: folder of studies.
        options: options of the command that runs further studies.

    Returns:
        The page of the course, and the names of folders whose results are not on it.
    """
    from app.studies.catalogue import NAMES
    from app.studies.report import write_pages
    from app.studies.runner import RESULT, read_result

    results = [result for name in NAMES if (result := read_result(name, folder))]
    shown = {result.name for result in results}
    written = [path.parent.name for path in sorted(folder.glob(f"*/{RESULT}"))]
    page = write_pages(results, folder, options)
    return page, [name for name in written if name not in shown]


def _print_left_out(names: Sequence[str]) -> None:
    from app.studies.catalogue import NAMES

    outdated = [name for name in NAMES if name in names]
    unknown = [name for name in names if name not in NAMES]
    if outdated:
        typer.echo(
            "not on the page, because damaged or written by another version: "
            f"{', '.join(outdated)}. Run them again."
        )
    if unknown:
        typer.echo(f"not on the page, because no study has this name: {', '.join(unknown)}.")


def _check_theorems(results: Sequence[Any]) -> None:
    """Exit with status 1 if a theorem is refuted."""
    from app.studies.signs import REFUTED

    refuted = [
        result.name
        for result in results
        if any(claim.is_theorem and claim.sign == REFUTED for claim in result.claims)
    ]
    if refuted:
        fail(
            "A theorem must hold: only a bug could refute it. "
            f"Received: a refuted one in {', '.join(refuted)}.",
            1,
        )


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
    if result.note:
        done = "written again from finished parts" if result.is_cached else "run again"
        return f" ({done}: {result.note})"
    return " (cached: same settings and version)" if result.is_cached else ""
