"""`hornbill export`: exports a run or a Keras model as a version of a bundle."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from app.errors import ConfigError
from serving.errors import HornbillError, cannot_read, printable

from .terminal import (
    ImageColumn,
    Json,
    Output,
    Quiet,
    Target,
    announce,
    examples,
    import_signature,
    joined,
    load_tensorflow,
    named_columns,
    print_json,
    suggest,
)

# Suffixes of files with a model of Keras: its own format, and the one before it.
_MODEL_FILES = (".keras", ".h5", ".hdf5")
EXPORT_EXAMPLES = examples(
    "hornbill export runs/digits/20260101-120000",
    "hornbill export runs/digits/20260101-120000 --name postcodes --output bundles",
    "hornbill export flowers.keras --name flowers --labels flowers.txt --input-dtype uint8",
    "hornbill export runs/digits/20260101-120000 --target-accuracy 0.99 --sign key.pem",
    "hornbill export runs/features/20260101-120000 --threshold recall=0.8",
    "hornbill export flowers.keras --labels flowers.txt --evaluate photos --target-accuracy 0.99",
)


def export(
    source: Annotated[
        Path,
        typer.Argument(metavar="RUN|MODEL", help="The folder of a run, or a .keras or .h5 file."),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the model. Default: the run's family, or the .keras file's name.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Text file with one label per line, for a .keras file."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES|FILE",
            help="Names of the columns of a .keras file that takes rows of a table, "
            "comma-separated, or a text file with one per line; in the order of the input of "
            "numbers, then of texts.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="Give regression if a .keras file predicts numbers. Default: classes or labels, "
            "by its outputs.",
        ),
    ] = None,
    evaluation: Annotated[
        str | None,
        typer.Option(
            "--evaluate",
            metavar="SOURCE",
            help="Labeled data that a .keras file was not trained on: its metrics, calibration and "
            "thresholds go into the bundle.",
        ),
    ] = None,
    target: Target = None,
    image_column: ImageColumn = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=".npz of inputs to check a .keras file with. Default: generated inputs.",
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=DTYPE[AXES]",
            help="What a .keras file takes, such as image=float32\\[batch,28,28] or "
            "tokens=int32\\[batch,steps]; for a model that was not called before it was saved. May "
            "be given several times.",
        ),
    ] = None,
    input_dtype: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE",
            help="Accept this dtype, such as uint8, instead of float32 and cast inside the graph; "
            "for a .keras file.",
        ),
    ] = None,
    target_accuracy: Annotated[
        float | None,
        typer.Option(
            metavar="FRACTION",
            help="Accuracy that accepted predictions must reach, such as 0.99. The probability "
            "threshold is chosen on the validation split. Default: accept every prediction.",
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Probability from which on the positive one of two classes, or a label, is "
            "predicted: a number, or a rule for the validation split: f1, precision=0.9, "
            "recall=0.8, or cost=5 if a missed one costs five times as much as a false alarm. "
            "Default: the setting of the run, 0.5 unless it was changed.",
        ),
    ] = None,
    int8: Annotated[
        str,
        typer.Option(
            metavar="always|auto|never",
            help="Whether to add a quantized model; auto adds it if it is faster and as accurate "
            "on real samples.",
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="float32|float16",
            help="float16 adds a graph in half precision, for GPUs and browsers.",
        ),
    ] = "float32",
    float16_io: Annotated[
        bool,
        typer.Option(
            "--float16-io", help="Also make the inputs and outputs of the float16 graph float16."
        ),
    ] = False,
    trained_on: Annotated[
        str | None,
        typer.Option(
            metavar="jax|torch",
            help="Keras' backend that trained the model. The proof compares with what the model "
            "predicts on it. Default: the backend of the run, or tensorflow.",
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY", help="Private key (PEM) to sign the version with. Default: unsigned."
        ),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Number of the new version. Default: one more than the latest."
        ),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Opset of the ONNX graph, from 15 to the newest that onnxruntime runs. Default: "
            "18, or the lowest later one that the model needs.",
        ),
    ] = None,
    module: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE",
            help="Python module to import first, which registers custom layers. May be given "
            "several times.",
        ),
    ] = None,
    unsafe: Annotated[
        bool,
        typer.Option(
            "--unsafe", help="Run code that a .keras file contains, such as Lambda layers."
        ),
    ] = False,
    output: Output = Path("dist"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export a run or a Keras model as a bundle, after checking it against Keras."""
    _check_source(source, target_accuracy, threshold, evaluation is not None)
    is_run = source.suffix not in _MODEL_FILES
    if not is_run or name is not None:
        _check_name(name or source.stem)
    if is_run:
        _refuse_for_a_run(
            labels=labels,
            columns=columns,
            task=task,
            evaluate=evaluation,
            target=joined(target),
            image_column=image_column,
            samples=samples,
            input=inputs,
            input_dtype=input_dtype,
            module=module,
            unsafe=unsafe,
        )
    for path in filter(None, (labels, samples)):
        _check_readable(path)
    _check_evaluation(evaluation, task, target=joined(target), image_column=image_column)
    given = _parsed(inputs) if inputs else None
    signer = None if sign is None else import_signature().read_signer(sign)
    announce(f"exporting {source}: loading TensorFlow", quiet or as_json)
    load_tensorflow(has_data=is_run)
    from app.system.garbage import collection_paused

    with collection_paused():
        if is_run:  # it loads SciPy and Matplotlib, which take half of the time
            from app.bundles.export_run import export_run
        from app.bundles.keras_files import read_columns, read_labels, read_model, read_samples
        from export import ExportOptions, ModelFacts, export_bundle
        from export.steps import begin_step

    options = ExportOptions(
        version=version,
        opset=opset,
        input_dtype=input_dtype,
        int8=int8,
        precision=precision,
        has_float16_io=float16_io,
        trained_on=trained_on,
        sign=signer,
    )
    seen: list[Any] = []  # the samples to compare with the version before on
    with _shown_steps(quiet or as_json):
        if is_run:
            bundle = export_run(
                source, output, name, options, target_accuracy, threshold, on_known=seen.append
            )
        else:
            begin_step("reading the model")
            facts = ModelFacts(
                labels=read_labels(labels) if labels else (),
                columns=read_columns(columns) if columns else (),
                task=task,
            )
            arrays = read_samples(samples) if samples else None
            model = read_model(source, module or (), unsafe, given)
            if evaluation is not None:
                from app.bundles.measured_facts import Wishes, measured_facts

                reading = named_columns(image_column, target=target)
                wishes = Wishes(reading, target_accuracy, threshold or 0.5)
                facts, known = measured_facts(
                    model, facts, evaluation, wishes, arrays, options, inputs=given
                )
                seen.append(known)
            bundle = export_bundle(
                model, output, name or source.stem, facts, arrays, options, inputs=given
            )
    if as_json or not quiet:
        _report(bundle, _compared_with_previous(bundle, seen), as_json)


