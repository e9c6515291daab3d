"""`hornbill predict`: files answered at once, or handed to a batch job."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from app.system.signals import sigterm_as_sigint
from serving.errors import printable

from .terminal import INTERRUPTED, Bundle, Json, Quiet, examples, fail, print_json, suggest

PREDICT_EXAMPLES = examples(
    "hornbill predict dist/digits three.png seven.jpg",
    "hornbill predict dist/digits scans/*.png --json",
    "hornbill predict dist/softmax flowers.csv",
    "hornbill predict dist/digits --input 'scans/**/*.png' --output answers",
    "hornbill predict dist/softmax --input 'rows/*.parquet' --key id --output answers",
    "hornbill predict dist/digits --input '/shared/*.npy' --output /shared/answers "
    "--ray-address 10.0.0.1:6379",
)


def predict(
    bundle: Bundle,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE…", help="Images; CSV for a model of rows.", show_default=False
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="GLOB", help="A batch job: .parquet, .npy or images, in quotes."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of a batch job's answers; it goes on there."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Of parquet files, to name rows by.")
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Of a Ray cluster; this machine unless given."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict files with a bundle: a table, or with --json one object a line; or a batch job."""
    if pattern is not None and output is not None and not files:
        predict_batch(bundle, pattern, output, key, ray_address, as_json, quiet)
        return
    if not files or (pattern, output, key, ray_address) != (None, None, None, None):
        if pattern is not None and output is None and not files:
            raise typer.BadParameter("Missing option '--output', the folder of a batch job.")
        raise typer.BadParameter(
            "Missing argument 'FILE…', or --input and --output for a batch job: one of the two."
        )
    from serving.inputs import read_inputs
    from serving.predictor import Predictor

    predictor = Predictor.load(bundle)
    manifest = predictor.manifest
    inputs, names = read_inputs(files, manifest)
    prediction = predictor.predict(inputs)
    answer_name = str(manifest.prediction_output)
    _require_finite(prediction.outputs[answer_name], names)
    answers = [
        dict(zip(manifest.labels, row, strict=True))
        for row in prediction.outputs[answer_name].tolist()
    ]
    decisions = _decisions(prediction)
    if as_json:
        for name, decision, answer in zip(names, decisions, answers, strict=True):
            print_json({"file": name, **decision, answer_name: answer})
        return
    if quiet:
        return
    for line in _answer_table(names, decisions, answers, manifest):
        typer.echo(printable(line))
    suggest(f"hornbill predict {quote(str(bundle))} {quote(str(files[0]))} --json")


def _require_finite(answers: Any, names: list[str]) -> None:
    """Raise where a model answers NaN or infinity, which JSON has no numbers for."""
    import numpy as np

    from serving.errors import InputError

    wrong = np.flatnonzero(~np.isfinite(answers).all(axis=1))
    if len(wrong):
        raise InputError(f"Answers must be finite. Received: NaN or infinity of {names[wrong[0]]}.")


def _decisions(prediction: Any) -> list[dict[str, Any]]:
    """Return for each sample what its answer means: a class, labels, or nothing of values."""
    manifest = prediction.manifest
    if manifest.task == "multilabel":
        return [{"labels": list(labels)} for labels in prediction.labels]
    if manifest.task != "multiclass":
        return [{}] * len(prediction.outputs[manifest.prediction_output])
    if manifest.reject_option is None:
        return [{"label": label} for label in prediction.labels]
    accepted = prediction.accepted.tolist()
    return [
        {"label": label, "accepted": is_sure}
        for label, is_sure in zip(prediction.labels, accepted, strict=True)
    ]


def _answer_table(
    names: list[str],
    decisions: list[dict[str, Any]],
    answers: list[dict[str, float]],
    manifest: Any,
) -> list[str]:
    """Return a line for each sample below a header: the class, the labels or the values."""
    width = max(map(len, names))
    if manifest.task == "regression":
        lines = ["  ".join(f"{label:>12}" for label in manifest.labels)]
        lines += ["  ".join(f"{value:12.6g}" for value in a.values()) for a in answers]
    elif manifest.task == "multilabel":
        lines = ["labels"]
        lines += [", ".join(decision["labels"]) or "none" for decision in decisions]
    else:
        lines = ["label  probability"]
        lines += [
            _class_line(decision, max(answer.values()))
            for decision, answer in zip(decisions, answers, strict=True)
        ]
    heads = ["file", *names]
    return [f"{head:{width}}  {line}" for head, line in zip(heads, lines, strict=True)]


def _class_line(decision: dict[str, Any], probability: float) -> str:
    doubt = "" if decision.get("accepted", True) else "  not accepted"
    return f"{decision['label']:5}  {probability:.4f}{doubt}"


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
    from app.batch import Job, choose_pool, run_job

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
