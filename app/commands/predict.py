"""`hornbill predict`: predicts files, or runs a batch job."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from app.errors import ConfigError
from app.system.signals import INTERRUPTED
from serving.errors import counted, first_few, printable

from .terminal import Bundle, ImageColumn, Json, Quiet, examples, fail, print_json, suggest

if TYPE_CHECKING:
    from app.batch import Job, Summary

PREDICT_EXAMPLES = examples(
    "hornbill predict dist/digits three.png seven.jpg",
    "hornbill predict dist/digits scans/*.png --json",
    "hornbill predict dist/softmax flowers.csv",
    "hornbill predict dist/softmax flowers.csv --key id --output predictions.csv",
    "hornbill predict dist/digits --input 'scans/**/*.png' --output predictions",
    "hornbill predict dist/softmax --input 'rows/*.parquet' --key id --output predictions",
    "hornbill predict dist/digits --input '/shared/*.npy' --output /shared/predictions "
    "--ray-address 10.0.0.1:6379",
    "hornbill predict dist/features --input 'photos/**/*.jpg' --features --output features.parquet",
)

# Files that jobs read, and `serving.inputs.read_inputs` does not; of CSV files it reads only rows.
_READ_BY_JOBS = (".npy", ".npz", ".parquet", ".tsv")
_TABLES = (".csv", ".tsv", ".parquet")
# Thresholds of more labels are in the manifest.
_MAX_THRESHOLDS = 4


def predict(
    bundle: Bundle,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE…",
            help="Images, or .csv, .tsv or .parquet files of rows, or of paths of images if the "
            "model takes images; .txt files with a text in each line if it takes one; or .npy and "
            ".npz files of its inputs.",
            show_default=False,
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="GLOB",
            help="Run a batch job on the files that match this quoted pattern: images, .csv, .tsv, "
            ".parquet, .txt, .npy or .npz.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="File for the predictions: .csv, .tsv, .parquet or .jsonl; or a folder, to which "
            "later runs add the predictions of new files. With --features: .npy or .parquet. The "
            "same command resumes an interrupted job.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Column of the input to copy into the output, such as an id."
        ),
    ] = None,
    image_column: ImageColumn = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Ray cluster to run a batch job on. Default: this machine.",
        ),
    ] = None,
    features: Annotated[
        bool,
        typer.Option("--features", help="Return the features instead of the predictions."),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict files: print a table or one JSON object per line, or write a file or a folder.

    Images that cannot be read are named on standard error, and the exit status is then 1.
    """
    files = files or []
    _check_files(files, pattern, "features.npy" if features else "predictions.csv")
    if output is not None:
        from app.batch import Job

        given = tuple(map(str, files)) if files else pattern or ""
        job = Job(bundle, given, output, key, features, image_column)
        _note_twice(files, quiet)
        predict_batch(job, ray_address, as_json, quiet)
        return
    for option, value in (("--input", pattern), ("--key", key), ("--ray-address", ray_address)):
        if value is not None:
            what = "features" if features else "predictions"
            raise ConfigError(
                f"Missing option '--output', the file for the {what}: {option} needs it."
            )
    from serving.outputs import choose_output
    from serving.predictor import Predictor

    predictor = Predictor.load(bundle)
    manifest = predictor.manifest
    output_name = choose_output(manifest, features)
    read = _read_files(files, manifest, image_column, quiet)
    if not read.names:
        raise typer.Exit(1 if read.wrong else 0)
    prediction = predictor.predict(read.inputs)
    _require_finite(prediction.outputs[output_name], read.names)
    if features:
        _print_features(read.names, prediction.outputs[output_name].tolist(), as_json, quiet)
    else:
        _print_predictions(read.names, prediction, output_name, as_json, quiet)
        if not (as_json or quiet):
            suggest(f"hornbill predict {quote(str(bundle))} {_as_json(files, read, image_column)}")
    if read.wrong:
        raise typer.Exit(1)


def _as_json(files: list[Path], read: "_Read", image_column: str | None) -> str:
    """Return the arguments that print JSON for a file that can be read."""
    tables = [one for one in files if one.suffix.lower() in _TABLES]
    # A table of images may hold others besides those that cannot be read.
    good = [one for one in files if one not in read.wrong] or tables or files
    file = quote(str(good[0]))
    is_named = image_column is not None and good[0] in tables
    options = f"--image-column {quote(str(image_column))} --json" if is_named else "--json"
    return f"{options} -- {file}" if file.startswith("-") else f"{file} {options}"


