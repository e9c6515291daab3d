"""Exports a finished run: its model, proven on its own test split."""

from pathlib import Path

from export import ModelFacts, export_bundle, with_edge_cases

from .config import flat_config
from .data.datasets import Dataset
from .data.sources import bare_source
from .families import FAMILIES, fit_to_data
from .runs import Run, read_run
from .training import load_run_data


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
    dataset = load_run_data(run.config)
    run.check_data(dataset)
    source = f"the test split of {bare_source(run.config.data)}"
    gaps = _gaps(run, dataset)
    samples = with_edge_cases(dataset.model_inputs(run.splits.test), source, gaps)
    return export_bundle(
        run.load_model(),
        _facts(run, dataset, gaps),
        samples,
        output,
        run.config.family if name is None else name,
    )


def _gaps(run: Run, dataset: Dataset) -> tuple[int, ...]:
    """Return the columns of numbers that may have no value."""
    family = FAMILIES[run.config.family]
    config = fit_to_data(family, run.config.model, dataset, run.splits)
    return config.rows.gaps if dataset.kind == "rows" else ()


def _facts(run: Run, dataset: Dataset, gaps: tuple[int, ...]) -> ModelFacts:
    return ModelFacts(
        family=FAMILIES[run.config.family].build.__name__,
        kind_of_targets=dataset.kind_of_targets,
        labels=dataset.labels,
        columns=dataset.columns,
        gaps=tuple(dataset.columns[number] for number in gaps),
        text_columns=dataset.text_columns,
        metrics=run.metrics["test"],
        config={**flat_config(run.config), "data": bare_source(run.config.data)},
        data={
            "source": bare_source(run.config.data),
            "sha256": run.data["sha256"],
            "samples": run.data["samples"],
        },
        figures=sorted((run.folder / "figures").glob("*.png")),
    )
