"""Lists the images of a table that has a column of paths or images, and columns of targets."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from app.system.image_paths import find_image
from serving.errors import describe_all
from serving.number_text import parse_number

from .column_formats import decide_columns
from .image_lists import ImageList
from .reading_progress import tell, tell_progress
from .stored_images import ImageFile, ImageStore
from .tables import Batch, Table, check_columns
from .targets import (
    TargetReader,
    check_targets,
    refuse_missing_targets,
    survey_target,
    task_of_targets,
)


def list_image_table(table: Table, reading: ReadingConfig, task: str) -> ImageList:
    """List the images that the column `reading.image_column` of a table names, or holds itself.

    Paths are relative to the folder of the table's file. Images that the table holds are copied to
    a temporary file. Columns besides the images and the targets are ignored. Numbers of classes
    that have names in the table become these names.

    Args:
        table: the table.
        reading: the column of images and the columns to predict.
        task: task of the model's head, see `app.data.table_reading.read_table`.

    Raises:
        DataError: a column is missing, paths are wrong, an image or a target is missing, or a
            target is of the wrong kind, or is the number of a class without a name though others
            have one. The message names the row; of several wrong paths, the first ones.
    """
    check_columns(table, reading)
    task = task_of_targets(reading, task)
    surveys = [survey_target(name, reading, task) for name in reading.target]
    is_stored = reading.image_column in table.images
    paths: list[Path] = []
    problems: list[DataError] = []
    batches: list[Batch] = []
    for numbered in table.read():
        if not is_stored:
            _find_files(table, numbered, reading.image_column, paths, problems)
        if task != "regression":
            _require_named_classes(table, numbered, reading.target)
        batch = numbered if task == "regression" else _with_class_names(table, numbered)
        refuse_missing_targets(table, batch, surveys, task)
        for survey in surveys:
            survey.learn(batch.numbers, batch.cells[survey.name])
        cells = {name: batch.cells[name] for name in reading.target}
        batches.append(Batch(batch.numbers, cells))
    if problems:
        raise DataError(describe_all(problems))
    if not any(batch.numbers for batch in batches):
        raise DataError(f"{table.source} must have lines below its header. Received: none.")
    if not is_stored:
        _require_files(table, reading.image_column, paths)
    check_targets(table, surveys, task, reading)
    are_texts = [] if task == "regression" else reading.target
    columns, _ = decide_columns(table, surveys, are_texts)
    targets = TargetReader(
        table, surveys, [columns[name] for name in reading.target], task, reading.categorical
    )
    for note in targets.notes:
        tell(note)
    files = _copied_images(table, reading.image_column) if is_stored else paths
    return ImageList(
        source=table.source,
        paths=files,
        targets=np.concatenate([targets.read(batch) for batch in batches]),
        labels=targets.labels,
        task=task,
        sizes=table.sizes or (len(files), 0, 0),
        target_units=targets.units,
    )


def check_first_paths(table: Table, reading: ReadingConfig) -> None:
    """Require that the column of paths names files, as far as the first rows of a table tell.

    Raises:
        DataError: none of them does.
    """
    paths: list[Path] = []
    for batch in () if reading.image_column in table.images else table.read():
        _find_files(table, batch, reading.image_column, paths, [])
        if paths:
            _require_files(table, reading.image_column, paths)
            return


def _copied_images(table: Table, column: str) -> list[ImageFile]:
    """Copy the images of a column to a temporary file, one row group after the other."""

    def named() -> Iterator[tuple[str, bytes]]:
        for row, content in enumerate(table.images[column]()):
            if content is None:
                raise DataError(
                    f"Each row must hold an image. Received: none in {column!r} of "
                    f"{table.place(row)}."
                )
            path, number = table.file_of(row)
            yield f"{path}:{number}", content
            tell_progress(row + 1, 0, "copying images")

    return list(ImageStore().add(named()))


def _with_class_names(table: Table, batch: Batch) -> Batch:
    """Return a batch with the names of classes for their numbers; -1 is a missing one."""
    cells = dict(batch.cells)
    for column, names in table.class_names.items():
        known = {"-1": "", **{str(number): name for number, name in enumerate(names)}}
        cells[column] = [known.get(cell, cell) for cell in batch.cells[column]]
    return batch._replace(cells=cells)


def _require_named_classes(table: Table, batch: Batch, targets: Sequence[str]) -> None:
    """Require numbers of classes that have a name, if the table names the classes; -1 is missing.

    Raises:
        DataError: a number has none.
    """
    for column in targets:
        names = table.class_names.get(column, ())
        for row, cell in zip(batch.numbers, batch.cells[column], strict=True):
            number = parse_number(cell) if names else None
            if number is None or cell in names or number in range(-1, len(names)):
                continue
            raise DataError(
                f"A class must be one of those that the file names, 0 to {len(names) - 1}. "
                f"Received: {column}={cell} in {table.place(row)}. Correct or remove it."
            )


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
            path, _ = table.file_of(number)
            paths.append(find_image(Path(path), table.place(number), column, cell))
        except DataError as error:
            problems.append(error)
