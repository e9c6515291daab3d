"""Decides from all cells of a table how each of its columns is read, never cell by cell."""

import re
from collections.abc import Collection, Sequence

from serving.columns import TRUTH_WORDS
from serving.date_text import FORMS, PARTS
from serving.errors import counted
from serving.number_text import ALL_FORMATS, FORMATS, UNITS
from serving.row_format import RawColumn
from serving.unit_text import parse_amount

from .column_survey import ColumnSurvey
from .tables import Table

Formats = frozenset[tuple[str, str]]
_PLAIN = FORMATS[0]
# A single number with decimals, and a few signs before or behind it.
_UNREAD = re.compile(r"[^\d.,]{0,8}\d+[.,]\d+(?:[^\d.,][^.,]{0,11})?", re.ASCII)
# Texts of a column that are compared with it.
_LOOKED_AT = 1000
# A letter directly behind a whole number, which may be a part of a name as well as a unit.
_HOUSE_NUMBER = re.compile(r"[0-9]+[^\W\d_]")


def decide_columns(
    table: Table, surveys: Sequence[ColumnSurvey], categorical: Collection[str]
) -> tuple[dict[str, RawColumn], list[str]]:
    """Return how each column is read, by name, and notes on what is not certain.

    - A column of truth values in any spelling is `boolean`, unless all are the numbers 0 and 1.
    - A column of numbers is `number`, in a format that all of them fit. Where the comma and the
      point may both be the decimal sign, columns that leave no doubt decide; without such, a point
      is decimal, and a comma is decimal only if semicolons separate the cells. All of them may have
      the same unit behind them.
    - A column of dates is `date`. Where day and month may be either way round, columns that leave
      no doubt decide; without such, the month comes first.
    - Any other column is `text`.

    Args:
        table: the table.
        surveys: what is known about its columns.
        categorical: names of the columns that are texts.
    """
    kinds = {s.name: "text" if s.name in categorical else kind_of(s) for s in surveys}
    numbers = [s.number_formats for s in surveys if kinds[s.name] == "number"]
    decimals = {
        sign for formats in numbers if len(_decimals(formats)) == 1 for sign in _decimals(formats)
    }
    dates = [s.date_ranges for s in surveys if kinds[s.name] == "date"]
    orders = {form for ranges in dates if len(ranges) == 1 for form in ranges}
    columns, notes = {}, []
    for survey in surveys:
        kind, note = kinds[survey.name], ""
        column = RawColumn(survey.name, kind, has_plain_texts=kind == "text")
        if column.kind == "number":
            column, note = _number(survey, decimals, table.separator)
        elif column.kind == "date":
            column, note = _date(survey, orders)
        elif column.kind == "text" and survey.name not in categorical:
            note = _describe_mixture(table, survey)
        columns[survey.name] = column
        notes += [note] if note else []
    return columns, notes


def kind_of(survey: ColumnSurvey) -> str:
    """Return the kind of a column: one of `serving.columns.KINDS`."""
    if survey.truths and any(set(pair) <= survey.truths for pair in TRUTH_WORDS[:-1]):
        return "boolean"
    if survey.numbers and not survey.words and survey.formats:
        return "number"
    if survey.words and survey.date_ranges:
        return "date"
    return "number" if survey.unit else "text"


def is_ambiguous(survey: ColumnSurvey) -> bool:
    """Return whether both signs may be the decimal one in a column of numbers, not all plain."""
    formats = survey.number_formats
    return len(_decimals(formats)) > 1 and formats != ALL_FORMATS


def _decimals(formats: Formats) -> set[str]:
    return {decimal for decimal, _ in formats}


def _number(
    survey: ColumnSurvey, certain: Collection[str], separator: str
) -> tuple[RawColumn, str]:
    """Return how a column of numbers is read, given the decimal signs of the certain columns."""
    possible = survey.number_formats
    formats = [form for form in FORMATS if form in possible]
    sign, is_guess = formats[0][0], False
    if is_ambiguous(survey):
        if len(certain) == 1:
            (sign,) = certain
        elif _PLAIN not in formats:  # such as 1,234 in every row
            sign, is_guess = "," if separator == ";" else ".", True
        else:  # such as 1.234 in every row, or with 987 among them
            is_guess = separator == ";" or any(map(str.isdecimal, survey.texts.counts))
    form = next(form for form in formats if form[0] == sign)
    column = RawColumn(survey.name, "number", *form, unit=survey.unit)
    note = _describe_guess(survey, column) if is_guess else ""
    return column, note or _describe_units(survey)


def _describe_guess(survey: ColumnSurvey, column: RawColumn) -> str:
    """Return a note that names a number of which the formats that fit all make different ones."""
    for text in survey.texts.counts:
        readings = {parse_amount(text, *form, column.unit) for form in survey.number_formats}
        if len(readings) > 1:
            number = parse_amount(text, column.decimal, column.thousands, column.unit)
            return f"{survey.name} may be read in two ways; {text} is taken for {number:.15g}."
    return ""


