"""Reads the columns to predict, strictly: what is not certain is an error that names the rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from serving.columns import read_column
from serving.errors import first_few
from serving.missing_marks import MISSING
from serving.number_text import ALL_FORMATS, have_decimals, parse_number, read_numbers
from serving.row_format import RawColumn
from serving.unit_text import required_unit, strip_unit

from .column_formats import decide_columns, is_ambiguous, kind_of
from .column_survey import ColumnSurvey, missing_marks
from .datasets import MAX_CLASSES
from .tables import Batch, Table

_VALUES = (
    " To predict numbers: --set head=linear, which the family features and models of your own have."
)
# The number that data sets of Hugging Face have in place of a class that is not known.
NO_CLASS = "-1"
# What marks a missing value elsewhere, but names a class more often: no damage, no defect.
_CLASS = "none"


def task_of_targets(reading: ReadingConfig, task: str) -> str:
    """Return the task for the target columns: a single label is read as two classes.

    Raises:
        DataError: several columns are classes.
    """
    if task == "multilabel" and len(reading.target) == 1:
        return "multiclass"
    if task == "multiclass" and len(reading.target) > 1:
        raise DataError(
            "Several columns to predict need head=sigmoid or head=linear. "
            f"Received: target={','.join(reading.target)}."
        )
    return task


def has_decimals(table: Table, names: Sequence[str]) -> bool:
    """Return whether targets are numbers, some of them not whole, in the first rows of a table."""
    return have_decimals(_first_cells(table, names))


def has_many_numbers(table: Table, names: Sequence[str]) -> bool:
    """Return whether targets are numbers other than 0 and 1, in the first rows of a table."""
    numbers = read_numbers(_first_cells(table, names))
    return numbers is not None and not set(numbers) <= {0, 1}


def _first_cells(table: Table, names: Sequence[str]) -> list[str]:
    batch = next(iter(table.read()), None)
    columns = [batch.cells[name] for name in names if name in batch.cells] if batch else []
    return [text for column in columns for text in strip_unit(filter(None, column))]


def refuse_missing_targets(
    table: Table,
    batch: Batch,
    surveys: Sequence[ColumnSurvey],
    task: str,
    written: Batch | None = None,
    has_settings: bool = True,
) -> None:
    """Require a target in each row of a batch.

    Args:
        table: the table.
        batch: some rows, an empty text for each missing class.
        surveys: what is known about the target columns.
        task: `multiclass`, `multilabel` or `regression`.
        written: the same rows as the table has them, for the error; None if `batch` is.
        has_settings: whether settings decide what is missing, as in training.

    Raises:
        DataError: a target is missing; the message names the first row.
    """
    for survey in surveys:
        for row, cell in enumerate(batch.cells[survey.name]):
            if cell.lower() in survey.marks:
                number = batch.numbers[row]
                own = cell if written is None else written.cells[survey.name][row]
                may_be_class = cell and task == "multiclass" and has_settings
                fix = " If it is a class: --set 'missing=?'." if may_be_class else ""
                raise DataError(
                    "Each sample must have a target. Received: "
                    f"{_describe_missing(table, survey.name, own)}, in {table.place(number)}."
                    f"{fix or _advise_on_file(table, survey, number)}"
                )


def _describe_missing(table: Table, name: str, cell: str) -> str:
    if name in table.class_names and cell == NO_CLASS:
        return f"{name}={cell}, which stands for no class"
    # The cells of parquet are texts here, in which null and NaN look alike.
    is_null = table.unit == "row" and not cell
    return f"{f'{name} is null or NaN' if is_null else f'{name}={cell!r}'}, a missing value"


def _advise_on_file(table: Table, survey: ColumnSurvey, number: int) -> str:
    """Return what to do if a file of a folder has no targets at all; empty if it has some.

    The files for testing of many public data sets have none.
    """
    if not table.starts:
        return ""
    path, _ = table.file_of(number)
    no_class = {NO_CLASS} if survey.name in table.class_names else set()
    has_targets = any(
        cell.lower() not in survey.marks | no_class
        for batch in table.read()
        if batch.numbers and table.file_of(batch.numbers[0])[0] == path
        for cell in batch.cells[survey.name]
    )
    if has_targets:
        return ""
    effect = ""
    if table.sizes and number >= table.sizes[0]:
        split = "validation" if number < sum(table.sizes[:2]) else "test"
        effect = f", so that {split} images are split off from the others"
    return f" No row of {Path(path).name} has one: take the file away{effect}."


def survey_target(name: str, reading: ReadingConfig, task: str) -> ColumnSurvey:
    """Return an empty survey of a target column, in which every text counts as a word.

    A class may be called `none`, unless the setting `missing` says that it stands for none.
    """
    may_be_class = task == "multiclass" and reading.missing == MISSING
    marks = missing_marks(reading) - ({_CLASS} if may_be_class else set())
    return ColumnSurvey(name, marks, frozenset())


def check_targets(
    table: Table, surveys: Sequence[ColumnSurvey], task: str, reading: ReadingConfig
) -> None:
    """Require targets of one kind.

    Raises:
        DataError: numbers and texts are mixed, a value is no number, or there are too few or too
            many classes. The message names the rows.
    """
    for survey in surveys:
        is_named = task == "multiclass" and survey.name in reading.categorical
        has_units = task == "regression" and (survey.unit or survey.different_units)
        is_mixed = survey.numbers and survey.words and not has_units
        if task != "multilabel" and is_mixed and not is_named:
            raise _mixed_target(table, survey, task)
        if task == "multiclass":
            _check_classes(table, survey, reading)
        if task == "regression" and kind_of(survey) != "number":
            raise _no_number(table, survey)


def _no_number(table: Table, survey: ColumnSurvey) -> DataError:
    if survey.different_units:
        first, second, *_ = survey.different_units
        return DataError(
            "The target must be a number, in the same unit in each row. "
            f"Received: {survey.name}={first!r} and {second!r} in {table.source}."
        )
    are_amounts = survey.amounts.count > survey.amounts.others > 0
    words = survey.unnumbered_places if are_amounts else survey.word_places
    number, cell = (words or survey.number_places)[0]
    fix = " A number may have only a unit behind it, such as 60.7 kg."
    return DataError(
        "The target must be a number, written in the same way in each row. "
        f"Received: {survey.name}={cell!r} in {table.place(number)}."
        f"{fix if any(map(str.isdigit, cell)) and not survey.amounts.count else ''}"
    )


def _mixed_target(table: Table, survey: ColumnSurvey, task: str) -> DataError:
    is_text_rarer = survey.words <= survey.numbers
    count, places = (
        (survey.words, survey.word_places)
        if is_text_rarer
        else (survey.numbers, survey.number_places)
    )
    cells = ", ".join(f"{cell!r:.40} in {table.unit} {number}" for number, cell in places)
    more = f" and {count - len(places):,} more" if count > len(places) else ""
    others = "numbers" if is_text_rarer else "texts"
    fix = f" If all are classes: --categorical {survey.name}." if task == "multiclass" else ""
    if task == "regression" and survey.amounts.unit:
        fix = " Write the unit in each row, or in none."
    return DataError(
        f"The target {survey.name!r} must be numbers or texts. "
        f"Received: {cells}{more}, among {others}, in {table.source}.{fix}"
    )


def _check_classes(table: Table, survey: ColumnSurvey, reading: ReadingConfig) -> None:
    texts = survey.texts
    if len(set(find_labels(texts.counts, survey.name in reading.categorical).values())) < 2:
        raise DataError(
            f"{survey.name!r} of {table.source} must have two or more classes. "
            f"Received: only {', '.join(texts.counts)}."
        )
    if len(texts.counts) > MAX_CLASSES:
        fix = _VALUES if survey.unit or not survey.words else ""
        raise DataError(
            f"A column of classes must have at most {MAX_CLASSES:,} different values. Received: "
            f"more in {survey.name!r} of {table.source}.{fix}"
        )


def find_labels(texts: Iterable[str], are_names: bool) -> dict[str, str]:
    """Return the class of each text: equal numbers, such as 1 and 1.0, are one class.

    Args:
        texts: the different texts of a target.
        are_names: whether numbers are names too, which differ if their texts differ.
    """
    numbers = {text: parse_number(text) for text in texts}
    if are_names or None in numbers.values():
        return {text: text for text in numbers}
    shortest: dict[float | None, str] = {}
    for text in sorted(numbers, key=lambda text: (len(text), text)):
        shortest.setdefault(numbers[text], text)
    return {text: shortest[number] for text, number in numbers.items()}


class TargetReader:
    """Reads the targets of batches.

    Attributes:
        labels: name of each class, label or value.
        task: `multiclass`, `multilabel` or `regression`.
        notes: what is not certain about how classes are read.
        units: the unit of values whose cells have one, by label.
        decimals: the decimal sign of values that are not all plain whole numbers, by label.
    """

    def __init__(
        self,
        table: Table,
        surveys: Sequence[ColumnSurvey],
        columns: Sequence[RawColumn],
        task: str,
        categorical: Sequence[str] = (),
    ) -> None:
        """Make a reader.

        Args:
            table: the table.
            surveys: what is known about the target columns, in the order of the setting.
            columns: how they are read if they are numbers.
            task: `multiclass`, `multilabel` or `regression`.
            categorical: names of the columns whose numbers are names.
        """
        self.task = task
        self.notes: list[str] = []
        self._table, self._columns = table, columns
        self._marks = [survey.marks for survey in surveys]
        self.labels = tuple(column.name for column in columns)
        is_numeric = task == "regression"
        self.units = {each.name: each.unit for each in columns if is_numeric and each.unit}
        self.decimals = {
            column.name: column.decimal
            for survey, column in zip(surveys, columns, strict=True)
            if is_numeric and survey.number_formats != ALL_FORMATS
        }
        self._classes: dict[str, int] = {}
        if task == "multiclass":
            (survey,) = surveys
            labels = find_labels(survey.texts.counts, survey.name in categorical)
            numbers = {label: parse_number(label) for label in labels.values()}
            are_texts = None in numbers.values()
            self.labels = tuple(sorted(numbers, key=lambda k: (are_texts or numbers[k], k)))
            self._classes = {text: self.labels.index(label) for text, label in labels.items()}
            self.notes = [
                f"{survey.name}: {text} and {label} are one class, {label}; for two: --categorical "
                f"{survey.name}."
                for text, label in labels.items()
                if text != label
            ][:1]
            self.notes += _describe_case(survey.name, self.labels)

    def read(self, batch: Batch) -> np.ndarray:
        """Return the targets of a batch, as in `app.data.datasets.Dataset`.

        Raises:
            DataError: a number is too large, or a label is neither true nor false.
        """
        if self.task == "multiclass":
            cells = batch.cells[self._columns[0].name]
            return np.array([self._classes[cell] for cell in cells], np.int64)
        kind = "number" if self.task == "regression" else "boolean"
        found = []
        for column, marks in zip(self._columns, self._marks, strict=True):
            cells = batch.cells[column.name]
            values, wrong = read_column(replace(column, kind=kind), cells, marks)
            for row in wrong[:1]:
                wanted = "a number from -1e18 to 1e18" if kind == "number" else "0 or 1"
                raise DataError(
                    f"The target must be {wanted}. Received: {column.name}={cells[row]!r} in "
                    f"{self._table.place(batch.numbers[row])}."
                )
            found.append(values[:, 0])
        return np.stack(found, axis=1).astype(np.float32)


def _describe_case(name: str, labels: Sequence[str]) -> list[str]:
    """Return a note if classes differ in upper and lower case only."""
    first: dict[str, str] = {}
    for label in labels:
        if (other := first.setdefault(label.casefold(), label)) != label:
            return [f"{name}: {other} and {label} are two classes, which differ in case only."]
    return []


def names_of_targets(reading: ReadingConfig, task: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of the targets of a model, in the order of its labels.

    Columns with the names of labels stand for these, whatever their order; others are in order.

    Raises:
        DataError: their number is not that of the labels, or only some are names of labels, and
            stand at the place of another.
    """
    names = reading.target
    if task == "multiclass":
        if len(names) != 1:
            raise DataError(f"A model of classes has one target. Received: {', '.join(names)}.")
        return names
    if len(names) != len(labels):
        raise DataError(
            f"There must be a target for each of {', '.join(labels)}. Received: {', '.join(names)}."
        )
    if set(names) == set(labels):
        return tuple(labels)
    if any(name in labels for name, label in zip(names, labels, strict=True) if name != label):
        raise DataError(
            f"Targets must be in the order of the labels, {', '.join(labels)}. "
            f"Received: {', '.join(names)}."
        )
    return names