def _print_predictions(
    names: list[str], prediction: Any, output_name: str, as_json: bool, quiet: bool
) -> None:
    """Print a table with a line for each sample, or a JSON object for each."""
    from serving.decisions import describe_thresholds

    manifest = prediction.manifest
    values = [
        dict(zip(manifest.labels, row, strict=True))
        for row in prediction.outputs[output_name].tolist()
    ]
    decisions, ends = _decisions(prediction), _interval_ends(prediction)
    if as_json:
        for name, decision, by_label, end in zip(names, decisions, values, ends, strict=True):
            print_json({"file": name, **decision, output_name: by_label, **end})
        return
    if quiet:
        return
    table = _format_table(names, decisions, values, ends, manifest)
    thresholds = manifest.thresholds
    rules = () if thresholds is None else describe_thresholds(thresholds, manifest.labels, None)
    for line in (*table, *rules[:_MAX_THRESHOLDS]):
        typer.echo(printable(line))


def _check_files(files: list[Path], pattern: str | None, output: str) -> None:
    if bool(files) == (pattern is not None):
        raise ConfigError(
            f"Give either FILE… or --input GLOB. Received: {'both' if files else 'neither'}."
        )
    if folder := next((file for file in files if file.is_dir()), None):
        raise ConfigError(
            f"Each FILE must be a file. Received: {folder}, a folder. To predict all files in it: "
            f"--input {quote(str(folder))} --output {output}."
        )


class _Read(NamedTuple):
    """The inputs that files hold, the name of each sample, and the files that cannot be read."""

    inputs: Any
    names: list[str]
    wrong: list[Path]


def _read_files(files: list[Path], manifest: Any, image_column: str | None, quiet: bool) -> _Read:
    """Read files; name each image that cannot be read on standard error, unless none can."""
    from app.system.data_folders import find_data, where_looked
    from serving.errors import InputError, NoRowsError, first_few
    from serving.inputs import read_inputs, takes_images

    places = {find_data(str(file)): file for file in files}
    found = [find_data(str(file)) for file in files]
    wrong: list[Path] = []

    def set_aside(name: str | Path, error: InputError) -> None:
        wrong.append(places.get(str(name), Path(name)))
        hint = "" if Path(name).exists() else where_looked(str(name))
        typer.echo(f"failed: {printable(f'{error}{hint}')}", err=True)

    by_jobs = (*_READ_BY_JOBS, ".csv") if takes_images(manifest) else _READ_BY_JOBS
    if image_column or any(Path(name).suffix.lower() in by_jobs for name in found):
        from app.batch.reading import read_files

        _note_twice(files, quiet)
        try:
            together = read_files(found, manifest, set_aside, image_column)
        except NoRowsError:  # as a job, which writes a table of no rows
            _note(f"no rows in {first_few(files)}", quiet)
            return _Read({}, [], wrong)
        return _Read(together.inputs, together.names, wrong)
    try:
        inputs, names = read_inputs(
            found, manifest, lambda line: _note(line, quiet), set_aside=set_aside
        )
    except NoRowsError:
        if len(files) > 1:  # others may have rows
            raise
        _note(f"no rows in {files[0]}", quiet)
        return _Read({}, [], wrong)
    except InputError as error:
        # Of several problems, only the first are told.
        missing = [name for name in found if not Path(name).exists() and name in str(error)]
        raise InputError(f"{error}{where_looked(missing[0]) if missing else ''}") from None
    return _Read(inputs, names, wrong)


def _note_twice(files: list[Path], quiet: bool) -> None:
    """Tell which files are given more than once: a job predicts each once."""
    from app.batch.files import files_given_twice

    if line := files_given_twice([str(file) for file in files]):
        _note(line, quiet)


