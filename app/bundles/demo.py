"""The demo: train, export, verify and predict, with a table of the results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from app.config.run_config import make_config
from app.data.sources import load_dataset
from app.runs.run_folder import Run
from app.runs.train import train
from app.training.progress_bar import TrainingProgress
from export import ProofError
from export.saved_model import load_saved_model
from serving import Check, Predictor, verify_bundle
from serving.bundle import KERAS_MODEL, MODEL
from serving.timing import median_ms

from .export_run import export_run

BATCH_SIZES = (1, 256)
FORMATS = ("keras.Model.predict", "SavedModel", "Predictor")


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo.

    Attributes:
        run: the training run.
        bundle: folder of the exported version.
        checks: checks of the bundle.
        predictions: for ten test images: index, true label, predicted label and its probability.
        latency_ms: median latency in milliseconds, by batch size, then by format.
    """

    run: Run
    bundle: Path
    checks: list[Check]
    predictions: list[tuple[int, str, str, float]]
    latency_ms: dict[int, dict[str, float]]


def run_demo(
    runs: str | Path,
    bundles: str | Path,
    console: Console,
    settings: Mapping[str, object] | None = None,
) -> DemoResult:
    """Train `cnn` on `digits8x8`, export it, verify it and predict with it.

    Args:
        runs: folder of runs.
        bundles: folder of bundles.
        console: console to print to.
        settings: settings of the training; None takes the defaults of `digits`.

    Raises:
        ProofError: the exported bundle fails its verification.
    """
    console.print("[bold]1/4[/] training the digit net on scikit-learn's handwritten digits")
    with TrainingProgress() as progress:
        run = train(make_config("digits", settings), runs, [progress])
    console.print("[bold]2/4[/] exporting to SavedModel and ONNX, and checking their parity")
    bundle = export_run(run.folder, bundles)
    console.print(f"[bold]3/4[/] verifying {bundle}")
    checks = verify_bundle(bundle.parent)
    for check in checks:
        line = f"    {'PASS' if check.passed else 'FAIL'} {check.name}: {check.detail}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if not all(check.passed for check in checks):
        failed = ", ".join(check.name for check in checks if not check.passed)
        raise ProofError(f"The exported bundle failed its own verification. Received: {failed}.")
    console.print("[bold]4/4[/] predicting, and timing Keras, SavedModel and ONNX Runtime")
    result = _predict_and_time(run, bundle, checks)
    console.print(_predictions_table(result))
    console.print(_summary_table(result))
    return result


def _predict_and_time(run: Run, bundle: Path, checks: list[Check]) -> DemoResult:
    dataset = load_dataset(run.config.data)
    predictor = Predictor.load(bundle)
    chosen = run.splits.test[:10]
    prediction = predictor.predict(dataset.inputs[chosen])
    predictions = [
        (int(index), dataset.labels[dataset.targets[index]], str(label), float(row.max()))
        for index, label, row in zip(
            chosen, prediction.labels, prediction.probabilities, strict=True
        )
    ]
    keras_model, saved_model = run.load_model(), load_saved_model(bundle)
    latency_ms = {
        size: median_ms(
            _calls(keras_model, saved_model, predictor, dataset.inputs[:size]), rounds=20
        )
        for size in BATCH_SIZES
    }
    return DemoResult(run, bundle, checks, predictions, latency_ms)


def _calls(
    keras_model: keras.Model,
    saved_model: Callable[..., object],
    predictor: Predictor,
    batch: np.ndarray,
) -> dict[str, Callable[[], object]]:
    tensor = keras.ops.convert_to_tensor(batch)
    calls: tuple[Callable[[], object], ...] = (
        lambda: keras_model.predict(batch, batch_size=len(batch), verbose=0),
        lambda: saved_model(image=tensor),
        lambda: predictor.predict(batch),
    )
    return dict(zip(FORMATS, calls, strict=True))


def _predictions_table(result: DemoResult) -> Table:
    table = Table("test image", "true", "predicted", "probability", title="ten test images")
    for index, truth, label, probability in result.predictions:
        table.add_row(str(index), truth, label, f"{probability:.3f}")
    return table


def _summary_table(result: DemoResult) -> Table:
    manifest = Predictor.load(result.bundle).manifest
    parity = [p for p in manifest.proof.parity if p.output == manifest.prediction_output]
    largest = max(p.max_absolute_difference for p in parity)
    table = Table("metric", "value", title="The digit net")
    table.add_row("test accuracy", f"{result.run.metrics['test']['accuracy']:.2%}")
    table.add_row(
        "parity: largest difference from Keras",
        f"{largest:.1e} (allowed {manifest.proof.tolerances['probabilities']:g})",
    )
    equal = all(p.top1_match == 1 for p in parity)
    table.add_row("same class as Keras for every sample", "yes" if equal else "no")
    table.add_section()
    for name, size in _file_sizes(result).items():
        table.add_row(f"size of {name}", f"{size / 1024:,.0f} KiB")
    for batch_size, latency in result.latency_ms.items():
        table.add_section()
        images = "1 image" if batch_size == 1 else f"a batch of {batch_size}"
        for name, milliseconds in latency.items():
            table.add_row(f"{images}, {name}", f"{milliseconds:.3f} ms")
    return table


def _file_sizes(result: DemoResult) -> dict[str, int]:
    saved_model = [result.bundle / "saved_model.pb", *(result.bundle / "variables").iterdir()]
    return {
        KERAS_MODEL: (result.run.folder / KERAS_MODEL).stat().st_size,
        "SavedModel": sum(path.stat().st_size for path in saved_model),
        MODEL: (result.bundle / MODEL).stat().st_size,
    }
