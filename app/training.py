"""Training from data source to run folder."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras

from .config import RunConfig
from .data.sources import NAMED, load_dataset
from .data.splits import split_dataset
from .families import FAMILIES, fit_to_data
from .fitting import fit
from .runs import Run, new_run_folder, write_run


def train(
    config: RunConfig,
    output: str | Path = "runs",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Run:
    """Train the model of `config` and write its run folder.

    Args:
        config: see `app.config.make_config`.
        output: folder of runs; the new one is `<output>/<family>/<time>`.
        callbacks: passed to `keras.Model.fit`.

    Returns:
        The finished run. After an error no run folder is left behind.

    Raises:
        DataError: the data source cannot be used, or does not fit the family.
        RunError: the folder cannot be written, or the loss is no longer finite.

    Example:
        >>> run = train(make_config("digits", {"variant": "mlp"}))
        >>> run.metrics["test"]["accuracy"]
    """
    dataset = load_dataset(config.data)
    if config.data not in NAMED:  # the run must find its data from any folder
        config = replace(config, data=str(Path(config.data).resolve()))
    splits = split_dataset(dataset, config.seed)
    fit_to_data(
        FAMILIES[config.family], config.model, dataset
    )  # refuses before anything is written
    folder = new_run_folder(Path(output), config.family)
    try:
        return write_run(folder, config, dataset, splits, fit(config, dataset, splits, callbacks))
    except BaseException:
        shutil.rmtree(folder)
        raise
