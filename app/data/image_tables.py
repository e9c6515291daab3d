"""Lists the images of a table that has a column of paths and columns of targets."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from app.system.image_paths import find_image
from serving.errors import describe_all

from .column_formats import decide_columns
from .image_lists import ImageList
from .reading_progress import tell
from .tables import Batch, Table, check_columns
from .targets import (
    TargetReader,
    check_targets,
    refuse_missing_targets,
    survey_target,
    task_of_targets,
)


def list_image_table(table: Table, reading: ReadingConfig, task: str) -> ImageList:
    """List the images that the column `reading.image_column` of a table names.

    Paths are relative to the folder of the table's file. Columns besides the paths and the targets
    are ignored.

    Args:
        table: the table.
        reading: the column of paths and the columns to predict.
        task: task of the model's head, see `app.data.table_reading.read_table`.

    Raises:
        DataError: a column is missing, paths are wrong, or a target is missing or of the wrong
            kind. The message names the row; of several wrong paths, the first ones.
    """
    check_columns(table, reading)
    task = task_of_targets(reading, task)
    surveys = [survey_target(name, reading, task) for name in reading.target]
    paths: list[Path] = []
    problems: list[DataError] = []
    batches: list[Batch] = []
    for batch in table.read():
        _find_files(table, batch, reading.image_column, paths, problems)
        refuse_missing_targets(table, batch, surveys, task)
        for survey in surveys:
            survey.learn(batch.numbers, batch.cells[survey.name])
        cells = {name: batch.cells[name] for name in reading.target}
        batches.append(Batch(batch.numbers, cells))
    if problems:
        raise DataError(describe_all(problems))
    if not paths:
        raise DataError(f"{table.source} must have lines below its header. Received: none.")
    _require_files(table, reading.image_column, paths)
    check_targets(table, surveys, task, reading)
    are_texts = [] if task == "regression" else reading.target
    columns, _ = decide_columns(table, surveys, are_texts)
    targets = TargetReader(
        table, surveys, [columns[name] for name in reading.target], task, reading.categorical
    )
    for note in targets.notes:
        tell(note)
    return ImageList(
        source=table.source,
        paths=paths,
        targets=np.concatenate([targets.read(batch) for batch in batches]),
        labels=targets.labels,
        task=task,
        sizes=(len(paths), 0, 0),
        target_units=targets.units,
    )


def check_first_paths(table: Table, reading: ReadingConfig) -> None:
    """Require that the column of paths names files, as far as the first rows of a table tell.

    Raises:
        DataError: none of them does.
    """
    paths: list[Path] = []
    for batch in table.read():
        _find_files(table, batch, reading.image_column, paths, [])
        if paths:
            _require_files(table, reading.image_column, paths)
            return


def _require_files(table: Table, column: str, paths: Sequence[Path]) -> None:
    if not any(map(os.path.exists, paths)):
        raise DataError(
            f"The column {column!r} of {table.source} must hold paths of images, relative to its "
            f"folder. Received: no path that exists, such as {paths[0]}."
        )


def _find_files(
    table: Table, batch: Batch, column: str, paths: list[Path], problems: list[DataError]
) -> None:
    """Add the paths of a batch to `paths`, and what is wrong with others to `problems`."""
    for number, cell in zip(batch.numbers, batch.cells[column], strict=True):
        try:
            paths.append(find_image(Path(table.source), table.place(number), column, cell))
        except DataError as error:
            problems.append(error)
