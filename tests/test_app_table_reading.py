"""How tables are read: kinds and formats of columns, columns left out, and what is refused."""

import contextlib
import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.reading_config import ReadingConfig
from app.config.run_config import make_config
from app.data.column_formats import decide_columns
from app.data.column_survey import ColumnSurvey
from app.data.frames import data_on_disk
from app.data.reading_progress import observed_reading
from app.data.source_kinds import kind_of_source
from app.data.sources import load_dataset
from app.data.table_reading import read_table
from app.data.tables import Table, open_table
from app.data.targets import has_decimals, read_targets
from app.errors import DataError
from serving.columns import read_column

ROWS = 60
KINDS = "ab" * (ROWS // 2)


class Notes(list):
    """Keeps what the reading says."""

    def advance(self, done, total, activity):
        pass

    def begin(self, step):
        pass

    def note(self, line):
        self.append(line)


@pytest.fixture
def read(tmp_path):
    """Read a table that is given as text, bytes, columns or a path."""

    def call(table, target="kind", task="multiclass", **settings):
        path = tmp_path / "table.csv"
        if isinstance(table, dict):
            table = pd.DataFrame(table).to_csv(index=False)
        if isinstance(table, str | bytes):
            path.write_bytes(table.encode() if isinstance(table, str) else table)
        else:
            path = table
        reading = ReadingConfig(target=tuple(target.split(",")), **settings)
        with observed_reading(Notes()) as _:
            return read_table(open_table(path), reading, task)

    return call


def kinds(dataset):
    return {column.name: column.kind for column in dataset.row_format.columns}


def formats(dataset):
    columns = dataset.row_format.columns
    return {c.name: (c.decimal, c.thousands) for c in columns if c.kind == "number"}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_separator_is_found_and_quoted_cells_may_hold_it_and_line_breaks(separator, mark, read):
    rows = ["x,note,kind", '1,"a, b; c\t|\nd ""e""",a', '2,"f",b']
    header, first, second = (row.replace(",", separator) for row in rows)
    dataset = read(f"{mark}{header}\n{first}\r\n{second}\n")
    assert dataset.words[0][1:] == (f'a{separator} b; c\t|\nd "e"', "f")
    assert dataset.inputs[:].tolist() == [[1], [2]]


def test_numbers_written_as_text_are_numbers(read):
    dataset = read(
        'usd;eur;share;plain;kind\n$1,234.50;"1.234,5 €";5%;7;a\n; 2 €;7.5%;NA;b\n-;;unknown;8;a\n'
    )
    assert formats(dataset) == {
        "usd": (".", ","),
        "eur": (",", "."),
        "share": (".", ""),
        "plain": (".", ""),
    }
    expected = [[1234.5, 1234.5, 0.05, 7], [np.nan, 2, 0.075, np.nan], [np.nan] * 3 + [8]]
    np.testing.assert_array_equal(dataset.inputs[:], np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("table", "number", "is_noted"),
    [
        ('x,kind\n"1,234",a\n"2,345",b\n', 1234, True),
        ("x;kind\n1,234;a\n2,345;b\n", 1.234, True),
        ("x;y;kind\n1,234;1.5;a\n2,345;2;b\n", 1234, False),
        ('x,y,kind\n"1,234","1,5",a\n"2,345",2,b\n', 1.234, False),
        ("x;y;kind\n1.234;1,5;a\n2.345;2;b\n", 1234, False),
        ("x;kind\n1.234;a\n2.345;b\n", 1.234, True),
        ("x,kind\n1.234,a\n2.345,b\n", 1.234, False),
        ("x,kind\n1.234,a\n987,b\n", 1.234, True),
        ("x;kind\n1.234;a\n0.345;b\n", 1.234, False),
        ('x,kind\n"1,234",a\n"0,345",b\n', 1.234, False),
        ('x,kind\n"1,234",a\n"1,234.5",b\n', 1234, False),
        ('x,kind\n"1,234",a\n"1,2",b\n', 1.234, False),
    ],
)
def test_an_ambiguous_number_is_decided_by_the_column_then_by_the_file(
    table, number, is_noted, read
):
    dataset = read(table)
    assert dataset.inputs[:][0, 0] == pytest.approx(number)
    text = "1,234" if "1,234" in table else "1.234"
    notes = [f"x may be read in two ways; {text} is taken for {number:g}."] if is_noted else []
    assert list(dataset.notes) == notes


def test_an_evaluation_reads_the_format_of_targets_as_training_does(read, tmp_path):
    text = "x;y\n1,5;2.141\n2,5;3.999\n"
    assert read(text, "y", "regression").targets.tolist() == [[2141], [3999]]
    table = open_table(tmp_path / "table.csv")
    targets, signs, _ = read_targets(table, ReadingConfig(target=("y",)), "regression", ("y",))
    assert signs == {"y": ","}
    assert targets.tolist() == [[2141], [3999]]


def test_truth_values_in_every_spelling_are_one_column(read):
    dataset = read(
        "a,b,c,d,e,f,kind\ntrue,Y,t,1,on,no,a\nFALSE,n,F,0,off,No phone service,b\n"
        "yes,,T,1,on,yes,a\nno,n,f,0,off,yes,b\n"
    )
    names = ("number" if name == "d" else "boolean" for name in "abcde")
    assert kinds(dataset) == {**dict(zip("abcde", names, strict=True)), "f": "text"}
    first, second = dataset.inputs[:][:2].tolist()
    assert (first, second) == ([1, 1, 1, 1, 1], [0, 0, 0, 0, 0])


@pytest.mark.parametrize("words", [("t", "n"), ("f", "m"), ("yes", ""), ("yes", "maybe")])
def test_words_that_are_no_pair_are_categories(words, read):
    dataset = read("".join(["x,kind\n", *(f"{word},{kind}\n" for word, kind in zip(words, "ab"))]))  # noqa: B905
    assert kinds(dataset) == {"x": "text"}


def test_dates_become_the_parts_that_vary(read):
    dataset = read(
        "day,time,moment,kind\n24.12.2025,10:30,2024-01-05T10:00:00Z,a\n"
        "25.12.2025,,2025-01-05 10:00,b\nNA,12:00,,a\n"
    )
    forms = {column.name: column.form for column in dataset.row_format.columns}
    assert forms == {"day": "d.m.Y", "time": "H:M", "moment": "Y-m-d"}
    assert [name for name in dataset.columns if not name.endswith(("_sin", "_cos"))] == [
        "day.day",
        "day.weekday",
        "time.hour",
        "moment.year",
        "moment.weekday",
    ]
    rows = dict(zip(dataset.columns, dataset.inputs[:].T.tolist(), strict=True))
    assert rows["day.weekday"][:2] == [3, 4]
    assert rows["time.hour"][0] == 10.5
    assert np.isnan([rows["day.day"][2], rows["time.hour"][1], rows["moment.year"][2]]).all()


@pytest.mark.parametrize(
    ("other", "form", "is_noted"),
    [("x", "m/d/Y", True), ("13/02/2024", "d/m/Y", False), ("02/13/2024", "m/d/Y", False)],
)
def test_ambiguous_days_and_months_follow_the_other_dates_of_the_file(other, form, is_noted, read):
    dataset = read(
        f"when,other,kind\n01/02/2024,{other},a\n02/03/2024,{other},b\n", keep=("other",)
    )
    column = next(c for c in dataset.row_format.columns if c.name == "when")
    assert (column.kind, column.form) == ("date", form)
    assert bool(dataset.notes) is is_noted


@pytest.mark.parametrize(
    ("dates", "part"),
    [(["2024-01-02", ""], "year"), (["12:30", ""], "hour"), (["2024-01-02", "2024-1-2"], "year")],
)
def test_a_single_date_says_whether_it_is_missing(dates, part, read):
    rows = [f"{n}.5,{dates[n % 7 % 2]},{'ab'[n % 2]}" for n in range(60)]
    dataset = read("x,when,kind\n" + "\n".join(rows) + "\n")
    assert dataset.columns == ("x", f"when.{part}")
    is_missing = np.isnan(dataset.inputs[:][:, 1])
    assert is_missing.tolist() == [not dates[n % 7 % 2] for n in range(60)]


def test_the_only_date_of_closed_accounts_gives_the_target_away(read):
    rows = [f"{n}.5,{'2024-01-02' if n % 2 else ''},{'ab'[n % 2]}" for n in range(60)]
    text = "x,closed,kind\n" + "\n".join(rows) + "\n"
    assert columns_left_out(read(text)).keys() == {"closed"}
    assert read(text, keep=("closed",)).columns == ("x", "closed.year")


def test_a_part_of_a_date_with_the_name_of_a_column_is_refused(read):
    with pytest.raises(DataError, match="Received: 'when.year' twice in .*--drop COLUMN"):
        read("when,when.year,kind\n2024-01-02,5,a\n2023-01-02,6,b\n")


def test_a_column_of_numbers_and_texts_is_categories_with_a_note(read):
    dataset = read("x,y,kind\n1,1,a\nabc,2,b\n3,3,a\n")
    assert kinds(dataset) == {"x": "text", "y": "number"}
    (note,) = dataset.notes
    assert note.startswith("x is read as categories: it has numbers such as 1, and 1 text such as")
    assert "'abc' in line 3 of " in note
    assert not read("x,y,kind\n1,1,a\nabc,2,b\n", categorical=("x",)).notes
    mixed = read('x,y,kind\n"1,5",1,a\n1.5,2,b\n')
    assert "its numbers are written in different ways" in mixed.notes[0]


def test_dates_among_texts_are_noted_and_gaps_of_pandas_are_missing(read):
    days = [f"2024-{n % 12 + 1:02}-{n % 28 + 1:02}" for n in range(ROWS)]
    table = {"when": days, "x": range(ROWS), "kind": list(KINDS)}
    assert kinds(read(table))["when"] == "date"
    assert kinds(read({**table, "when": [*days[1:], "NaT"]}))["when"] == "date"
    dataset = read({**table, "when": [*days[1:], "2024-02-30"]})
    assert kinds(dataset)["when"] == "text"
    (note,) = dataset.notes
    assert note.startswith(
        "when is read as texts: it has dates such as 2024-02-02, and 1 other text"
    )
    assert f"'2024-02-30' in line {ROWS + 1} of" in note
    mixed = read({**table, "when": [day if n % 2 else "13/2/2024" for n, day in enumerate(days)]})
    assert "its dates are written in different ways" in mixed.notes[0]


@pytest.mark.parametrize(
    ("cells", "noted"),
    [
        (("5%", "7"), "x has percentages such as 5% among numbers such as 7."),
        (("$5", "€7"), "x has amounts of different currencies, such as $5 and €7."),
    ],
)
def test_numbers_of_different_units_are_noted(read, cells, noted):
    assert read({"x": cells * (ROWS // 2), "kind": list(KINDS)}).notes == (noted,)
    assert not read({"x": [f"{n} €" for n in range(ROWS)], "kind": list(KINDS)}).notes


def units(dataset):
    return {column.name: column.unit for column in dataset.row_format.columns if column.unit}


@pytest.mark.parametrize(
    ("cells", "unit", "numbers"),
    [
        (("60.7 kg", "58kg"), "kg", (60.7, 58)),
        (("1,200.5 sqft", "850 sqft"), "sqft", (1200.5, 850)),
        (("12 km/h", "-3.5 km/h"), "km/h", (12, -3.5)),
        (("3.5 °C", "4\u00a0°C"), "°C", (3.5, 4)),
        (("70 m²", "1\u2009200 m²"), "m²", (70, 1200)),
        (("5 µg", "7 µg"), "µg", (5, 7)),
        (("623.28 m2", "5m2"), "m2", (623.28, 5)),
        (("80.946 kg.", "8 kg"), "kg", (80.946, 8)),
        (("82.4 ft-lb", "7 ft-lb"), "ft-lb", (82.4, 7)),
        (("1e5 m", "2.5e-3m"), "m", (1e5, 2.5e-3)),
        (("$5k", "7 k"), "k", (5, 7)),
        (("12a", "7a"), "a", (12, 7)),
        (("60 kg", "58"), "kg", (60, 58)),
        (("60 kg", "-"), "kg", (60, np.nan)),
        (("60 kg", "NA"), "kg", (60, np.nan)),
    ],
)
def test_numbers_with_the_same_unit_are_numbers(cells, unit, numbers, read):
    table = {"x": [*cells, cells[0]] * 20, "y": range(60), "kind": list(KINDS)}
    dataset = read(table)
    assert (kinds(dataset)["x"], units(dataset), dataset.notes) == ("number", {"x": unit}, ())
    expected = np.array([*numbers, numbers[0]], np.float32)
    np.testing.assert_allclose(dataset.inputs[:][:3, 0], expected, rtol=1e-6)
    assert kinds(read(table, categorical=("x",)))["x"] == "text"


@pytest.mark.parametrize(
    ("cells", "noted"),
    [
        (("60 kg", "130 lb"), "its numbers have different units, such as 60 kg and 130 lb."),
        (("1 month", "3 months"), "different units, such as 1 month and 3 months."),
        (("80.9 kg", "€80.9"), "have different units, such as 80.9 kg and €80.9."),
        (("80.9 kg", "5%"), "have different units, such as 80.9 kg and 5%."),
        (("5k", "3M"), "its numbers have letters behind them, such as 5k and 3M."),
        (("12b", "8a"), "its numbers have letters behind them, such as 12b and 8a."),
        (("12 b", "8 a"), "its numbers have different units, such as 12 b and 8 a."),
        (("1.5k", "3M"), "its numbers have different units, such as 1.5k and 3M."),
        (
            ("60 kg", "n.a kg"),
            "numbers such as 60 kg, and 20 other texts such as 'n.a kg' in line 3",
        ),
        (
            ("60 kg", "inf kg"),
            "numbers such as 60 kg, and 20 other texts such as 'inf kg' in line 3",
        ),
        (("6,5 kg", "6.5 kg"), "its numbers are written in different ways, such as 6,5 kg."),
        (("60", "58 kg"), "it has numbers such as 60, and 20 texts such as '58 kg' in line 3"),
        (("3 May", "4 May"), None),
        (("10am", "12 PM"), None),
        (("5th", "6th"), None),
        (("-inf m", "nan m"), None),
        (("5 kg net", "6 kg net"), None),
        (("5 hektoliter", "6 hektoliter"), None),
        (("8.095 l/100km", "7.1 l/100km"), "such as '8.095 l/100km' are not read as numbers."),
        (("$80.95/h", "$8.5/h"), "x: cells such as '$80.95/h' are not read as numbers."),
        (("kg 80,9", "kg 7,5"), "x: cells such as 'kg 80,9' are not read as numbers."),
        (("192.168.0.1 a", "10.0.0.1 b"), None),
        (("1.2.2024 x", "3.2.2024 x"), None),
        (("a 1.5 in a long sentence", "b 2.5 in another sentence"), None),
        (("?a", "8.095 l/100km"), None),
        (("5 m/", "6 m/"), None),
        (("x 5", "x 6"), None),
    ],
)
def test_other_texts_with_numbers_stay_categories(cells, noted, read):
    dataset = read({"x": [*cells, cells[0]] * 20, "y": range(60), "kind": list(KINDS)})
    assert kinds(dataset)["x"] == "text"
    assert [noted in note for note in dataset.notes] == ([] if noted is None else [True])


def test_names_with_a_number_are_not_noted(read):
    houses = [f"{n % 7 + 1}{letter}" for n, letter in enumerate("abcdefghijkl" * 5)]
    assert not read({"x": houses, "y": range(ROWS), "kind": list(KINDS)}).notes


def test_cases_of_a_unit_are_one_unit_with_a_note(read):
    cells = ["5 MW", "6 mw", "7 MW"]
    dataset = read({"x": cells * 20, "y": range(ROWS), "kind": list(KINDS)})
    assert units(dataset) == {"x": "MW"}
    assert dataset.notes == ("x: MW and mw are read as the same unit.",)


def test_numbers_with_a_unit_share_the_format_of_the_file(read):
    dataset = read("x;y;kind\n1,234 m;1.5;a\n2,345 m;2;b\n")
    assert formats(dataset)["x"] == (".", ",")
    dataset = read('x,y,kind\n-,1,a\n5 m,2,a\n"1,234 m",3,b\n"2,345 m",4,b\n')
    assert dataset.notes == ("x may be read in two ways; 1,234 m is taken for 1234.",)
    dataset = read('x,y,kind\n-,1,a\n"1,234",2,b\n')
    assert dataset.notes == ("x may be read in two ways; 1,234 is taken for 1234.",)
    assert read("x;y;kind\n1 234;1;a\n2 345;2;b\n").notes == ()


def test_measurements_with_a_unit_are_no_identifiers_but_consecutive_numbers_are(read):
    random = np.random.default_rng(0)
    table = {
        "weight": [f"{value:.3f} kg" for value in random.normal(70, 9, ROWS)],
        "depth": [f"{value} m" for value in random.permutation(ROWS) * 7],
        "place": [f"{n}a" for n in range(ROWS)],
        "kind": list(KINDS),
    }
    dataset = read(table)
    assert dataset.columns == ("weight", "depth")
    assert columns_left_out(dataset) == {"place": "consecutive numbers"}


def test_a_unit_is_found_across_the_batches_of_a_long_table(read):
    cells = [f"{n % 977} kg" for n in range(20_000)]
    table = {"x": cells, "y": [n % 5 for n in range(20_000)], "kind": ["a", "b"] * 10_000}
    assert units(read(table)) == {"x": "kg"}
    (note,) = read({**table, "x": [*cells[:-1], "5 lb"]}).notes
    assert note.endswith("its numbers have different units, such as 0 kg and 5 lb.")
    (note,) = read({**table, "x": [*cells[:-1], "abc"]}).notes
    assert "numbers such as 0 kg, and 1 other text such as 'abc' in line 20001 of" in note


def test_a_target_may_have_a_unit(read, tmp_path):
    text = "x,weight\n1,60.7 kg\n2,58\n3,72kg\n"
    dataset = read(text, "weight", "regression")
    np.testing.assert_allclose(dataset.targets[:, 0], [60.7, 58, 72], rtol=1e-6)
    assert has_decimals(open_table(tmp_path / "table.csv"), ("weight",))
    assert read("x,kind\n1,5 kg\n2,6 kg\n").labels == ("5 kg", "6 kg")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("5 kg", "6 lb"), "in the same unit in each row. Received: y='5 kg' and '6 lb' in .*csv"),
        (("5 kg", "6 kg", "$7"), "in the same unit in each row. Received: y='5 kg' and '\\$7' in"),
        (("5 kg", "6 kg", "7%"), "in the same unit in each row. Received: y='5 kg' and '7%' in"),
        (("5 kg", "6 kg", "abc"), "must be a number, .*Received: y='abc' in line 4"),
        (
            ("8.1 l/100km", "6.2 l/100km"),
            r"Received: y='8.1 l/100km' in line 2 of .*csv\. A number may have only a unit behind "
            r"it, such as 60\.7 kg\.$",
        ),
        (("5 kg", "6,5 kg", "6.5 kg"), "written in the same way in each row. Received: y='5 kg'"),
        (
            ("5", "6", "7 kg"),
            r"must be numbers or texts. Received: '7 kg' in line 4, among .*csv\. "
            r"Write the unit in each row, or in none\.$",
        ),
        (
            ("5", "6", "7 kg", "abc"),
            r"must be numbers or texts. Received: '7 kg' in line 4, 'abc' in line 5, .*csv\.$",
        ),
        (
            ("5 kg", "1e30 kg"),
            "must be a number from -1e18 to 1e18. Received: y='1e30 kg' in line 3",
        ),
    ],
)
def test_a_target_that_is_no_number_of_one_unit_is_refused(cells, message, read):
    table = {"x": range(len(cells)), "y": cells}
    with pytest.raises(DataError, match=message) as error:
        read(table, "y", "regression")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("5 m", "6 MWh"), "have y in the same unit. Received: .*a.csv, in kWh; .*b.csv, in MWh"),
        (("5 ft", "6 kWh"), "have x in the same unit. Received: .*a.csv, in m; .*b.csv, in ft"),
        (
            ("5", "6 kWh"),
            "have x in the same unit. Received: .*a.csv, in m; .*b.csv, without a unit",
        ),
    ],
)
def test_tables_of_different_units_are_not_joined(cells, message, tmp_path):
    header, reading = "x,y\n1 m,2 kWh\n", ReadingConfig(target=("y",))
    (tmp_path / "a.csv").write_text(header + "3 m,4 kWh\n")
    (tmp_path / "b.csv").write_text(f"x,y\n7{cells[0][1:]},8{cells[1][1:]}\n{','.join(cells)}\n")
    source = f"{tmp_path}/a.csv+{tmp_path}/b.csv"
    with pytest.raises(DataError, match=message) as error:
        load_dataset(source, reading, "regression")
    assert "\n" not in str(error.value)
    source = f"{tmp_path}/a.csv+{tmp_path}/a.csv"
    assert load_dataset(source, reading, "regression").target_units == {"y": "kWh"}