def check_target_units(
    source: str,
    names: Sequence[str],
    units: Mapping[str, str],
    labels: Sequence[str],
    learned: Mapping[str, str],
) -> None:
    """Require values in the units that a model has learned, in upper or lower case, or plain ones.

    Args:
        source: the data, for the error.
        names: names of the targets, in the order of `labels`.
        units: the unit of those that have one, by name.
        labels: labels of the model.
        learned: the unit of those that have one, by label.

    Raises:
        DataError: a value has another unit. The message names both.
    """
    for name, label in zip(names, labels, strict=False):
        unit = units.get(name, "")
        if rule := required_unit(unit, learned.get(label, "")):
            raise DataError(
                f"The target must be {rule}, as the model has learned {label}. "
                f"Received: {name} in {unit} in {source}."
            )


def read_targets(
    table: Table,
    reading: ReadingConfig,
    task: str,
    labels: Sequence[str],
    learned: Mapping[str, str] = MappingProxyType({}),
) -> tuple[np.ndarray, dict[str, str], list[str]]:
    """Read the targets of a table for a model that exists, whose labels the data need not all have.

    Args:
        table: the table.
        reading: the columns of the targets: one of classes, or one for each label or value.
        task: `multiclass`, `multilabel` or `regression`.
        labels: labels of the model.
        learned: the unit of values that have one, by label.

    Returns:
        Targets as in `app.data.datasets.Dataset`, in the order of the labels, its
        `target_decimals`, and what `note_places` returns.

    Raises:
        DataError: a target is missing, of the wrong kind or in another unit, or is no label of the
            model.
    """
    names = names_of_targets(reading, task, labels)
    surveys = [survey_target(name, reading, task) for name in names]
    for survey in surveys:
        survey.marks -= {label.lower() for label in labels}
    batches = []
    for batch in table.read():
        refuse_missing_targets(table, batch, surveys, task, has_settings=False)
        batches.append(Batch(batch.numbers, {name: batch.cells[name] for name in names}))
        for survey in surveys if task == "regression" else ():
            survey.learn(batch.numbers, batch.cells[survey.name])
    if not batches:
        raise DataError(f"{table.source} must have rows. Received: none.")
    if task == "multiclass":
        classes = [_read_classes(table, batch, names[0], labels) for batch in batches]
        texts = dict.fromkeys(cell for batch in batches for cell in batch.cells[names[0]])
        notes = note_places(f"The target {names[0]} of {table.source}", list(texts), labels)
        return np.concatenate(classes), {}, notes
    check_targets(table, surveys, task, reading)
    columns = [RawColumn(name, "boolean") for name in names]
    if task == "regression":
        others = _survey_others(table, reading, names) if any(map(is_ambiguous, surveys)) else []
        found, _ = decide_columns(table, [*surveys, *others], reading.categorical)
        columns = [found[name] for name in names]
    reader = TargetReader(table, surveys, columns, task)
    check_target_units(table.source, names, reader.units, labels, learned)
    return np.concatenate([reader.read(batch) for batch in batches]), reader.decimals, []