def _report(bundle: Path, compared: dict[str, Any] | None, as_json: bool) -> None:
    """Print what an export has written, and how it differs from the version before."""
    from serving.bundle import read_manifest

    manifest = read_manifest(bundle)
    largest = max(
        parity.max_absolute_difference
        for parity in manifest.proof.parity
        if manifest.prediction_output in (parity.output, None)
    )
    if as_json:
        proof = {"samples": manifest.proof.samples, "parity": largest}
        print_json({"bundle": str(bundle), **proof, "comparison": compared})
        return
    typer.echo(
        f"parity:      SavedModel and ONNX within {largest:.1e} of Keras on "
        f"{manifest.proof.samples:,} samples, {manifest.proof.source}"
    )
    if manifest.metrics and not manifest.config:  # training has shown those of a run
        typer.echo(printable(f"measured:    {_describe_metrics(manifest)}"))
    _print_quality(manifest)
    typer.echo(f"bundle:      {bundle}")
    for line in _comparison_lines(compared):
        typer.echo(printable(line))
    suggest(f"hornbill verify {quote(str(bundle.parent))}")


def _compared_with_previous(bundle: Path, seen: list[Any]) -> dict[str, Any] | None:
    """Compare a new version with the one before, if there is one.

    What prevents a comparison does not make the export fail: it is returned as its `error`.
    """
    from app.bundles.comparing import compare_with_previous, previous_version

    if previous_version(bundle) is None:
        return None
    try:
        return compare_with_previous(bundle, *seen)
    except HornbillError as error:
        return {"error": str(error)}