def test_equal_numbers_of_joined_tables_are_one_class_in_numeric_order(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,10.0\n2,0.0\n3,2.0\n")
    (tmp_path / "b.csv").write_text("x,y\n4,0\n5,3\n6,10\n")
    source = f"{tmp_path}/a.csv+{tmp_path}/b.csv"
    reading = ReadingConfig(target=("y",))
    joined = load_dataset(source, reading)
    assert joined.labels == ("0", "2.0", "3", "10")
    assert joined.targets.tolist() == [3, 0, 1, 0, 2, 3]
    assert joined.notes == ("0.0 and 0 are one class, 0.",)
    joined = load_dataset(source, replace(reading, categorical=("y",)))
    assert joined.labels == ("0", "0.0", "2.0", "3", "10", "10.0")
    assert joined.targets.tolist() == [5, 1, 2, 0, 3, 4]
    named = tmp_path / "c.csv"
    named.write_text("x,y\n1,1\n2,1.0\n3,1.00\n")
    assert load_dataset(f"{named}+{named}", replace(reading, categorical=("y",))).labels == (
        "1", "1.0", "1.00",
    )  # fmt: skip


def test_tables_whose_targets_are_read_with_other_decimal_signs_are_not_joined(tmp_path):
    reading = ReadingConfig(target=("y",))
    for name, cells in (("a", ("2.141", "1.5")), ("b", ("2.141", "2,5")), ("c", ("2", "9"))):
        (tmp_path / f"{name}.csv").write_text(f"x;y\n1;{cells[0]}\n2;{cells[1]}\n")
    with pytest.raises(
        DataError, match=r"y with the same .*a.csv, read with '.'; .*b.csv, read with ','"
    ):
        load_dataset("+".join(f"{tmp_path}/{name}.csv" for name in "cab"), reading, "regression")
    joined = load_dataset(f"{tmp_path}/b.csv+{tmp_path}/c.csv", reading, "regression")
    assert joined.targets[:, 0].tolist() == [2141, 2.5, 2, 9]


NUMBERS = st.floats(-1e6, 1e6).map(lambda value: round(value, 2))


@given(
    st.lists(NUMBERS, min_size=3, max_size=30, unique=True),
    st.sampled_from(["kg", "°C", "km/h", "m²", "k"]),
    st.sampled_from(["", " ", "\u00a0"]),
    st.sampled_from([("", "."), (",", "."), (".", ",")]),
)
def test_training_reads_numbers_with_a_unit_as_serving_does(values, unit, blank, signs):
    thousands, decimal = signs
    marks = {ord(","): thousands, ord("."): decimal}
    cells = [f"{value:,.2f}".translate(marks) + blank + unit for value in values]
    survey = ColumnSurvey("x", frozenset({""}))
    survey.learn(range(len(cells)), cells)
    table = Table("x.csv", ("x",), lambda: iter(()), separator=";" if decimal == "," else ",")
    columns, _ = decide_columns(table, [survey], ())
    assert columns["x"].unit == unit
    found, wrong = read_column(columns["x"], cells)
    assert not wrong
    np.testing.assert_array_equal(found[:, 0], values)
    plain = [cell.removesuffix(unit).upper() + unit.upper() for cell in cells]
    np.testing.assert_array_equal(read_column(columns["x"], plain)[0], found)


def test_a_number_marks_missing_values_also_as_pandas_writes_it(read):
    table = {"x": [*range(ROWS - 1), -999.0], "kind": list(KINDS)}
    assert np.isnan(read(table, missing=("-999",)).inputs[:][-1, 0])
    assert read(table).inputs[:][-1, 0] == -999
    assert make_config("features", {"missing": -999}).reading.missing == ("-999",)


def test_classes_that_differ_in_case_only_are_noted(read):
    dataset = read({"x": range(ROWS), "kind": ["True", "TRUE", "false"] * (ROWS // 3)})
    assert len(dataset.labels) == 3
    assert dataset.notes[0] == "kind: TRUE and True are two classes, which differ in case only."


def test_a_file_separated_by_tabs_is_a_table(tmp_path, read):
    path = tmp_path / "flowers.tsv"
    path.write_text("x\tkind\n1\ta\n2\tb\n")
    assert kind_of_source(str(path), ReadingConfig(target=("kind",))) == "table"
    assert read(path).inputs[:].tolist() == [[1], [2]]


def test_a_binary_file_is_no_table(read):
    with pytest.raises(DataError, match=r"must be a text file.* bytes that are 0\.$"):
        read(b"PK\x03\x04" + bytes(3000) + b"\n")


def test_a_column_of_very_many_texts_keeps_the_most_frequent(read):
    words = (
        [f"w{min(n % 1500, n % 40)}" for n in range(5990)]
        + ["(rare text)"] * 10
        + [f"rare{n}" for n in range(1200)]
    )
    table = {"word": words, "x": range(len(words)), "kind": ["a", "b"] * (len(words) // 2)}
    dataset = read(table)
    (words_of_column,) = dataset.words
    assert len(words_of_column) == 1002
    assert {f"w{n}" for n in range(40)} <= set(words_of_column)
    texts = dataset.model_inputs(slice(0, len(words)))[:, 0]
    assert set(texts[:6000]) <= set(words)
    assert (texts[6000:] == "((rare text))").sum() >= 100
    assert "((rare text))" not in words_of_column
    assert "word has more than 1,000 texts" in dataset.notes[0]


def columns_left_out(dataset):
    return {column.column: column.reason for column in dataset.left_out}


def test_identifiers_and_constants_are_left_out_and_named(read):
    random = np.random.default_rng(0)
    table = {
        "customerID": [f"C-{n:04}" for n in range(ROWS)],
        "order_id": random.permutation(ROWS) * 7 + 1000,
        "row": range(ROWS),
        "photo": [f"photos/{n}.JPG" for n in range(ROWS)],
        "nothing": [None] * ROWS,
        "country": "DE",
        "amount": random.normal(size=ROWS),
        "population": random.permutation(ROWS) * 7 + 1000,
        "idle": random.integers(0, 5, ROWS),
        "kind": list(KINDS),
    }
    dataset = read(table)
    assert columns_left_out(dataset) == {
        "customerID": "unique in each row",
        "order_id": "an identifier, unique in each row",
        "row": "consecutive numbers",
        "photo": "unique in each row; --image-column photo learns from the images that it names",
        "nothing": "without a value",
        "country": "always DE",
    }
    assert dataset.columns == ("amount", "population", "idle")
    lines = list(map(str, dataset.left_out))
    assert lines[0] == "left out: customerID, unique in each row; --keep customerID takes it"
    assert lines[4] == "left out: nothing, without a value"
    kept = read(table, keep=("order_id", "country"), drop=("idle",))
    assert kept.columns == ("order_id", "amount", "population")
    assert kept.string_columns == ("country",)


def test_texts_that_name_the_rows_are_left_out_also_with_gaps(read):
    rows = [f"{n % 7},{f'note {n}' if n % 5 < 3 else ''},{'ab'[n % 2]}" for n in range(60)]
    dataset = read("x,note,kind\n" + "\n".join(rows) + "\n")
    assert columns_left_out(dataset) == {"note": "unique in each row that has one"}
    with pytest.raises(DataError, match="to learn from. Received: note, unique in each row"):
        read("x,note,kind\n" + "\n".join(rows) + "\n", drop=("x",))


def test_marks_of_missing_values_tell_what_gives_the_target_away_in_upper_and_lower_case(read):
    why = [("none yet" if n % 2 else f"word {n % 3}") for n in range(60)]
    text = "x,why,kind\n" + "".join(f"{n}.5,{w},{'ab'[n % 2]}\n" for n, w in enumerate(why))
    assert "why" in columns_left_out(read(text, missing=("NONE yet",)))
    assert "why" not in columns_left_out(read(text))


def test_a_column_that_is_the_only_one_left_stays(read):
    dataset = read(
        {"row": range(ROWS), "name": [f"n{n}" for n in range(ROWS)], "kind": list(KINDS)}
    )
    assert (dataset.columns, dataset.string_columns) == (("row",), ("name",))


def test_the_index_that_pandas_writes_without_a_name_is_left_out(read):
    frame = pd.DataFrame({"x": [n % 7 for n in range(ROWS)], "kind": list(KINDS)})
    dataset = read(frame.to_csv())
    assert columns_left_out(dataset) == {"unnamed": "an identifier, unique in each row"}


def test_a_column_that_is_one_to_one_with_the_target_is_left_out(read):
    closed = [f"2024-01-{n % 28 + 1:02}" if kind == "b" else "" for n, kind in enumerate(KINDS)]
    table = {
        "label": ["no" if kind == "a" else "yes" for kind in KINDS],
        "closed": closed,
        "nearly": ["no" if kind == "a" and n else "yes" for n, kind in enumerate(KINDS)],
        "kind": list(KINDS),
    }
    dataset = read(table)
    assert columns_left_out(dataset) == {
        "label": "gives kind away: one-to-one with it",
        "closed": "gives kind away: one-to-one with it",
    }
    assert dataset.columns == ("nearly",)


def test_account_numbers_beyond_float32_are_refused_with_a_way_out(read):
    table = {"account": [f"9{n**3:019}" for n in range(ROWS)], "x": [n % 7 for n in range(ROWS)]}
    message = "account='90000000000000000000' in .* --categorical account or --drop account."
    with pytest.raises(DataError, match=message):
        read(table | {"kind": list(KINDS)})


def test_a_score_of_the_target_is_left_out_and_a_strong_predictor_stays(read):
    random = np.random.default_rng(0)
    truth = random.random(2000) < 0.3
    table = {
        "score": truth + 0.1 * random.normal(size=2000),
        "strong": truth + 0.3 * random.normal(size=2000),  # an area under the curve of 0.99
        "kind": truth.astype(int),
    }
    dataset = read(table)
    assert dataset.columns == ("strong",)
    assert columns_left_out(dataset)["score"].startswith("gives kind away: an area under the ROC")
    few = {name: values[:200] for name, values in table.items()}
    assert read(few).columns == ("score", "strong")  # as petals separate irises
    assert read(table, keep=("score",)).columns == ("score", "strong")


def test_a_value_in_another_unit_is_left_out_and_a_strong_predictor_stays(read):
    price = np.exp(np.random.default_rng(0).normal(size=2000))
    noise = np.random.default_rng(1).normal(size=2000)
    table = {"cents": (price * 100).round(), "strong": price * np.exp(0.03 * noise), "price": price}
    dataset = read(table, "price", "regression")
    assert dataset.columns == ("strong",)
    assert columns_left_out(dataset)["cents"].startswith("gives price away: a rank correlation of")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,x,kind\n1,2,a\n", "each column once. Received: 'x' twice"),
        ("x,kind\n1,a\nx,kind\n2,b\n", "Received: line 3, which repeats it. Remove the line"),
        ("x,kind\n1,a\n2,b,c\n", "must have 2 cells like its header. Received: 3 in line 3"),
        ("x;kind\n1;a\n2\n", "must have 2 cells like its header. Received: 1 in line 3"),
        ("x,kind\n1,a\n2,a\n", "must have two or more classes. Received: only a"),
        ("x,kind\n1,a\n1e39,b\n", "from -1e18 to 1e18. Received: x='1e39' in line 3"),
        ("x,kind\n1,a\ninf,b\n", "from -1e18 to 1e18. Received: x='inf' in line 3"),
        ("x,kind\n,a\n,b\n", "whose values differ. Received: x without a value"),
        ("x,y,kind\n1,,a\n1,,b\n", "whose values differ. Received: x always 1, y without a value"),
        (
            "x,kind\n1,1\n2,red\n3,2\n4,blue\n5,3\n6,red\n7,red\n8,4\n9,5\n",
            "Received: 'red' in line 3, 'blue' in line 5, 'red' in line 7 and 1 more, among "
            "numbers, in .*classes: --categorical kind.",
        ),
        ("x,kind\n1,a\n2,b\n3,7\n", "Received: '7' in line 4, among texts"),
        ("x,kind\n1,NA\n2,some\n", "kind='NA', .* in line 2 .* a class: --set 'missing=\\?'"),
        ("x,kind\n1,1\n2,1.0\n", "must have two or more classes. Received: only 1, 1.0"),
    ],
)
def test_a_bad_table_is_refused_in_one_line_that_names_the_rows(text, message, read):
    with pytest.raises(DataError, match=message) as error:
        read(text)
    assert "\n" not in str(error.value)


def test_a_target_of_numbers_and_texts_can_be_classes(read):
    dataset = read("x,kind\n1,1\n2,2\n3,3+\n", categorical=("kind",))
    assert dataset.labels == ("1", "2", "3+")


def test_a_class_may_be_called_none_unless_it_is_set_to_mean_missing(read):
    text = "x,kind\n1,none\n2,None\n3,some\n"
    assert read(text).labels == ("None", "none", "some")
    with pytest.raises(DataError, match="Received: kind='none', a missing value, in line 2"):
        read(text, missing=("none",))
    for task in ("regression", "multilabel"):  # where it cannot be a class
        with pytest.raises(DataError, match="must "):
            read("x,kind,other\n1,none,1\n2,0,0\n3,1,1\n", "kind,other", task)


def test_equal_numbers_of_a_target_are_one_class(read):
    text = "x,kind\n" + "".join(f"{n},{('0', '0.0', '1', '1.0', '10')[n % 5]}\n" for n in range(9))
    dataset = read(text)
    assert dataset.labels == ("0", "1", "10")
    assert dataset.targets.tolist() == [0, 0, 1, 1, 2, 0, 0, 1, 1]
    assert dataset.notes == ("kind: 0.0 and 0 are one class, 0; for two: --categorical kind.",)
    assert read(text, categorical=("kind",)).labels == ("0", "0.0", "1", "1.0", "10")
    assert read("x,kind\n1,10%\n2,5%\n3,$7\n").labels == ("5%", "10%", "$7")


def test_missing_marks_and_none_are_classes_as_set(read):
    dataset = read("x,y,kind\n1,none,none\n2,?,NA\n3,b,some\n-,b,some\n", missing=("?",))
    assert dataset.labels == ("NA", "none", "some")
    assert dataset.words == (("", "b", "none"),)
    assert np.isnan(dataset.inputs[:][3, 0])


@pytest.mark.parametrize("word", ["NA", "none", "null"])
def test_a_label_that_marks_no_missing_value_is_refused_with_its_line(word, read):
    text = f"x,u,v,kind\n1,0,1,a\n2,{word},0,b\n"
    for setting, message in (
        ({"missing": ("?",)}, f"must be 0 or 1. Received: u='{word}' in line 3"),
        ({}, f"must have a target. Received: u='{word}', a missing value, in line 3"),
    ):
        with pytest.raises(DataError, match=message):
            read(text, "u,v", "multilabel", drop=("kind",), **setting)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,kind\n1,2\n2,red\n", "must be numbers or texts. Received: 'red' in line 3"),
        ("x,kind\n1,red\n2,blue\n", "must be a number, .*Received: kind='red' in line 2"),
        ('x,kind\n1,"1,5"\n2,1.5\n', "written in the same way in each row"),
        ("x,kind\n1,2\n2,1e30\n", "a number from -1e18 to 1e18. Received: kind='1e30' in line 3"),
    ],
)
def test_a_target_that_is_no_number_is_refused(text, message, read):
    with pytest.raises(DataError, match=message):
        read(text, task="regression")


def test_a_target_may_be_money(read):
    dataset = read("x;kind\n1;1.234,50 €\n2;7 €\n", task="regression")
    assert dataset.targets.tolist() == [[1234.5], [7]]


@pytest.mark.parametrize("setting", ["drop", "keep", "categorical"])
def test_a_setting_that_names_no_column_is_refused_with_a_suggestion(setting, read):
    with pytest.raises(DataError, match="must have the column 'colour'.*Did you mean 'color'"):
        read("color,x,kind\na,1,a\nb,2,b\n", **{setting: ("colour",)})


def test_a_column_cannot_be_dropped_and_used():
    with pytest.raises(ValueError, match="must be in drop or in target. Received: 'kind' in both"):
        ReadingConfig(target=("kind",), drop=("kind",))


FRAME = pd.DataFrame(
    {
        "when": pd.to_datetime(["2024-01-02 08:00", None, "2025-03-04 10:30"] * 10),
        "day": [datetime.date(2024, 1, 2), None, datetime.date(2025, 3, 4)] * 10,
        "flag": [True, False, True] * 10,
        "count": pd.array([1, None, 2] * 10, dtype="Int64"),
        "size": [0.1, np.nan, 2.5] * 10,
        "price": ["1.234,5", "7", None] * 10,
        "color": pd.Categorical(["red", None, "blue"] * 10),
        "kind": ["a", "b", "b"] * 10,
    }
)


def test_parquet_and_data_frames_are_read_like_csv(read, tmp_path):
    expected = read(FRAME.to_csv(index=False).encode(), keep=("color",))
    pq.write_table(pa.Table.from_pandas(FRAME), tmp_path / "table.parquet")
    from_parquet = read(tmp_path / "table.parquet", keep=("color",))
    with data_on_disk(FRAME) as found:
        from_frame = read(Path(found.source), keep=("color",))
    for dataset in (from_parquet, from_frame):
        assert dataset.row_format == expected.row_format
        assert dataset.sha256() == expected.sha256()


@pytest.mark.parametrize("what", ["cells", "images"])
def test_one_row_group_of_parquet_at_a_time_is_in_memory(what, tmp_path):
    path, plain = tmp_path / "table.parquet", {"compression": "none", "use_dictionary": False}
    values = np.random.default_rng(0).normal(size=1_000_000)
    if what == "cells":
        columns, rows = pa.table({"x": values}), 50_000
    else:
        columns, rows = pa.table({"photo": [values[:1_000].tobytes()] * 1_000}), 50
    pq.write_table(columns, path, row_group_size=rows, **plain)
    del columns
    table, before, most = open_table(path), pa.total_allocated_bytes(), 0
    for _ in table.read() if what == "cells" else table.images["photo"]():
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < path.stat().st_size / 4


def test_a_parquet_file_that_cannot_be_read_is_refused(read, tmp_path):
    path = tmp_path / "table.parquet"
    path.write_bytes(b"PAR1 no PAR1")
    with pytest.raises(DataError, match="table.parquet cannot be read as parquet"):
        read(path)
    pq.write_table(pa.table({"x": [1, 2], "kind": ["a", None]}), path)
    with pytest.raises(
        DataError, match="kind is null or NaN, a missing value, in row 1 of .*table.parquet"
    ):
        read(path)


@pytest.mark.parametrize(
    "values", [[[1], [2]], [{"a": 1}, None], [b"a", b"b"], [datetime.timedelta(1), None]]
)
def test_a_column_of_parquet_without_cells_is_refused_unless_it_is_dropped(values, read, tmp_path):
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"x": values, "y": [1, 2], "kind": ["a", "b"]}), path)
    with pytest.raises(
        DataError,
        match="truth values or dates. Received: 'x', which .* or leave it out with --drop",
    ):
        read(path)
    with pytest.raises(DataError, match="Received: 'x', which"):
        read(path, target="x")
    assert read(path, drop=("x",)).columns == ("y",)


