"""Lists the images of a table that has a column of paths or images, and columns of targets."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from .stored_images import ImageFile, ImageStore, MissingImage
from .tables import Batch, Table, check_columns
from .targets import (
    NO_CLASS,
    TargetReader,
    check_targets,
    refuse_missing_targets,
    survey_target,
    task_of_targets,
)


def list_image_table(
    table: Table, reading: ReadingConfig, task: str, known: Sequence[str] | None = None
) -> ImageList:
    """List the images that the column `reading.image_column` of a table names, or holds itself.

    Paths are relative to the folder of the table's file. Images that the table holds are copied to
    a temporary file. Columns besides the images and the targets are ignored. Numbers of classes
    that have names in the table become these names.

    Args:
        table: the table.
        reading: the column of images and the columns to predict.
        task: task of the model's head, see `app.data.table_reading.read_table`.
        known: labels of a model that exists. Each text of a column of classes is a name then, and
            errors advise no setting.

    Returns:
        The images; one that is missing is listed, and cannot be read.

    Raises:
        DataError: a column is missing, paths are wrong, a target is missing, of the wrong kind, or
            the number of a class without a name though others have one, or a path is missing,
            unless `reading.unreadable` is `skip`. The message names the row; of several wrong
            paths, the first ones.
    """
    task = task_of_targets(reading, task)
    if known is not None and task == "multiclass":
        reading = replace(reading, categorical=reading.target)
    check_columns(table, reading)
    surveys = [survey_target(name, reading, task) for name in reading.target]
    for survey in surveys:
        survey.marks -= {label.lower() for label in known or ()}
    is_stored = reading.image_column in table.images
    paths: list[ImageFile] = []
    problems: list[DataError] = []
    batches: list[Batch] = []
    of_classes = () if task == "regression" else reading.target
    for numbered in table.read():
        if not is_stored:
            _find_files(table, numbered, reading, paths, problems)
        batch = _with_class_names(table, numbered, of_classes)
        refuse_missing_targets(table, batch, surveys, task, numbered, has_settings=known is None)
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
    columns, _ = decide_columns(table, surveys, of_classes)
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
    paths: list[ImageFile] = []
    for batch in () if reading.image_column in table.images else table.read():
        _find_files(table, batch, reading, paths, [])
        if paths:
            _require_files(table, reading.image_column, paths)
            return


def _copied_images(table: Table, column: str) -> list[ImageFile]:
    """Copy the images of a column to a temporary file, one row group after the other.

    Those that are not in the table are the files that it names, relative to its folder.
    """
    store = ImageStore()

    def files() -> Iterator[ImageFile]:
        for row, content in enumerate(table.images[column]()):
            path, number = table.file_of(row)
            if isinstance(content, bytes):
                yield store.add(f"{path}:{number}", content)
            elif content:
                yield find_image(Path(path), table.place(row), column, content)
            else:
                reason = (
                    f"Each row must hold an image. Received: none in {column!r} of "
                    f"{table.place(row)}."
                )
                yield MissingImage(f"{path}:{number}", reason)
            tell_progress(row + 1, 0, "copying images")

    return list(files())


def _with_class_names(table: Table, batch: Batch, targets: Sequence[str]) -> Batch:
    """Return a batch with the names of classes for their numbers; -1 is a missing one.

    Raises:
        DataError: a number has no name, though the table names the classes.
    """
    cells = dict(batch.cells)
    for column in filter(table.class_names.__contains__, targets):
        names = table.class_names[column]
        known = {NO_CLASS: "", **{str(number): name for number, name in enumerate(names)}}
        for row, cell in zip(batch.numbers, batch.cells[column], strict=True):
            if cell not in known and cell not in names and parse_number(cell) is not None:
                raise DataError(
                    f"A class must be one of those that the file names, 0 to {len(names) - 1}. "
                    f"Received: {column}={cell} in {table.place(row)}. Correct or remove it."
                )
        cells[column] = [known.get(cell, cell) for cell in batch.cells[column]]
    return batch._replace(cells=cells)


def _require_files(table: Table, column: str, paths: Sequence[ImageFile]) -> None:
    named = [path for path in paths if isinstance(path, Path)]
    if named and not any(map(os.path.exists, named)):
        raise DataError(
            f"The column {column!r} of {table.source} must hold paths of images, relative to its "
            f"folder. Received: no path that exists, such as {named[0]}."
        )


def _find_files(
    table: Table,
    batch: Batch,
    reading: ReadingConfig,
    paths: list[ImageFile],
    problems: list[DataError],
) -> None:
    """Add the paths of a batch to `paths`, and what is wrong with others to `problems`.

    Where images that cannot be read are skipped, one without a path is one of these.
    """
    column = reading.image_column
    for number, cell in zip(batch.numbers, batch.cells[column], strict=True):
        path, own = table.file_of(number)
        try:
            paths.append(find_image(Path(path), table.place(number), column, cell))
        except DataError as error:
            if not cell and reading.unreadable == "skip":
                paths.append(MissingImage(f"{path}:{own}", str(error)))
            else:
                problems.append(error)