def _note(line: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(f"note: {printable(line)}", err=True)


def _print_features(
    names: list[str], features: list[list[float]], as_json: bool, quiet: bool
) -> None:
    """Print a line for each sample; without `as_json`, only the first of its features."""
    if as_json:
        for name, values in zip(names, features, strict=True):
            print_json({"file": name, "features": values})
    elif not quiet:
        width = max(map(len, names))
        typer.echo(f"{'file':{width}}  {len(features[0])} features")
        for name, values in zip(names, features, strict=True):
            start = "".join(f"{value:9.4g}" for value in values[:6])
            rest = " …" if len(values) > 6 else ""
            typer.echo(printable(f"{name:{width}}{start}{rest}"))


def _require_finite(outputs: Any, names: list[str]) -> None:
    """Raise if a prediction is NaN or infinity, which JSON cannot represent."""
    import numpy as np

    from serving.errors import InputError

    wrong = np.flatnonzero(~np.isfinite(outputs).all(axis=1)).tolist()
    if wrong:
        named = first_few([names[index] for index in wrong])
        raise InputError(f"Predictions must be finite. Received: NaN or infinity for {named}.")


def _decisions(prediction: Any) -> list[dict[str, Any]]:
    """Return the predicted class or labels of each sample; nothing for regression."""
    manifest = prediction.manifest
    if manifest.task == "multilabel":
        return [{"labels": list(labels)} for labels in prediction.labels]
    if manifest.task != "multiclass":
        return [{}] * len(prediction.outputs[manifest.prediction_output])
    if manifest.reject_option is None:
        return [{"label": label} for label in prediction.labels]
    accepted = prediction.accepted.tolist()
    return [
        {"label": label, "accepted": is_accepted}
        for label, is_accepted in zip(prediction.labels, accepted, strict=True)
    ]


def _interval_ends(prediction: Any) -> list[dict[str, dict[str, float]]]:
    """Return the ends of each sample's intervals, by value; nothing if there are none."""
    manifest = prediction.manifest
    if manifest.intervals is None:
        return [{}] * len(prediction.outputs[manifest.prediction_output])
    named = {"lower": prediction.lower.tolist(), "upper": prediction.upper.tolist()}
    return [
        {
            name: dict(zip(manifest.labels, row, strict=True))
            for name, row in zip(named, rows, strict=True)
        }
        for rows in zip(*named.values(), strict=True)
    ]


def _format_table(
    names: list[str],
    decisions: list[dict[str, Any]],
    values: list[dict[str, float]],
    ends: list[dict[str, dict[str, float]]],
    manifest: Any,
) -> list[str]:
    """Return a header, and a line for each sample with its class, labels or values."""
    from serving.written_numbers import write_number

    width = max(map(len, names))
    if manifest.task == "regression":
        groups = [(label, *ends[0]) for label in manifest.labels]
        lines = ["  ".join(f"{head:>12}" for group in groups for head in group)]
        lines += [
            "  ".join(
                f"{write_number(number[label], 6):>12}"
                for label in row
                for number in (row, *end.values())
            )
            for row, end in zip(values, ends, strict=True)
        ]
    elif manifest.task == "multilabel":
        lines = ["labels"]
        lines += [", ".join(decision["labels"]) or "none" for decision in decisions]
    else:
        wide = max(len("label"), *(len(decision["label"]) for decision in decisions))
        lines = [f"{'label':{wide}}  probability"]
        lines += [
            _format_class(decision, row[decision["label"]], wide)
            for decision, row in zip(decisions, values, strict=True)
        ]
    heads = ["file", *names]
    return [f"{head:{width}}  {line}" for head, line in zip(heads, lines, strict=True)]


def _format_class(decision: dict[str, Any], probability: float, width: int) -> str:
    remark = "" if decision.get("accepted", True) else "  not accepted"
    return f"{decision['label']:{width}}  {probability:.4f}{remark}"


def predict_batch(job: "Job", ray_address: str | None, as_json: bool, quiet: bool) -> None:
    """Run or resume a batch job; exit with 1 if a row or a file could not be predicted."""
    from app.batch import choose_pool, predict_here, run_job

    # Ray takes longer to start than the files of a command line take to predict.
    is_here = ray_address is None and not isinstance(job.files, str)
    try:
        pool = predict_here if is_here else choose_pool(ray_address)
        with (
            redirect_stdout(StringIO()),  # Ray reports an interruption there
            _show_progress(quiet or as_json) as on_progress,
        ):
            summary = run_job(job, pool, on_progress)
    except KeyboardInterrupt:
        fail("Interrupted. Finished parts are kept; run the same command to resume.", INTERRUPTED)
    if as_json:
        print_json({"output": str(job.output), **asdict(summary)})
    else:
        _print_summary(job, summary, quiet)
    if summary.failed:
        raise typer.Exit(1)


def _print_summary(job: "Job", summary: "Summary", quiet: bool) -> None:
    rows = counted(summary.rows, "row")
    if job.has_file:
        what = "features: " if job.features else "predicted:"
        done, errors = f"{what} {rows} in {job.output}", str(job.errors)
    else:
        done = f"predicted: {rows}, in {counted(summary.parts, 'file')} in {job.output}"
        errors = f"{job.output}/errors-*.jsonl"
    if not quiet:
        typer.echo(done)
    if summary.passed_over:
        others = counted(len(summary.passed_over), "file")
        named = first_few(summary.passed_over)
        _note(f"{others} passed over beside those that the model reads: {named}", quiet)
    if summary.failed:
        what = "row or file" if summary.failed == 1 else "rows or files"
        typer.echo(f"failed:    {summary.failed:,} {what}: {errors}", err=quiet)
    if not quiet and not job.has_file:
        written = "errors" if summary.failed else "part"
        suggest(f"cat {quote(str(job.output))}/{written}-*.jsonl | head -n 3")


@contextmanager
def _show_progress(hidden: bool) -> Iterator[Callable[[int, int, int], None]]:
    """Show a progress bar; yield a function that takes the numbers of parts done, parts and rows.

    A part is a file of rows, or many images.
    """
    if hidden or not sys.stderr.isatty():  # a file cannot be drawn over
        yield lambda _, __, ___: None
        return

    with typer.progressbar(length=1, label="predicting", show_pos=True, file=sys.stderr) as bar:

        def update(done: int, parts: int, rows: int) -> None:
            bar.length = max(parts, 1)
            bar.label = f"predicting, {counted(rows, 'row')}"
            bar.update(done - bar.pos)
            bar.render_progress()

        yield update