def test_texts_and_dates_of_parquet_that_python_does_not_hold_are_told(read, tmp_path):
    path = tmp_path / "table.parquet"
    latin = pa.Array.from_buffers(
        pa.string(), 2, [*pa.array(["ab", "cd"]).buffers()[:2], pa.py_buffer(b"\xe4bcd")]
    )
    late = pa.array([253402300799999999, 0], pa.timestamp("us", "Asia/Tokyo"))
    for values, received in ((latin, "byte 0xe4 at position 0 is not UTF-8"), (late, "date value")):
        pq.write_table(pa.table({"x": values, "kind": ["a", "b"]}), path)
        with pytest.raises(DataError, match=f"^Column 'x' of .*parquet must hold .*{received}"):
            read(path)


def test_categories_of_numbers_and_truth_values_are_the_same_on_all_roads(read, tmp_path):
    frame = pd.DataFrame(
        {
            "zip": pd.array([10001, None, 7] * 10, dtype="Float64"),
            "size": pd.array([0.1, 2, None] * 10, dtype="Float32"),
            "seen": [True, "maybe", False] * 10,
            "kind": ["a", "b", "b"] * 10,
        }
    )
    text = frame.to_csv(index=False)
    assert "10001.0,0.1,True" in text
    settings = {"categorical": ("zip", "size"), "keep": ("zip", "size", "seen")}
    expected = read(text, **settings)
    assert expected.words == (("", "10001", "7"), ("", "0.1", "2"), ("", "false", "maybe", "true"))
    table = pa.Table.from_pandas(frame[["zip", "size", "kind"]])
    table = table.add_column(2, "seen", pa.array([str(cell) for cell in frame["seen"]]))
    pq.write_table(table, tmp_path / "table.parquet")
    assert read(tmp_path / "table.parquet", **settings).sha256() == expected.sha256()
    with data_on_disk(frame) as found:
        assert read(Path(found.source), **settings).sha256() == expected.sha256()