def _survey_others(
    table: Table, reading: ReadingConfig, names: Sequence[str]
) -> list[ColumnSurvey]:
    """Return what is known about the columns besides targets, which decide how these are read."""
    unused = {*names, *reading.drop, *table.without_cells}
    marks = missing_marks(reading)
    surveys = [ColumnSurvey(name, marks) for name in table.names if name not in unused]
    for batch in table.read():
        for survey in surveys:
            survey.learn(batch.numbers, batch.cells[survey.name])
    return surveys


def _read_classes(table: Table, batch: Batch, name: str, labels: Sequence[str]) -> np.ndarray:
    cells = batch.cells[name]
    texts = list(dict.fromkeys(cells))
    known = dict(zip(texts, places_of(texts, labels), strict=True))
    classes = np.array([known[cell] for cell in cells], np.int64)
    for row in np.flatnonzero(classes < 0)[:1].tolist():
        raise DataError(unknown_label(cells[row], labels, table.place(batch.numbers[row])))
    return classes


def places_of(names: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Return the index of each name among labels; -1 for one that is not there.

    Equal numbers, such as 1 and 1.0, are one label. Whole numbers are indices of labels that are no
    numbers.
    """
    known = {label: place for place, label in enumerate(labels)}
    numbers = {parse_number(label): place for place, label in enumerate(labels)}
    if None in numbers:
        numbers = {float(place): place for place in range(len(labels))}
    return [known.get(name, numbers.get(parse_number(name), -1)) for name in names]


def note_places(target: str, names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return a note if targets are numbers that stand for the places of labels, see `places_of`.

    Another order of the classes would have other numbers, and nothing else would tell.

    Args:
        target: what has them, such as `The target kind of flowers.csv`.
        names: the different targets, each of which has a place.
        labels: labels of the model.
    """
    places = dict(zip(names, places_of(names, labels), strict=True))
    numbered = sorted({*names} - {*labels}, key=places.__getitem__)
    if not numbered or all(parse_number(label) is not None for label in labels):
        return []
    read = first_few([f"{number} is {labels[places[number]]}" for number in numbered])
    return [f"{target} has numbers; they are read as places of the classes: {read}."]


def unknown_label(name: str, labels: Sequence[str], source: str) -> str:
    """Return the message for a target that is not among a model's labels."""
    shown = ", ".join(map(repr, labels[:10])) + (", …" if len(labels) > 10 else "")
    return f"Each target must be a class of the model, {shown}. Received: {name!r} of {source}."
