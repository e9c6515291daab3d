"""`hornbill predict --input`: a batch job, its progress, and what it prints."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from shlex import quote

import typer

from .stopping import sigterm_as_sigint
from .terminal import INTERRUPTED, fail, print_json, suggest


def predict_batch(
    bundle: Path,
    pattern: str,
    output: Path,
    key: str | None,
    ray_address: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a batch job, or what is left of it; exit status 1 if something could not be predicted."""
    from .batch import Job, choose_pool, run_job

    job = Job(bundle, pattern, output, key)
    try:
        pool = choose_pool(ray_address)
        with (
            sigterm_as_sigint(),
            redirect_stdout(StringIO()),  # Ray prints there that it was interrupted
            _showing_progress(quiet or as_json) as report,
        ):
            summary = run_job(job, pool, report)
    except KeyboardInterrupt:
        fail("Interrupted. What is finished is kept; go on with the same command.", INTERRUPTED)
    if as_json:
        print_json({"output": str(output), **asdict(summary)})
    else:
        if not quiet:
            typer.echo(f"rows: {summary.rows:,} predicted, in {summary.parts:,} files of {output}")
        if summary.bad:
            typer.echo(f"bad:  {summary.bad:,} rows or files: {output}/errors-*.jsonl", err=quiet)
    if not (as_json or quiet):
        written = "errors" if summary.bad else "part"
        suggest(f"cat {quote(str(output))}/{written}-*.jsonl | head -n 3")
    if summary.bad:
        raise typer.Exit(1)


@contextmanager
def _showing_progress(hidden: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield what is told how many parts are done, of how many."""
    if hidden or not sys.stderr.isatty():  # where nothing can be drawn over, it would be a line
        yield lambda _, __: None
        return

    with typer.progressbar(length=1, label="predicting", show_pos=True, file=sys.stderr) as bar:

        def report(done: int, parts: int) -> None:
            bar.length = max(parts, 1)
            bar.update(done - bar.pos)

        yield report