@pytest.mark.parametrize("values", [[[1], [2]], pd.to_timedelta([1, 2], "h")])
def test_a_data_frame_of_lists_or_durations_is_refused_unless_they_are_dropped(values, read):
    frame = pd.DataFrame({"x": values, "y": [1, 2], "kind": ["a", "b"]})
    message = r"texts, truth values or dates. Received: x=.*Convert the column, or drop it: drop=x"
    with pytest.raises(DataError, match=message), data_on_disk(frame):
        pass
    with data_on_disk(frame, ("x",)) as found:
        assert read(Path(found.source), drop=("x",)).columns == ("y",)


def test_a_data_frame_of_polars_is_read_like_one_of_pandas(read):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(
        {
            "when": [datetime.datetime(2024, 1, 2, 8), None] * 15,
            "day": [datetime.date(2024, 1, 2), None, datetime.date(2025, 3, 4)] * 10,
            "flag": [True, False, True] * 10,
            "count": polars.Series([1, None, 2] * 10, dtype=polars.UInt8),
            "size": [0.1, None, 2.5] * 10,
            "color": polars.Series(["red", None, "blue"] * 10, dtype=polars.Categorical),
            "kind": ["a", "b", "b"] * 10,
        }
    )
    with data_on_disk(frame) as found:
        dataset = read(Path(found.source), keep=("color", "when"))
    columns = dataset.row_format.columns
    assert {column.name: column.kind for column in columns} == {
        "when": "date", "day": "date", "flag": "boolean", "count": "number", "size": "number",
        "color": "text",
    }  # fmt: skip
    with data_on_disk(frame.to_pandas(use_pyarrow_extension_array=False)) as found:
        assert read(Path(found.source), keep=("color", "when")).sha256() == dataset.sha256()


