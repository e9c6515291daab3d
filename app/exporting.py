"""Exports a finished run: its model, proven on its own test split."""

from pathlib import Path

from export import ModelFacts, export_bundle, with_edge_cases

from .config import flat_config
from .data.datasets import Dataset
from .data.sources import load_dataset
from .errors import RunError
from .families import FAMILIES
from .runs import Run, read_run


def export_run(folder: str | Path, output: str | Path = "dist", name: str | None = None) -> Path:
    """Export a run as the next version of a bundle.

    Args:
        folder: of the run.
        output: folder of bundles.
        name: of the model; the run's family if None.

    Returns:
        The version's folder. After an error nothing was published.

    Raises:
        RunError: the run is not finished, or its data has changed since.
        ExportError: the model cannot be exported.
        ProofError: the artifacts do not agree.
    """
    run = read_run(Path(folder))
    dataset = load_dataset(run.config.data)
    if dataset.sha256() != run.data["sha256"]:
        raise RunError(
            f"{run.config.data} must hold the data that {run.folder} was trained on. "
            f"Received: SHA-256 {dataset.sha256()[:12]}… instead of {run.data['sha256'][:12]}…."
        )
    samples = with_edge_cases(dataset.inputs[run.splits.test], f"the test split of {_source(run)}")
    return export_bundle(
        run.load_model(), _facts(run, dataset), samples, output, name or run.config.family
    )


def _facts(run: Run, dataset: Dataset) -> ModelFacts:
    return ModelFacts(
        family=FAMILIES[run.config.family].build.__name__,
        labels=dataset.labels,
        columns=dataset.columns,
        metrics=run.metrics["test"],
        config={**flat_config(run.config), "data": _source(run)},
        data={
            "source": _source(run),
            "sha256": run.data["sha256"],
            "samples": run.data["samples"],
        },
        figures=sorted((run.folder / "figures").glob("*.png")),
    )


def _source(run: Run) -> str:
    """Return the name of a source without its folder, which is nobody else's business."""
    return Path(run.config.data).name