def _describe_metrics(manifest: Any) -> str:
    """Return the first metric with its interval, and what it was measured on."""
    from serving.written_numbers import metric_name, write_score

    name, value = next(iter(manifest.metrics.items()))
    ends = manifest.metric_intervals[name]
    low, high = (write_score(name, end) for end in (ends.low, ends.high))
    return (
        f"{metric_name(name)} {write_score(name, value)} [{low}, {high}] on {manifest.measured_on}"
    )


def _comparison_lines(compared: dict[str, Any] | None) -> list[str]:
    if compared is None:
        return []
    if "error" in compared:
        return [f"comparison:  not possible with the version before. {compared['error']}"]
    from app.reports.comparison_lines import short_comparison

    return short_comparison(compared)


@contextmanager
def _shown_steps(hidden: bool) -> Iterator[None]:
    """Show the steps of an export on standard error: in a terminal the current one, or all."""
    from rich.console import Console

    from app.data.reading_progress import observed_reading
    from app.data.shown_progress import ReadingProgress
    from export.steps import observed_steps

    if hidden:
        yield
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        with (
            observed_steps(lambda step: announce(step, hidden=False)),
            ReadingProgress() as reading,
            observed_reading(reading),
        ):
            yield
        return
    with console.status("") as spinner, observed_steps(spinner.update):
        yield


def _print_quality(manifest: Any) -> None:
    if manifest.whole_batches:
        from serving.manifest import describe_batch

        typer.echo(f"batch:       {describe_batch(manifest)}")
    if manifest.calibration is not None:
        typer.echo(f"calibration: {describe_calibration(manifest.calibration)}")
    if manifest.int8 is not None:
        typer.echo(f"int8:        {describe_int8(manifest)}")
    if manifest.float16 is not None:
        worst = max(parity.max_absolute_difference for parity in manifest.float16.parity)
        typer.echo(f"float16:     within {worst:.1e} of Keras")
    if manifest.thresholds is not None:
        from serving.decisions import describe_thresholds

        for line in describe_thresholds(manifest.thresholds, manifest.labels):
            typer.echo(printable(f"threshold:   {line}"))
    if manifest.intervals is not None:
        from app.reports.run_report import describe_intervals

        line = describe_intervals(asdict(manifest.intervals), manifest.labels)
        typer.echo(printable(f"intervals:   {line}"))
    if manifest.reject_option is not None:
        option = manifest.reject_option
        accuracy = "" if option.accuracy is None else f", with accuracy {option.accuracy:.2%}"
        typer.echo(
            f"reject:      predictions below probability {option.threshold:.4f}; "
            f"{option.coverage:.2%} of {option.measured_on} is accepted{accuracy}"
        )
    for line in manifest.warnings:
        typer.echo(printable(f"warning:     {line}"))


def describe_calibration(found: Any) -> str:
    """Return the calibration errors, and how logits are scaled, in one line."""
    parts = [f"temperature {found.temperature:.3f}"] if found.temperature != 1 else []
    parts += ["a bias for each label"] if found.bias else []
    after, before = (
        f"{ece:.4f}, class-wise {classwise:.4f}"
        for ece, classwise in (
            (found.ece_after, found.classwise_ece_after),
            (found.ece_before, found.classwise_ece_before),
        )
    )
    scaling = f"ECE {before} without ({' and '.join(parts)})"
    if not parts:
        scaling = "without scaling of the logits, which would not help significantly"
    return f"ECE {after} on {found.measured_on}, {scaling}"