def test_an_error_names_the_first_line_of_a_record_of_several(read):
    text = 'x,note,kind\n1,"a\nb",a\n{},"c\nd\ne",b\n'
    for bad, message in (
        ("2,3", "Received: 4 in line 4"),
        ("1e39", "Received: x='1e39' in line 4"),
    ):
        with pytest.raises(DataError, match=message):
            read(text.format(bad))
    with pytest.raises(DataError, match="unexpected end of data, in line 4"):
        read('x,kind\n1,a\n2,b\n3,"c\nd\n')


def test_many_rows_are_surveyed_in_little_memory(read):
    count = 30_000
    table = {
        "name": [f"person {n}" for n in range(count)],
        "buyer": [f"person {n % 25_000}" for n in range(count)],  # some buy twice
        "value": np.random.default_rng(0).normal(size=count),
        "kind": ["a", "b"] * (count // 2),
    }
    dataset = read(table)
    assert list(columns_left_out(dataset)) == ["name"]
    assert dataset.string_columns == ("buyer",)
    assert len(dataset.inputs) == count


@given(st.text(max_size=150), st.sampled_from(["multiclass", "regression", "multilabel"]))
def test_any_text_is_read_as_a_table_or_refused(tmp_path_factory, text, task):
    path = tmp_path_factory.mktemp("any") / "any.csv"
    path.write_text("x,y,kind\n" + text, "utf-8", errors="replace")
    with contextlib.suppress(DataError):
        dataset = read_table(open_table(path), ReadingConfig(target=("kind",)), task)
        assert len(dataset.inputs) == len(dataset.targets)