def _describe_units(survey: ColumnSurvey) -> str:
    """Return a note if numbers may differ in units, such as 5% and 7, $5 and €7, MW and mW."""
    found: dict[str, str] = {}
    for text in survey.texts.counts:
        if any(map(str.isdigit, text)):
            found.setdefault(next((sign for sign in UNITS if sign in text), ""), text)
    if "%" in found and len(found) > 1:
        other = next(text for unit, text in found.items() if unit != "%")
        return f"{survey.name} has percentages such as {found['%']} among numbers such as {other}."
    found.pop("", None)
    if len(found) > 1:
        first, second, *_ = found.values()
        return f"{survey.name} has amounts of different currencies, such as {first} and {second}."
    spellings = sorted(survey.amounts.spellings[survey.unit.casefold()]) if survey.unit else []
    if len(spellings) > 1:
        return f"{survey.name}: {spellings[0]} and {spellings[1]} are read as the same unit."
    return ""


def _date(survey: ColumnSurvey, certain: Collection[str]) -> tuple[RawColumn, str]:
    """Return how a column of dates is read, given the forms of the columns that are certain."""
    forms = [form for form in FORMS if form in survey.date_ranges]
    form = next((form for form in forms if form in certain), forms[0])
    least, largest = survey.date_ranges[form]
    found = list(zip(PARTS, least, largest, strict=True))
    parts = tuple(part for part, low, high in found if low < high)
    if not parts:  # a single date, which may be missing
        parts = tuple(part for part, low, high in found if low == high)[:1]
    note = ""
    if len(forms) > 1 and form not in certain:
        text = survey.word_places[0][1]
        note = (
            f"{survey.name} may be read in two ways; {text} is taken for a date of the form {form}."
        )
    return RawColumn(survey.name, "date", form=form, parts=parts), note


def _describe_mixture(table: Table, survey: ColumnSurvey) -> str:
    """Return a note if a column of texts has numbers or dates among them, or an empty text."""
    if survey.dates > survey.undated:
        return _describe_dates(table, survey)
    if survey.amounts.count > survey.amounts.others + survey.numbers:
        return _describe_amounts(table, survey)
    if not survey.numbers:
        return _describe_unread(survey)
    number = survey.number_places[0][1]
    if not survey.words:  # numbers of formats that exclude each other
        return _describe_ways(survey, "categories", "numbers", number)
    others = _count_others(table, survey.words, "text", survey.word_places[0])
    return _describe_other(survey, "categories", f"numbers such as {number}", others)


def _describe_unread(survey: ColumnSurvey) -> str:
    """Return a note if most texts are a number with something beside it that is no unit."""
    texts = survey.texts.counts.most_common(_LOOKED_AT)
    unread = [(text, count) for text, count in texts if _UNREAD.fullmatch(text)]
    if 2 * sum(count for _, count in unread) <= sum(count for _, count in texts):
        return ""
    return f"{survey.name}: cells such as {unread[0][0]!r:.40} are not read as numbers."


def _describe_amounts(table: Table, survey: ColumnSurvey) -> str:
    """Return a note on a column most of whose cells are numbers with a unit, or an empty text."""
    amounts = survey.amounts
    example, *others = amounts.examples.values()
    if survey.different_units:
        first, second, *_ = found = survey.different_units
        are_letters = all(_HOUSE_NUMBER.fullmatch(text) for text in found)
        what = "letters behind them" if are_letters else "different units"
        return (
            f"{survey.name} is read as categories: its numbers have {what}, such as {first} and "
            f"{second}."
        )
    if others:  # names with a number, such as 12a
        return ""
    if not amounts.others:
        return _describe_ways(survey, "categories", "numbers", example)
    texts = _count_others(table, amounts.others, "other text", survey.unnumbered_places[0])
    return _describe_other(survey, "categories", f"numbers such as {example}", texts)


def _describe_dates(table: Table, survey: ColumnSurvey) -> str:
    date, others = survey.date_places[0][1], survey.undated + survey.numbers
    if not others:
        return _describe_ways(survey, "texts", "dates", date)
    place = [*survey.undated_places, *survey.number_places][0]
    texts = _count_others(table, others, "other text", place)
    return _describe_other(survey, "texts", f"dates such as {date}", texts)


def _describe_ways(survey: ColumnSurvey, kind: str, what: str, example: str) -> str:
    """Return a note on a column whose numbers or dates have formats that exclude each other."""
    return (
        f"{survey.name} is read as {kind}: its {what} are written in different ways, such as "
        f"{example}."
    )


def _describe_other(survey: ColumnSurvey, kind: str, most: str, others: str) -> str:
    """Return a note on a column that has other texts among its numbers or dates."""
    return f"{survey.name} is read as {kind}: it has {most}, and {others}."


def _count_others(table: Table, count: int, noun: str, place: tuple[int, str]) -> str:
    row, word = place
    return f"{counted(count, noun)} such as {word!r:.40} in {table.place(row)}"
