"""Reads a table into a data set: numbers, texts and targets.

The table is read twice: first to find out what each column holds, then to write it to disk as
numbers. Only the targets and a few thousand rows are in memory.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from serving.columns import plain_text, read_column
from serving.row_format import RawColumn, RowFormat

from .arrays import DiskArray
from .column_formats import decide_columns
from .column_survey import ColumnSurvey, TextCounts, missing_marks
from .datasets import REST, Dataset, LeftOut
from .left_out import why_identifier, why_too_good, why_useless
from .reading_progress import tell, tell_progress
from .tables import Batch, Table, check_columns
from .targets import (
    TargetReader,
    check_targets,
    refuse_missing_targets,
    survey_target,
    task_of_targets,
)

# Texts of a column that are categories of their own.
MAX_TEXTS = 1000
# Rows that are kept to compare columns with the target: every n-th, so that there are at most as
# many.
_SAMPLED = 8192


def read_table(table: Table, reading: ReadingConfig, task: str) -> Dataset:
    """Read a table.

    How a column is read follows from all of its cells, see `app.data.column_formats`; which columns
    are left out, see `app.data.left_out`. Columns of more than a thousand texts keep the most
    frequent; the others are unknown to the model, as new texts are.

    Args:
        table: the table.
        reading: the columns to predict, and how to treat others.
        task: `multiclass`, `multilabel` or `regression`. For `multilabel`, a single target column
            is read as two classes.

    Raises:
        DataError: a column that is named does not exist, a row has too many or too few cells, a
            target is missing or of the wrong kind, or no column is left. The message names the row.
    """
    check_columns(table, reading)
    task = task_of_targets(reading, task)
    survey = _survey_table(table, reading, task)
    check_targets(table, survey.targets, task, reading)
    are_texts = {*reading.categorical, *([] if task == "regression" else reading.target)}
    columns, notes = decide_columns(table, [*survey.features, *survey.targets], are_texts)
    targets = TargetReader(
        table,
        survey.targets,
        [columns[name] for name in reading.target],
        task,
        reading.categorical,
    )
    notes += targets.notes
    left_out = _find_left_out(table, survey, columns, targets, reading)
    out = {each.column for each in left_out}
    kept = [columns[each.name] for each in survey.features if each.name not in out]
    _check_derived_names(table, kept)
    texts = {each.name: each.texts for each in survey.features}
    words = [_words(texts[column.name]) for column in kept if column.kind == "text"]
    notes += [
        f"{column.name} has more than {MAX_TEXTS:,} texts; the most frequent are categories, and "
        "the model takes all others for one."
        for column in kept
        if column.kind == "text" and len(texts[column.name].counts) > MAX_TEXTS
    ]
    for line in [*notes, *map(str, left_out)]:
        tell(line)
    rows = RowFormat(tuple(kept), tuple(sorted(missing_marks(reading) - {""})))
    dataset = _encode(table, rows, targets, words)
    return replace(dataset, left_out=tuple(left_out), notes=tuple(notes))


@dataclass
class _Survey:
    """What the first reading finds out.

    Attributes:
        features: what is known about the columns to learn from, in the order of the table.
        targets: the same of the targets, in the order of the setting.
        sample: every n-th row.
        step: the n of the sample.
        rows: number of all rows.
    """

    features: list[ColumnSurvey]
    targets: list[ColumnSurvey]
    sample: Batch
    step: int = 1
    rows: int = 0

    def learn(self, batch: Batch) -> None:
        """Take note of some rows."""
        for survey in (*self.features, *self.targets):
            survey.learn(batch.numbers, batch.cells[survey.name])
        start = -self.rows % self.step
        self.sample.numbers.extend(batch.numbers[start :: self.step])
        for name, cells in self.sample.cells.items():
            cells.extend(batch.cells[name][start :: self.step])
        self.rows += len(batch.numbers)
        while len(self.sample.numbers) > _SAMPLED:
            self.step *= 2
            del self.sample.numbers[1::2]
            for cells in self.sample.cells.values():
                del cells[1::2]


def _survey_table(table: Table, reading: ReadingConfig, task: str) -> _Survey:
    unused = {*reading.target, *reading.drop}
    features = [
        ColumnSurvey(name, missing_marks(reading)) for name in table.names if name not in unused
    ]
    targets = [survey_target(name, reading, task) for name in reading.target]
    names = [each.name for each in (*features, *targets)]
    for name in names:
        images = (
            f", learn from its images with --image-column {name}," if name in table.images else ","
        )
        table.require_cells([name], f"{images} or leave it out with --drop")
    survey = _Survey(features, targets, Batch([], {name: [] for name in names}))
    for batch in _read_and_tell(table, "surveying rows"):
        refuse_missing_targets(table, batch, targets, task)
        survey.learn(batch)
    if not survey.rows:
        unit = "lines below its header" if table.unit == "line" else "rows"
        raise DataError(f"{table.source} must have {unit}. Received: none.")
    return survey


def _read_and_tell(table: Table, activity: str) -> Iterator[Batch]:
    """Yield the rows of a table, and tell how far the reading is, as the first rows predict."""
    done, total = 0, 0
    for batch in table.read():
        yield batch
        if not done:
            letters = sum(len(cell) + 1 for cells in batch.cells.values() for cell in cells)
            total = round(Path(table.source).stat().st_size / letters * len(batch.numbers))
        done += len(batch.numbers)
        tell_progress(done, max(total, done + 1), activity)
    tell_progress(done, done, activity)


def _find_left_out(
    table: Table,
    survey: _Survey,
    columns: Mapping[str, RawColumn],
    targets: TargetReader,
    reading: ReadingConfig,
) -> list[LeftOut]:
    """Return the columns to leave out. A column that is all that is left stays."""
    free = [each for each in survey.features if each.name not in reading.keep]
    useless = {each.name: why for each in free if (why := why_useless(each))}
    if len(useless) == len(survey.features):
        raise DataError(
            f"{table.source} must have a column besides the target whose values differ. "
            f"Received: {', '.join(f'{name} {why}' for name, why in useless.items())}."
        )
    truth = targets.read(survey.sample).reshape(len(survey.sample.numbers), -1)
    suspect = {
        each.name: why
        for each in free
        if each.name not in useless
        and (
            why := why_identifier(each, columns[each.name])
            or _why_too_good(survey.sample, columns[each.name], truth, targets.task, reading)
        )
    }
    if len(useless) + len(suspect) == len(survey.features):
        texts = [one for one in survey.features if columns[one.name].kind == "text"]
        if suspect.keys() <= {one.name for one in texts if why_identifier(one, columns[one.name])}:
            raise DataError(
                f"{table.source} must have a column besides the target to learn from. "
                f"Received: {', '.join(f'{name}, {why}' for name, why in suspect.items())}."
            )
        for name, why in suspect.items():
            tell(f"{name} would be left out, {why}, but no other column is left.")
        suspect = {}
    found = useless | suspect
    return [LeftOut(name, found[name]) for name in table.names if name in found]


def _why_too_good(
    sample: Batch, column: RawColumn, truth: np.ndarray, task: str, reading: ReadingConfig
) -> str:
    """Return why a column gives a target away; empty if it does not.

    Args:
        sample: some rows.
        column: how the column is read.
        truth: the targets of these rows, `(rows, targets)`.
        task: `multiclass`, `multilabel` or `regression`.
        reading: names of the targets, and the marks of missing values.
    """
    values, _ = read_column(column, sample.cells[column.name], missing_marks(reading))
    if column.kind == "date":  # only whether one is missing counts
        values = values[:, :1] * 0
    for number, name in enumerate(reading.target):
        why = why_too_good(values.reshape(len(values)), truth[:, number], task)
        if why:
            return f"gives {name} away: {why}"
    return ""


def _check_derived_names(table: Table, columns: Sequence[RawColumn]) -> None:
    """Raise `DataError` if a part of a date has the name of another column."""
    names = [name for column in columns for name in column.columns or (column.name,)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"A part of a date must not have the name of a column. Received: {name!r} twice in "
            f"{table.source}. Leave one out: --drop COLUMN."
        )


def _words(texts: TextCounts) -> tuple[str, ...]:
    """Return the categories of a column in order: a missing text, the frequent ones, the rest."""
    counts: Counter[str] = Counter()
    for text, count in texts.counts.items():
        counts[plain_text(text)] += count
    frequent = [text for text, _ in counts.most_common(MAX_TEXTS)]
    rest = [REST] if len(counts) > MAX_TEXTS else []
    return ("", *sorted(frequent), *rest)


def _encode(
    table: Table, rows: RowFormat, targets: TargetReader, words: Sequence[tuple[str, ...]]
) -> Dataset:
    """Read the table again, into numbers on disk."""
    numeric = [column for column in rows.columns if column.kind != "text"]
    textual = [column for column in rows.columns if column.kind == "text"]
    names = tuple(name for column in numeric for name in column.columns)
    codes_of = [{word: code for code, word in enumerate(known)} for known in words]
    numbers, codes = DiskArray((len(names),), np.float32), DiskArray((len(textual),), np.int32)
    truth: list[np.ndarray] = []
    ranges = np.full((2, len(names)), np.nan)
    for batch in _read_and_tell(table, "reading rows"):
        values = [_numbers(table, batch, column, rows.missing) for column in numeric]
        block = np.concatenate([np.empty((len(batch.numbers), 0)), *values], axis=1)
        ranges = np.stack(
            [np.fmin(ranges[0], np.fmin.reduce(block)), np.fmax(ranges[1], np.fmax.reduce(block))]
        )
        numbers.append(block)
        codes.append(_codes(batch, textual, codes_of, rows.missing))
        truth.append(targets.read(batch))
    _check_ranges(table, names, *ranges)
    return Dataset(
        source=table.source,
        inputs=numbers,
        targets=np.concatenate(truth),
        labels=targets.labels,
        task=targets.task,
        columns=names,
        codes=codes if textual else None,
        string_columns=tuple(column.name for column in textual),
        words=tuple(words),
        row_format=rows,
        target_units=targets.units,
        target_decimals=targets.decimals,
    )


def _numbers(table: Table, batch: Batch, column: RawColumn, missing: Collection[str]) -> np.ndarray:
    """Return the numbers of a column, float64 `(rows, columns)`."""
    cells = batch.cells[column.name]
    values, wrong = read_column(column, cells, missing)
    for row in wrong[:1]:  # all others were found to be readable before
        raise DataError(
            f"Numbers must be from -1e18 to 1e18. Received: {column.name}={cells[row]!r} in "
            f"{table.place(batch.numbers[row])}. If they are names: --categorical {column.name} or "
            f"--drop {column.name}."
        )
    return values


def _codes(
    batch: Batch,
    columns: Sequence[RawColumn],
    codes_of: Sequence[Mapping[str, int]],
    missing: Collection[str],
) -> np.ndarray:
    """Return the indices of texts among the words of their columns, int32 `(rows, columns)`."""
    codes = np.empty((len(batch.numbers), len(columns)), np.int32)
    for number, (column, known) in enumerate(zip(columns, codes_of, strict=True)):
        texts, _ = read_column(column, batch.cells[column.name], missing)
        rest = known.get(REST, 0)
        codes[:, number] = [known.get(text, rest) for text in texts]
    return codes


def _check_ranges(
    table: Table, names: Sequence[str], least: np.ndarray, largest: np.ndarray
) -> None:
    are_equal = least.astype(np.float32) == largest.astype(np.float32)
    for number in np.flatnonzero((least < largest) & are_equal)[:1]:
        raise DataError(
            f"Numbers must vary by more than the rounding of float32. Received: {names[number]}, "
            f"from {float(least[number])!r} to {float(largest[number])!r} in {table.source}. "
            "Subtract their mean."
        )
