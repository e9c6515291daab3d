"""The demos: train, export, verify and predict, with a table of the results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from app.config.run_config import RunConfig, make_config
from app.data.colored_shapes import write_shapes
from app.data.datasets import Dataset
from app.data.image_lists import list_image_folder
from app.runs.run_folder import Run
from app.runs.train import load_run_data, train
from export import ProofError
from export.saved_model import load_saved_model
from serving import Check, Prediction, Predictor, verify_bundle
from serving.bundle import KERAS_MODEL, MODEL
from serving.timing import median_ms

from .export_run import export_run

# Number of timed calls, by batch size.
ROUNDS = {1: 20, 256: 5}
FORMATS = ("keras.Model.predict", "SavedModel", "Predictor")
SHAPES = "colored-shapes"
# Half of the side of the files, and few epochs, so that the demo takes about a minute.
_SHAPE_SETTINGS = {"image_size": 32, "epochs": 10}
# An image, its true label, the predicted label and its probability.
Row = tuple[str, str, str, float]


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo.

    Attributes:
        run: the training run.
        bundle: folder of the exported version.
        checks: checks of the bundle.
        predictions: for ten test images: index or file, true label, predicted label and its
            probability.
        latency_ms: median latency in milliseconds, by batch size, then by format.
    """

    run: Run
    bundle: Path
    checks: list[Check]
    predictions: list[Row]
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
    config = make_config("digits", settings)
    demo = _Demo("The digit net", "digits", config, _predict_digits)
    return _demonstrate(demo, runs, bundles, console)


def run_image_demo(
    data: Path,
    runs: str | Path,
    bundles: str | Path,
    console: Console,
    settings: Mapping[str, object] | None = None,
) -> DemoResult:
    """Train `features` on images of colored shapes, export it, verify it and predict files.

    Args:
        data: folder of the images, which are drawn if it does not exist.
        runs: folder of runs.
        bundles: folder of bundles.
        console: console to print to.
        settings: settings of the training besides those of the demo.

    Raises:
        DataError: the folder of the images cannot be written, or holds something else.
        ProofError: the exported bundle fails its verification.
    """
    console.print(f"[bold]1/4[/] training a residual net on images of colored shapes in {data}")
    write_shapes(data)
    config = make_config("features", {**_SHAPE_SETTINGS, **(settings or {})}, data=data)

    def predict(_run: Run, _dataset: Dataset, predictor: Predictor) -> list[Row]:
        return _predict_files(data, predictor)

    demo = _Demo("The residual net", SHAPES, config, predict)
    return _demonstrate(demo, runs, bundles, console)


@dataclass(frozen=True)
class _Demo:
    """What differs between the demos: a title, the model's name, the run, and what it predicts."""

    title: str
    name: str
    config: RunConfig
    predict: Callable[[Run, Dataset, Predictor], list[Row]]


def _demonstrate(
    demo: _Demo, runs: str | Path, bundles: str | Path, console: Console
) -> DemoResult:
    run = train(demo.config, runs)
    console.print("[bold]2/4[/] exporting to SavedModel and ONNX, and checking their parity")
    bundle = export_run(run.folder, bundles, demo.name)
    console.print(f"[bold]3/4[/] verifying {bundle}")
    checks = verify_bundle(bundle.parent)
    for check in checks:
        line = f"    {'PASS' if check.passed else 'FAIL'} {check.name}: {check.detail}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if not all(check.passed for check in checks):
        failed = ", ".join(check.name for check in checks if not check.passed)
        raise ProofError(f"The exported bundle failed its own verification. Received: {failed}.")
    console.print("[bold]4/4[/] predicting; timing Keras, SavedModel and ONNX Runtime, each alone")
    dataset, predictor = load_run_data(run.config), Predictor.load(bundle)
    predictions = demo.predict(run, dataset, predictor)
    result = DemoResult(run, bundle, checks, predictions, _time(run, bundle, dataset, predictor))
    console.print(_predictions_table(result))
    console.print(_summary_table(demo.title, result))
    return result


def _predict_digits(run: Run, dataset: Dataset, predictor: Predictor) -> list[Row]:
    chosen = run.splits.test[:10]
    truths = [dataset.labels[target] for target in dataset.targets[chosen]]
    return _rows(list(map(str, chosen)), truths, predictor.predict(dataset.inputs[chosen]))


def _predict_files(data: Path, predictor: Predictor) -> list[Row]:
    """Predict two test files of each class."""
    found = list_image_folder(data)
    test = len(found.paths) - found.sizes[2]
    places = [np.flatnonzero(found.targets[test:] == k)[:2] for k in range(len(found.labels))]
    files = [found.paths[test + place] for place in np.concatenate(places)]
    names = [str(path.relative_to(data)) for path in files]
    return _rows(names, [path.parent.name for path in files], predictor.predict_images(files))


def _rows(names: list[str], truths: list[str], prediction: Prediction) -> list[Row]:
    confidences = prediction.probabilities.max(axis=1).tolist()
    labels = map(str, prediction.labels)
    return list(zip(names, truths, labels, confidences, strict=True))


def _time(
    run: Run, bundle: Path, dataset: Dataset, predictor: Predictor
) -> dict[int, dict[str, float]]:
    """Return the median latency in milliseconds, by batch size, then by format."""
    keras_model, saved_model = run.load_model(), load_saved_model(bundle)
    return {
        size: median_ms(_calls(keras_model, saved_model, predictor, dataset.inputs[:size]), rounds)
        for size, rounds in ROUNDS.items()
    }


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
    for name, truth, label, probability in result.predictions:
        table.add_row(name, truth, label, f"{probability:.3f}")
    return table


def _summary_table(title: str, result: DemoResult) -> Table:
    manifest = Predictor.load(result.bundle).manifest
    parity = [p for p in manifest.proof.parity if p.output == manifest.prediction_output]
    largest = max(p.max_absolute_difference for p in parity)
    table = Table("metric", "value", title=title)
    count = len(result.run.splits.test)
    table.add_row(
        f"test accuracy, {count:,} images", f"{result.run.metrics['test']['accuracy']:.2%}"
    )
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
