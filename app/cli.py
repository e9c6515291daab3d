"""The command line. Each command imports what it needs, so that `--help` loads nothing heavy."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.errors import ServingError
from serving.version import VERSION

from .study_commands import study
from .terminal import (
    INTERRUPTED,
    Json,
    Output,
    Quiet,
    examples,
    fail,
    load_tensorflow,
    print_json,
    printable,
    status,
    suggest,
)
from .train_commands import TRAIN_EXAMPLES, train
from .tune_commands import TUNE_EXAMPLES, tune

app = typer.Typer(
    name="hornbill",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train Keras models, export them as proven bundles, predict without TensorFlow.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hornbill {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Options of the program itself, which end it."""


app.add_typer(study)
app.command(epilog=TRAIN_EXAMPLES)(train)
app.command(epilog=TUNE_EXAMPLES)(tune)

Bundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="dist/NAME (its latest version) or dist/NAME/1.")
]


@app.command(
    epilog=examples(
        "hornbill export runs/digits/20260101-120000",
        "hornbill export runs/digits/20260101-120000 --name postcodes --output bundles",
        "hornbill export flowers.keras --name flowers --labels flowers.txt --input-dtype uint8",
        "hornbill export runs/digits/20260101-120000 --accepted-accuracy 0.99 --sign key.pem",
    )
)
def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|MODEL", help="The folder of a run, or a .keras file.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Of the model; the run's family or the file's name.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A label a line, of a .keras file.")
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=".npz of inputs to prove a .keras file on."),
    ] = None,
    input_dtype: Annotated[
        str | None, typer.Option(help="What float inputs take instead, such as uint8.")
    ] = None,
    accepted_accuracy: Annotated[
        float | None,
        typer.Option(
            help="Of the answers to accept, such as 0.99: chosen on the validation split."
        ),
    ] = None,
    int8: Annotated[
        str, typer.Option(metavar="always|auto|never", help="Whether to try a quantised model.")
    ] = "auto",
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Private key, PEM, to sign the version with.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="A number that is free; the next one unless given.")
    ] = None,
    opset: Annotated[int, typer.Option(help="Of the ONNX graph, 15 to 18.")] = 18,
    module: Annotated[
        list[str] | None, typer.Option(help="To import first: it registers layers of your own.")
    ] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Run code that a .keras file brings along.")
    ] = False,
    output: Output = Path("dist"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export a run or a Keras model as a version of a bundle, or nothing if the proof fails."""
    load_tensorflow()
    from app.errors import ConfigError
    from app.exporting import export_run, read_labels, read_model, read_samples
    from export import ExportOptions, ModelFacts, export_bundle
    from serving.bundle import read_manifest

    signer = None if sign is None else _signing().read_signer(sign)
    options = ExportOptions(
        version=version, opset=opset, input_dtype=input_dtype, int8=int8, sign=signer
    )
    with status("exporting and proving", quiet or as_json):
        if source.suffix in (".h5", ".hdf5"):
            raise ConfigError(
                f"A model must be a .keras file. Received: {source}. Load it with Keras, and save "
                "it as one."
            )
        if source.suffix == ".keras":
            if accepted_accuracy is not None:
                raise ConfigError(
                    "--accepted-accuracy needs the validation split of a run. "
                    f"Received: {source}, a .keras file."
                )
            facts = ModelFacts(labels=read_labels(labels) if labels else ())
            arrays = read_samples(samples) if samples else None
            model = read_model(source, module or (), unsafe)
            bundle = export_bundle(model, output, name or source.stem, facts, arrays, options)
        else:
            _refuse_for_a_run(
                labels=labels,
                samples=samples,
                input_dtype=input_dtype,
                module=module,
                unsafe=unsafe,
            )
            bundle = export_run(source, output, name, options, accepted_accuracy)
    manifest = read_manifest(bundle)
    agreements = [a for a in manifest.proof.agreements if manifest.answer in (a.output, None)]
    largest = max(a.max_absolute_difference for a in agreements)
    if as_json:
        print_json({"bundle": str(bundle), "samples": manifest.proof.samples, "parity": largest})
    elif not quiet:
        typer.echo(
            f"proof:  SavedModel and ONNX within {largest:.1e} of Keras on "
            f"{manifest.proof.samples:,} samples, {manifest.proof.source}"
        )
        _print_confidence(manifest)
        typer.echo(f"bundle: {bundle}")
        suggest(f"hornbill verify {bundle.parent}")


def _print_confidence(manifest: Any) -> None:
    if manifest.calibration is not None:
        found = manifest.calibration
        typer.echo(
            f"sure:   ECE {found.ece_after:.4f} on test, {found.ece_before:.4f} before a "
            f"temperature of {found.temperature:.3f}"
        )
    if manifest.int8 is not None:
        found = manifest.int8
        lost = 100 * ((found.accuracy_float32 or 0) - (found.accuracy_int8 or 0))
        typer.echo(
            f"int8:   {'kept' if found.kept else 'not kept'}: {found.latency_ratio_1:.2f} and "
            f"{found.latency_ratio_64:.2f} of float32's time at batch 1 and 64, {lost:.2f} points "
            "of accuracy lost"
        )
    if manifest.reject is not None:
        reject = manifest.reject
        right = "none" if reject.accuracy is None else f"{reject.accuracy:.2%}"
        typer.echo(
            f"accept: probability {reject.threshold:.4f} and more: {reject.coverage:.2%} of the "
            f"test split, {right} of these right"
        )


def _signing() -> Any:
    """Return the module that signs, or end in a line if its packages are not installed."""
    try:
        from serving import signature
    except ModuleNotFoundError as error:
        typer.echo(
            f"Signing needs the extra `sign`. Received: no module {error.name!r}. "
            "Install it with: pip install 'hornbill[sign]'",
            err=True,
        )
        raise typer.Exit(2) from None
    return signature


def _refuse_for_a_run(**options: Any) -> None:
    """Raise where an option was given that a run answers itself."""
    from export import ExportError

    given = [name.replace("_", "-") for name, value in options.items() if value]
    if given:
        raise ExportError(f"--{given[0]} is for a .keras file; a run has its own. Received: a run.")


@app.command(
    epilog=examples(
        "hornbill verify dist/digits",
        "hornbill verify dist/digits/1 --json",
        "hornbill verify dist/digits --key pub.pem",
    )
)
def verify(
    bundle: Bundle,
    key: Annotated[
        Path | None, typer.Option(metavar="PUB", help="Public key, PEM, it must be signed with.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check a bundle's files, contract and behaviour; exit status 1 if one fails."""
    from serving.verify import verify_bundle

    checks = verify_bundle(bundle, None if key is None else _signing().read_verifier(key))
    passed = all(check.passed for check in checks)
    if as_json:
        print_json(
            {
                "passed": passed,
                "checks": [
                    {"name": c.name, "passed": c.passed, "detail": c.detail} for c in checks
                ],
            }
        )
    elif not quiet:
        for check in checks:
            typer.echo(
                f"{'PASS' if check.passed else 'FAIL'}  {check.name:9}  {printable(check.detail)}"
            )
        if passed:
            suggest(f"hornbill predict {bundle} FILE…")
    if not passed:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "hornbill predict dist/digits three.png seven.jpg",
        "hornbill predict dist/digits scans/*.png --json",
        "hornbill predict dist/softmax flowers.csv",
        "hornbill predict dist/digits --input 'scans/**/*.png' --output answers",
        "hornbill predict dist/softmax --input 'rows/*.parquet' --key id --output answers",
        "hornbill predict dist/digits --input '/shared/*.npy' --output /shared/answers "
        "--ray-address 10.0.0.1:6379",
    )
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
        from .batch_commands import predict_batch

        predict_batch(bundle, pattern, output, key, ray_address, as_json, quiet)
        return
    if not files or (pattern, output, key, ray_address) != (None, None, None, None):
        raise typer.BadParameter(
            "Missing argument 'FILE…', or --input and --output for a batch job: one of the two."
        )
    from serving.inputs import read_inputs
    from serving.predictor import Predictor

    predictor = Predictor.load(bundle)
    manifest = predictor.manifest
    inputs, names = read_inputs(files, manifest)
    prediction = predictor.predict(inputs)
    answer_name = str(manifest.answer)
    answers = [
        dict(zip(manifest.labels, row, strict=True))
        for row in prediction.outputs[answer_name].tolist()
    ]
    accepted = prediction.accepted.tolist() if manifest.reject else [None] * len(answers)
    decisions = [_decision(*each, manifest) for each in zip(answers, accepted, strict=True)]
    if as_json:
        for name, decision, answer in zip(names, decisions, answers, strict=True):
            print_json({"file": name, **decision, answer_name: answer})
        return
    if quiet:
        return
    for line in _answer_table(names, decisions, answers, manifest):
        typer.echo(printable(line))
    suggest(f"hornbill predict {bundle} {files[0]} --json")


