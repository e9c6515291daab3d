"""Lists the images of a CSV file that has a column of paths and columns of targets."""

import os
from pathlib import Path

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from serving.errors import describe_all

from .csv_files import (
    Column,
    check_columns,
    csv_header,
    csv_rows,
    learn_cell,
    target_labels,
    target_values,
    task_of_targets,
)
from .image_lists import ImageList


def list_image_table(path: Path, reading: ReadingConfig, task: str) -> ImageList:
    """List the images that the column `reading.image_column` of a CSV file names.

    Paths are relative to the folder of the CSV file. Columns besides the paths and the targets are
    ignored.

    Args:
        path: path of the CSV file.
        reading: the column of paths and the columns to predict.
        task: task of the model's head, see `app.data.csv_files.read_csv`.

    Raises:
        DataError: a column is missing, paths are wrong, or a target is missing or of the wrong
            kind. The message names the line; of several wrong paths, the first ones.
    """
    header = csv_header(path)
    check_columns(path, header, reading)
    task = task_of_targets(reading, task)
    place = header.index(reading.image_column)
    places = [header.index(name) for name in reading.target]
    is_text = True if task == "multiclass" else None
    columns = [Column(name, is_text) for name in reading.target]
    paths, rows = [], []
    problems: list[DataError] = []
    for line, cells in csv_rows(path, len(header)):
        targets = [cells[target] for target in places]
        for column, cell in zip(columns, targets, strict=True):
            learn_cell(path, line, column, cell, is_target=True)
        try:
            paths.append(_find_file(path, line, reading.image_column, cells[place]))
        except DataError as error:
            problems.append(error)
        rows.append((line, targets))
    if problems:
        raise DataError(describe_all(problems))
    if not rows:
        raise DataError(f"{path} must have lines below its header. Received: none.")
    if not any(map(os.path.exists, paths)):
        raise DataError(
            f"The column {reading.image_column!r} of {path} must hold paths of images, relative to "
            f"{path.parent}. Received: no path that exists, such as {paths[0]}."
        )
    labels = target_labels(path, columns, task)
    return ImageList(
        source=str(path),
        paths=paths,
        targets=target_values(path, rows, range(len(places)), columns, labels, task),
        labels=labels,
        task=task,
        sizes=(len(paths), 0, 0),
    )


def _find_file(table: Path, line: int, column: str, cell: str) -> Path:
    if not cell:
        raise DataError(
            f"Each line must name an image. Received: an empty {column!r} in line {line} of "
            f"{table}."
        )
    if "\0" in cell:  # which no system call takes
        raise DataError(f"A path must be text. Received: {cell!r} in line {line} of {table}.")
    path = table.parent / cell
    other = table.parent / cell.replace("\\", "/")
    if path != other and not path.exists() and other.exists():
        raise DataError(
            f"Paths must be separated by /. Received: {cell} in line {line} of {table}."
        )
    return path