def describe_int8(manifest: Any) -> str:
    """Return what int8 changes in speed and accuracy, and on which samples, in one line."""
    from serving.written_numbers import write_percent

    found = manifest.int8
    if found.accuracy_int8 is None:
        change = "accuracy unknown"
    elif manifest.task == "regression":
        gain = found.accuracy_int8 - found.accuracy_float32
        change = f"R² {gain:+z.4f} on {found.measured_on}"
    else:
        gain = 100 * (found.accuracy_int8 - found.accuracy_float32)
        change = f"accuracy {gain:+z.2f} percentage points on {found.measured_on}"
    if found.agreement_low is not None:
        alike, least = write_percent(found.agreement), write_percent(found.agreement_low)
        change += f", {alike} of samples decided as by float32 (95% interval from {least})"
    elif found.agreement is not None:
        change += f", R² against float32 at least {found.agreement:.6g}"
    return (
        f"{'included' if found.kept else 'not included'}: latency {found.latency_ratio_1:.2f} and "
        f"{found.latency_ratio_64:.2f} times that of float32 at batch sizes 1 and 64, {change}"
    )


def _check_name(name: str) -> None:
    """Require a name that a bundle can have."""
    from serving.bundle import problem_of_name

    if problem := problem_of_name(name):
        raise ConfigError(problem)


def _check_evaluation(evaluation: str | None, task: str | None, **options: str | None) -> None:
    """Require options of an evaluation that suit each other, and data that is there."""
    if task not in (None, "regression"):
        raise ConfigError(
            "--task can only be regression; classes and labels are told by the outputs. "
            f"Received: {task}."
        )
    for option, value in options.items():
        if value is not None and evaluation is None:
            raise ConfigError(
                f"--{option.replace('_', '-')} needs --evaluate SOURCE. Received: {value}."
            )
    if evaluation is not None:
        from app.config.reading_config import ReadingConfig
        from app.data.source_kinds import kind_of_source, parts_of

        for part in parts_of(evaluation):
            kind_of_source(part, ReadingConfig())


def _check_source(
    source: Path, target_accuracy: float | None, threshold: str | None, has_data: bool = False
) -> None:
    """Require a `.keras` file or a finished run, and options that suit it.

    Raises:
        ConfigError: it is neither, or an option needs a run.
        RunError: see `app.config.run_files.check_finished`.
    """
    from app.config.run_files import check_finished

    if source.suffix in _MODEL_FILES:
        for option, value in (("target-accuracy", target_accuracy), ("threshold", threshold)):
            if value is not None and not has_data:
                raise ConfigError(
                    f"--{option} needs the validation split of a run, or --evaluate SOURCE. "
                    f"Received: {source}, a model file."
                )
        if threshold is not None:
            _check_rule(threshold)
        if not source.exists():
            raise ConfigError(f"The model file does not exist. Received: {source}.")
        return
    if not source.is_dir():
        reason = "which is a file" if source.exists() else "which does not exist"
        raise ConfigError(
            "Only a run's folder, such as runs/digits/20260101-120000, or a .keras file "
            f"can be exported. Received: {source}, {reason}."
        )
    check_finished(source)
    if threshold is not None:
        _check_rule(threshold)


def _check_rule(threshold: str) -> None:
    from app.config.threshold_rules import parse_rule

    try:
        parse_rule(threshold)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(cannot_read(path, error)) from None


def _parsed(inputs: list[str]) -> Any:
    from .model_inputs import parse_inputs  # which needs numpy

    return parse_inputs(inputs)


def _refuse_for_a_run(**options: Any) -> None:
    """Raise `ConfigError` if an option was given that applies only to a .keras file."""
    given = [name.replace("_", "-") for name, value in options.items() if value]
    if given:
        raise ConfigError(f"--{given[0]} can only be used with a .keras file. Received: a run.")