@app.command(
    epilog=examples(
        "hornbill bench dist/digits",
        "hornbill bench dist/digits --keras runs/digits/20260101-120000/model.keras",
        "hornbill bench dist/digits --picture bench.png --json",
    )
)
def bench(
    bundle: Bundle,
    keras: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The .keras file it was made of.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A PNG of the latencies to write.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a bundle in every runtime at hand: size, agreement with Keras, latency."""
    load_tensorflow()
    from app.benching import bench_bundle, bench_table, draw_bench, rows_to_json
    from app.errors import ConfigError

    if picture is not None and not picture.parent.is_dir():
        raise ConfigError(f"A picture must go to a folder. Received: {picture.parent}, not there.")
    with status("measuring", quiet or as_json):
        rows = bench_bundle(bundle, keras)
    if picture is not None:
        draw_bench(rows, picture)
    if as_json:
        typer.echo(rows_to_json(rows))
    elif not quiet:
        for line in bench_table(rows):
            typer.echo(line)
        suggest(f"hornbill bench {bundle} --picture bench.png")


@app.command(
    epilog=examples(
        "hornbill serve dist",
        "hornbill serve dist --port 8080 --versions all",
        "HORNBILL_TOKEN=… hornbill serve dist --host 0.0.0.0 --workers 2",
    )
)
def serve(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of bundles, or of one model.")
    ] = Path("dist"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0: any.")] = 8000,
    versions: Annotated[
        str, typer.Option(metavar="latest|all", help="Which versions of each model.")
    ] = "latest",
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes.")] = 1,
    token: Annotated[
        str | None,
        typer.Option(envvar="HORNBILL_TOKEN", help="That requests must bear.", show_envvar=True),
    ] = None,
    max_body_mb: Annotated[float, typer.Option(help="Largest body of a request.")] = 64.0,
    max_rows: Annotated[int, typer.Option(help="Most samples in a request.")] = 16384,
    max_requests: Annotated[
        int, typer.Option(help="Under way at once; more are answered 503.")
    ] = 1024,
    max_delay_ms: Annotated[
        float, typer.Option(help="How long a batch of several requests may take.")
    ] = 5.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not log each request.")] = False,
) -> None:
    """Serve bundles over the Open Inference Protocol v2 and TF Serving's REST interface."""
    from serving.server import Settings
    from serving.server.running import find_address, run_server

    settings = Settings(
        folder=folder,
        versions=versions,
        token=token,
        max_body_mb=max_body_mb,
        max_rows=max_rows,
        max_requests=max_requests,
        max_delay_ms=max_delay_ms,
        log_requests=not quiet,
    )
    address = find_address(host, port)
    typer.echo(f"serving {folder} on {address.url}, addresses at /docs", err=True)
    run_server(settings, address, workers)


@app.command(epilog=examples("hornbill demo", "hornbill demo --output /tmp/demo"))
def demo(output: Output = Path()) -> None:
    """Run the main job in about a minute: train, export, verify, predict, compare."""
    load_tensorflow()
    from rich.console import Console

    from app.demo import run_demo

    result = run_demo(output / "runs", output / "dist", Console())
    model_folder = result.bundle.parent
    typer.echo("Next:")
    for command in (
        f"hornbill verify {model_folder}",
        f"hornbill predict {model_folder} YOUR_DIGIT.png",
        "hornbill train digits --set variant=mlp",
    ):
        typer.echo(f"  {command}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: 0 done, 1 a check failed, 2 the input was wrong, 130 interrupted.

    Args:
        arguments: what follows `hornbill`; the process' own arguments if None.

    Raises:
        SystemExit: always, with the status.
    """
    try:
        code = app(arguments, prog_name="hornbill", standalone_mode=False)
        if code == INTERRUPTED:  # Typer says nothing
            fail("Interrupted.", INTERRUPTED)
        sys.exit(code)
    except _CLICK_ERROR as error:
        fail(" ".join(error.format_message().split()) + _received(error), error.exit_code)
    except (ServingError, ValueError) as error:
        if not _is_ours(error):
            raise
        fail(str(error), 1 if type(error).__name__ == "ProofError" else 2)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("app", "export", "models", "serving"):
            raise
        fail(
            f"This command needs the package {error.name}. "
            f"Install it with: pip install 'hornbill[{_extra_of(error.name or '')}]'.",
            2,
        )
    except (KeyboardInterrupt, typer.Abort):
        fail("Interrupted.", INTERRUPTED)


def _extra_of(package: str) -> str:
    extras = {
        "jax": ("jax", "jaxlib"),
        "ray": ("pyarrow", "ray"),
        "serve": ("granian", "msgspec", "prometheus_client"),
        "tune": ("cmaes", "optuna", "sqlalchemy"),
    }
    return next((extra for extra, names in extras.items() if package in names), "train")


# Typer's copy of click, or click itself: which one depends on Typer's release.
_CLICK_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _received(error: Exception) -> str:
    """Return the value that Typer could not read and does not name; it lets pydantic read it."""
    read = getattr(error.__cause__, "errors", None)
    return f". Received: {read()[0]['input']!r}." if read else ""


def _is_ours(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in ("app", "export", "serving")


def _decision(answer: dict[str, float], accepted: bool | None, manifest: Any) -> dict[str, Any]:
    if manifest.kind_of_targets == "classes":
        label = max(answer, key=answer.__getitem__)
        return {"label": label} if accepted is None else {"label": label, "accepted": accepted}
    if manifest.kind_of_targets == "labels":
        return {"labels": [label for label, value in answer.items() if value >= 0.5]}
    return {}


def _answer_table(
    names: list[str],
    decisions: list[dict[str, Any]],
    answers: list[dict[str, float]],
    manifest: Any,
) -> list[str]:
    """Return a line for each sample below a header: the class, the labels or the values."""
    width = max(map(len, names))
    if manifest.kind_of_targets == "values":
        lines = ["  ".join(f"{label:>12}" for label in manifest.labels)]
        lines += ["  ".join(f"{value:12.6g}" for value in a.values()) for a in answers]
    elif manifest.kind_of_targets == "labels":
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
