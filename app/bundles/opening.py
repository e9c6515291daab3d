"""Opens a bundle, or a run as the bundle that it would become, and predicts data with it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from app.config.run_files import CONFIG, check_finished
from app.data.arrays import rows_in_chunk
from app.data.datasets import Dataset
from app.errors import DataError
from serving.manifest import Manifest, describe_batch
from serving.predictor import Predictor
from serving.versions import find_version


def check_model(path: Path) -> bool:
    """Require a bundle or a finished run; return whether it is a run, which needs TensorFlow.

    Raises:
        ManifestError: there is no bundle.
        RunError: the run is not finished.
    """
    if not is_run(path):
        find_version(path)
        return False
    check_finished(path)
    return True


def is_run(path: Path) -> bool:
    """Return whether a path is the folder of a run."""
    return (path / CONFIG).is_file()


def title_of(path: Path, manifest: Manifest) -> str:
    """Return the name of a model for people: `digits 3`, or `run 20260101-120000`."""
    return f"run {path.resolve().name}" if is_run(path) else f"{manifest.name} {manifest.version}"


@contextmanager
def opened(path: Path) -> Iterator[Predictor]:
    """Load a bundle; a run is exported to a temporary folder first, which takes TensorFlow.

    Raises:
        ManifestError: the bundle is missing, broken or changed.
        RunError: the run is not finished, or its data has changed.
        DataError: the model does not take samples one by one.
    """
    if not is_run(path):
        yield _load(find_version(path))
        return
    from app.bundles.export_run import export_run
    from export import ExportOptions

    with tempfile.TemporaryDirectory(prefix="hornbill-") as folder:
        yield _load(export_run(path, folder, options=ExportOptions(int8="never")))


def _load(folder: Path) -> Predictor:
    predictor = Predictor.load(folder)
    require_single_samples(predictor.manifest)
    return predictor


def require_single_samples(manifest: Manifest) -> None:
    """Require a model that takes samples one by one.

    Raises:
        DataError: it takes whole batches.
    """
    if manifest.whole_batches:
        raise DataError(
            "An evaluation needs a model that takes samples one by one. "
            f"Received: {manifest.name}. {describe_batch(manifest)}"
        )


def predict(predictor: Predictor, dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """Return the probabilities or values for the samples at `indices`, `(samples, labels)`.

    Raises:
        DataError: a prediction is not finite.
    """
    manifest = predictor.manifest
    step = rows_in_chunk(dataset.inputs)
    parts = []
    for start in range(0, len(indices), step):
        prediction = predictor.predict(dataset.model_inputs(indices[start : start + step]))
        parts.append(prediction.outputs[str(manifest.prediction_output)])
    found = np.concatenate(parts)
    wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if wrong.size:
        raise DataError(
            f"Predictions must be finite. Received: NaN or infinity of {manifest.name} for "
            f"{wrong.size:,} of {len(found):,} samples."
        )
    return found
