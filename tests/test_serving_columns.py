"""Cells of tables: numbers, dates and truth values, as people write them."""

import datetime
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.columns import read_column, read_row_inputs
from serving.date_text import FORMS, PARTS, date_parts, parse_date
from serving.errors import InputError, ManifestError
from serving.frames import table_columns
from serving.manifest import Manifest, TensorSpec
from serving.number_text import FORMATS, formats_of, parse_number
from serving.predictor import Predictor
from serving.row_format import RawColumn, RowFormat, check_names
from serving.unit_text import parse_amount, split_unit


@pytest.fixture(scope="module")
def manifest(row_bundle):
    """The manifest of a model of a table with a number, a date and a text."""
    found = Predictor.load(row_bundle).manifest
    columns = (
        RawColumn("price", "number", ",", "."),
        RawColumn("when", "date", form="d.m.Y", parts=("year", "hour")),
        RawColumn("open", "boolean"),
        RawColumn("color", "text"),
    )
    return replace(
        found,
        columns=("price", "when.year", "when.hour", "open"),
        string_columns=("color",),
        nullable_columns=("when.year", "when.hour"),
        inputs=(
            TensorSpec("inputs", "float32", ("batch", 4)),
            TensorSpec("texts", "string", ("batch", 1)),
        ),
        row_format=RowFormat(columns),
    )


@pytest.mark.parametrize(
    ("text", "form", "number"),
    [
        ("1.5e3", (".", ""), 1500),
        ("1,234.5", (".", ","), 1234.5),
        ("12,345,678", (".", ","), 12345678),
        ("1.234,5", (",", "."), 1234.5),
        ("1234,5", (",", "."), 1234.5),
        ("1 234,5", (",", " "), 1234.5),
        ("1\u202f234,5", (",", " "), 1234.5),
        ("1'234.5", (".", "'"), 1234.5),
        ("$1,234", (".", ","), 1234),
        ("-€5", (".", ""), -5),
        ("5 €", (".", ""), 5),
        ("\u22123,5", (",", ""), -3.5),
        ("12%", (".", ""), 0.12),
        (",5", (",", ""), 0.5),
    ],
)
def test_a_number_is_read_in_its_format(text, form, number):
    assert parse_number(text, *form) == pytest.approx(number)
    assert form in formats_of(text)


@pytest.mark.parametrize(
    "text",
    ["", "abc", "1_000", "٣", "1,23,4", "+-5", "€", "5$%", "1.2.3", "--5", "nan", "2024-01-02"],
)
def test_other_texts_are_numbers_of_no_format(text):
    assert not formats_of(text)
    assert all(parse_number(text, *form) is None for form in FORMATS)


def test_a_single_group_after_a_comma_is_ambiguous():
    assert {(".", ","), (",", "")} <= formats_of("1,234")
    assert (",", "") not in formats_of("1,234.5")
    assert (".", ",") not in formats_of("1,5")


@given(st.text(max_size=20), st.sampled_from(FORMATS))
def test_any_text_is_a_number_of_exactly_the_formats_that_read_it(text, form):
    text = text.strip()
    assert (parse_number(text, *form) is not None) == (form in formats_of(text))


@given(st.floats(-1e15, 1e15), st.sampled_from(FORMATS))
def test_a_number_that_is_written_in_a_format_is_read_back(value, form):
    decimal, thousands = form
    text = f"{value:,.3f}".translate({ord(","): thousands, ord("."): decimal})
    assert parse_number(text, *form) == pytest.approx(round(value, 3), rel=1e-12)


@pytest.mark.parametrize(
    ("text", "form", "moment"),
    [
        ("2024-02-29", "Y-m-d", (2024, 2, 29, 0)),
        ("2024-02-29T18:30:00.123+01:00", "Y-m-d", (2024, 2, 29, 18.5)),
        ("2024-02-29 18:30Z", "Y-m-d", (2024, 2, 29, 18.5)),
        ("29.2.2024 6:30 PM", "d.m.Y", (2024, 2, 29, 18.5)),
        ("2/29/2024", "m/d/Y", (2024, 2, 29, 0)),
        ("29/2/2024", "d/m/Y", (2024, 2, 29, 0)),
        ("12:15 am", "H:M", (np.nan, np.nan, np.nan, 0.25)),
    ],
)
def test_a_date_is_read_in_its_form_and_its_zone_is_dropped(text, form, moment):
    np.testing.assert_array_equal(parse_date(text, form), moment)
    others = {"m/d/Y": "d/m/Y"}.get(form, "Y/m/d")
    assert parse_date(text, others) is None


@pytest.mark.parametrize("text", ["2023-02-29", "2024-13-01", "24-01-02", "2024-01-02 25:00", "x"])
def test_other_texts_are_dates_of_no_form(text):
    assert all(parse_date(text, form) is None for form in FORMS)


@given(st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)))
def test_the_parts_of_a_date_are_those_of_the_calendar(moment):
    text = moment.isoformat(" ", "minutes")
    parts = dict(zip(PARTS, date_parts([parse_date(text, "Y-m-d")])[0], strict=True))
    assert (parts["year"], parts["month"], parts["day"]) == (moment.year, moment.month, moment.day)
    assert parts["weekday"] == moment.isoweekday()
    assert parts["hour"] == pytest.approx(moment.hour + moment.minute / 60)
    for part in ("month", "day", "weekday", "hour"):
        assert np.hypot(parts[f"{part}_sin"], parts[f"{part}_cos"]) == pytest.approx(1, abs=1e-5)


def test_cyclic_parts_put_december_beside_january():
    moments = [parse_date(f"2024-{day}", "Y-m-d") for day in ("12-31", "01-01", "07-01")]
    sine, cosine = (PARTS.index(f"month_{form}") for form in ("sin", "cos"))
    winter, spring, summer = date_parts(moments)[:, [sine, cosine]]
    assert np.linalg.norm(winter - spring) < 0.05
    assert np.linalg.norm(winter - summer) > 1.9


def test_values_of_other_types_are_read_like_their_texts():
    number, wrong = read_column(RawColumn("x", "number", ",", "."), ["1.234,5", 1.5, 7, None, "-"])
    np.testing.assert_array_equal(number[:, 0], [1234.5, 1.5, 7, np.nan, np.nan])
    assert wrong == []
    truth, wrong = read_column(RawColumn("x", "boolean"), ["Yes", "f", 1, False, "1.0", None, 2])
    np.testing.assert_array_equal(truth[:, 0], [1, 0, 1, 0, 1, np.nan, np.nan])
    assert wrong == [6]
    when = RawColumn("x", "date", form="d.m.Y", parts=("year", "hour"))
    dates = ["1.2.2024 13:30", datetime.date(2024, 2, 1), pd.Timestamp("2024-02-01 13:30"), pd.NaT]
    parts, wrong = read_column(when, dates)
    np.testing.assert_array_equal(parts, [[2024, 13.5], [2024, 0], [2024, 13.5], [np.nan] * 2])
    texts, wrong = read_column(RawColumn("x", "text"), [" a ", "NA", 5, 5.0, 2.5, None, [1]])
    assert (texts.tolist(), wrong) == (["a", "", "5", "5", "2.5", "", ""], [6])


@pytest.mark.parametrize("kind", ["number", "date", "boolean", "text"])
def test_every_missing_value_of_pandas_is_one(kind):
    column = RawColumn("x", kind, form="Y-m-d", parts=("year",) if kind == "date" else ())
    values, wrong = read_column(column, [pd.NA, pd.NaT, float("nan"), None])
    assert not wrong
    assert values.tolist() == [""] * 4 if kind == "text" else np.isnan(values).all()


def test_numbers_of_numpy_are_not_missing():
    cells = [np.float64(1.5), np.int64(2), np.float32(3), np.float64("nan")]
    values, wrong = read_column(RawColumn("x", "number"), cells)
    assert not wrong
    np.testing.assert_array_equal(values[:, 0], [1.5, 2, 3, np.nan])
    assert read_column(RawColumn("x", "text"), cells)[0].tolist() == ["1.5", "2", "3", ""]


def test_truth_values_are_no_numbers_as_their_texts_are_none():
    for cells in ([True, False], [np.bool_(True), np.bool_(False)], np.array([True, False])):
        values, wrong = read_column(RawColumn("x", "number"), cells)
        assert wrong == [0, 1]
        assert np.isnan(values).all()
        values, wrong = read_column(RawColumn("x", "boolean"), cells)
        assert (values.tolist(), wrong) == ([[1], [0]], [])
        assert read_column(RawColumn("x", "text"), cells)[0].tolist() == ["true", "false"]


def test_the_marks_of_missing_values_can_be_words():
    texts, _ = read_column(RawColumn("x", "text"), ["none", "?", ""], missing=("?",))
    assert texts.tolist() == ["none", "", ""]


@pytest.mark.parametrize("kind", ["number", "text", "boolean", "date"])
@pytest.mark.parametrize(
    "cells",
    [
        ["-999", "0.1"],
        [-999, 0.1],
        [np.int64(-999), np.float32(0.1)],
        np.array([-999, 0.1]),
        np.array([-999, 0.1], np.float32),
    ],
)
def test_a_number_that_marks_a_missing_value_does_so_as_a_text_and_with_a_type(kind, cells):
    column = RawColumn("x", kind, form="Y-m-d", parts=("year",) if kind == "date" else ())
    values, wrong = read_column(column, cells, ("-999.0", "-999", "0.1"))
    assert not wrong
    assert values.tolist() == ["", ""] if kind == "text" else np.isnan(values).all()


def test_a_mark_that_float16_does_not_hold_is_no_error():
    cells = np.array([1, 2], np.float16)
    values, wrong = read_column(RawColumn("x", "number"), cells, ("-99999",))
    assert (values[:, 0].tolist(), wrong) == ([1, 2], [])


def test_a_truth_value_is_missing_where_its_text_is():
    values, wrong = read_column(
        RawColumn("x", "boolean"), [True, False, "false", "Yes"], ("false",)
    )
    np.testing.assert_array_equal(values[:, 0], [1, np.nan, np.nan, 1])
    assert not wrong
    assert read_column(RawColumn("x", "number"), [True], ("1",))[1] == [0]


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.floats(width=32).map(np.float32)))
def test_a_value_and_the_text_that_a_program_writes_for_it_are_one_category(value):
    column = RawColumn("x", "text", has_plain_texts=True)
    texts, wrong = read_column(column, [value, str(value)])
    assert not wrong
    assert texts[0] == texts[1]


def test_texts_as_people_write_them_are_categories_of_their_own():
    cells = ["007", "1.50", "1.10", "+1", "1e5", "1_0.0", "0x1", "Red"]
    column = RawColumn("x", "text", has_plain_texts=True)
    assert read_column(column, cells)[0].tolist() == cells


def test_bundles_of_earlier_releases_keep_the_texts_that_they_know():
    assert read_column(RawColumn("x", "text"), ["10001.0", "True"])[0].tolist() == [
        "10001.0",
        "True",
    ]


@given(st.datetimes())
def test_a_time_is_read_alike_as_a_text_and_with_a_type(moment):
    column = RawColumn("x", "date", form="Y-m-d", parts=PARTS)
    text, typed = read_column(column, [moment.isoformat(" ", "seconds"), moment])[0]
    np.testing.assert_array_equal(text, typed)


def test_numbers_of_float32_are_the_categories_that_a_file_shows():
    series = pd.Series([0.1, None, 2.5], dtype="float32")
    tables = [pd.DataFrame({"x": series}), pd.DataFrame({"x": series.astype("Float32")})]
    for table in [*tables, pa.Table.from_pandas(tables[0]), tables[0].astype("float16")]:
        assert table_columns(table)["x"] == [0.1, None, 2.5]


def test_a_unit_behind_a_number_is_left_out_in_upper_and_lower_case():
    column = RawColumn("x", "number", ",", ".", unit="kg")
    cells = ["1.234,5 kg", "2kg", "3 KG", "4", 5, "6\u00a0kg", "", "- kg", "7 lb", "kg", "inf kg"]
    values, wrong = read_column(column, [*cells, "1.5 kg", "9" * 100_000 + " kg", "1e30 kg"])
    np.testing.assert_array_equal(values[:6, 0], [1234.5, 2, 3, 4, 5, 6])
    assert np.isnan(values[6:]).all()
    assert wrong == list(range(7, 14))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("60.7 kg", ("60.7", "kg")),
        ("1e5m", ("1e5", "m")),
        ("$5k", ("$5", "k")),
        ("1e5", None),
        ("kg", None),
        ("- kg", None),
        ("5 ½", None),
        ("623.28 m2", ("623.28", "m2")),
        ("5m3", ("5", "m3")),
        ("5 M2", ("5", "M2")),
        ("5 kg/m3", ("5", "kg/m3")),
        ("9.81 m/s2", ("9.81", "m/s2")),
        ("5 ft2", ("5", "ft2")),
        ("80.946 kg.", ("80.946", "kg")),
        ("82.4 ft-lb", ("82.4", "ft-lb")),
        ("1e3", None),
        ("1E2", None),
        ("5 x3", None),
        ("12a2", None),
        ("5 m4", None),
        ("5 m23", None),
        ("5 ft-", None),
        ("5 ft--lb", None),
        ("12-34", None),
        ("12-Jan", None),
        ("5 Jan-Feb", None),
        ("9am-pm", None),
        ("5 Jan.", None),
        ("5.", None),
        ("5 kg..", None),
        ("3rd.", None),
        ("5 m/", None),
        ("5 kilograms", None),
        ("5 March", None),
        ("5 PM", None),
        ("12.png", None),
        ("1.5.jpg", None),
        ("5. kg", ("5.", "kg")),
    ],
)
def test_a_number_and_its_unit_are_told_apart(text, parts):
    assert split_unit(text) == parts


@given(st.text("0123456789.,-em kKgG°/²\u00a0µß", max_size=12))
def test_a_number_without_a_unit_is_read_as_before(text):
    text = text.strip()
    number = parse_number(text)
    if number is not None:
        assert parse_amount(text, ".", "", "kg") == number
    assert parse_amount(text, ".", "", "") == number


@pytest.mark.parametrize(
    "cell",
    [True, "60.7 lb", "91,0 kg", "abc kg", "60.7.1 kg", "91%", "$91", "91 €", "-£9", "91% kg"],
)
def test_a_cell_of_another_unit_is_a_problem_of_its_row(cell, manifest):
    first, *others = manifest.row_format.columns
    columns = (replace(first, decimal=".", thousands="", unit="kg"), *others)
    cells = {"price": ["60.7 kg", cell], "when": [""] * 2, "open": ["y"] * 2, "color": ["a"] * 2}
    rows = read_row_inputs(replace(manifest, row_format=RowFormat(columns)), cells)
    assert rows.problems == {
        1: "Each cell must be a number from -1e18 to 1e18 like 1234.5, with the unit kg or none. "
        f"Received: price={cell!r}."
    }


@pytest.mark.parametrize("cell", ["abc", "1.5", True, "1e30", "inf", [1], {}, 10**400])
def test_a_cell_that_is_no_number_is_a_problem_of_its_row(cell, manifest):
    cells = {
        "price": ["1,5", cell],
        "when": ["1.2.2024"] * 2,
        "open": ["y"] * 2,
        "color": ["a"] * 2,
    }
    rows = read_row_inputs(manifest, cells, lambda row: f" in row {row}")
    assert list(rows.problems) == [1]
    assert "must be a number from -1e18 to 1e18 like 1.234,5. Received: price=" in rows.problems[1]
    assert rows.problems[1].endswith(" in row 1.")


def test_missing_values_are_a_problem_only_where_training_had_none(manifest):
    cells = {"price": ["1", ""], "when": ["", None], "open": ["y", "n"], "color": ["", "NA"]}
    rows = read_row_inputs(manifest, cells)
    assert list(rows.problems) == [1]
    assert "price=''. The training data had no missing values in this column." in rows.problems[1]
    np.testing.assert_array_equal(rows.inputs["inputs"][0], [1, np.nan, np.nan, 1])
    assert rows.inputs["texts"].tolist() == [[""], [""]]


def test_an_unknown_date_or_truth_value_is_named(manifest):
    cells = {"price": ["1"], "when": ["2024-01-02"], "open": ["y"], "color": ["a"]}
    problem = read_row_inputs(manifest, cells).problems[0]
    assert problem == (
        "Each cell must be a date or time of the form d.m.Y. Received: when='2024-01-02'."
    )
    problem = read_row_inputs(manifest, cells | {"when": [""], "open": ["maybe"]}).problems[0]
    assert "must be true or false, yes or no, or 1 or 0. Received: open='maybe'." in problem


def test_all_absent_columns_are_named_and_additional_ones_returned(manifest):
    with pytest.raises(InputError, match="x.csv must have the columns price, .*no 'when', 'open'."):
        check_names(manifest, ["color", "price"], "x.csv")
    names = ["color", "open", "id", "when", "price"]
    assert check_names(manifest, names, "x.csv") == ["id"]


def test_a_manifest_keeps_how_rows_are_read(manifest):
    assert Manifest.from_json(manifest.to_json().encode()) == manifest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "sound"}, "kinds, forms and units that this release knows"),
        ({"form": "Q"}, "kinds, forms and units that this release knows"),
        ({"decimal": "x"}, "kinds, forms and units that this release knows"),
        ({"unit": "k g"}, "kinds, forms and units that this release knows"),
        ({"unit": "5"}, "kinds, forms and units that this release knows"),
        ({"unit": "k" * 9}, "kinds, forms and units that this release knows"),
        ({"unit": 5}, r"row_format.columns\[0].unit must be str. Received: 5"),
        ({"unit": None}, r"row_format.columns\[0].unit must be str. Received: None"),
        ({"name": "other"}, "row_format must make the manifest's columns"),
    ],
)
def test_a_row_format_that_does_not_fit_the_model_is_refused(change, message, manifest):
    first, *others = manifest.row_format.columns
    changed = replace(manifest, row_format=RowFormat((replace(first, **change), *others)))
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(changed.to_json().encode())


def test_only_numbers_have_units_and_earlier_bundles_say_nothing_about_them(manifest):
    written = json.loads(manifest.to_json())
    for column in written["row_format"]["columns"]:
        del column["unit"]
    assert Manifest.from_json(json.dumps(written).encode()) == manifest
    written["row_format"]["columns"][-1]["unit"] = "kg"
    with pytest.raises(ManifestError, match="kinds, forms and units that this release knows"):
        Manifest.from_json(json.dumps(written).encode())


def test_units_of_targets_are_those_of_values(manifest):
    changed = replace(
        manifest,
        task="regression",
        labels=("y", "z"),
        **dict.fromkeys(("calibration", "baseline", "reject_option", "thresholds")),
        target_units={"y": "kWh"},
        metrics={},
        metric_intervals={},
    )
    written = json.loads(changed.to_json())
    assert Manifest.from_json(json.dumps(written).encode()) == changed
    del written["target_units"]
    assert Manifest.from_json(json.dumps(written).encode()).target_units == {}
    for units, message in (
        ({"x": "kg"}, "must be units of values by label. Received: 'x': 'kg'."),
        ({"y": "k g"}, "must be units of values by label. Received: 'y': 'k g'."),
        ({"y": ""}, "must be units of values by label. Received: 'y': ''."),
        ({"y": 5}, r"target_units.y must be str. Received: 5"),
        (["kg"], "target_units must be dict"),
    ):
        with pytest.raises(ManifestError, match=message):
            Manifest.from_json(json.dumps({**written, "target_units": units}).encode())
    with pytest.raises(ManifestError, match="must be units of values"):
        Manifest.from_json(replace(manifest, target_units={"y": "kg"}).to_json().encode())


def test_tables_of_other_libraries_have_the_same_columns():
    rows = [{"a": 1, "b": "x"}, {"a": None, "b": None}]
    expected = {"a": [1, None], "b": ["x", None]}
    frame = pd.DataFrame(rows)
    for table in (rows, expected, pa.table(expected), frame, frame.convert_dtypes()):
        assert table_columns(table) == expected
    assert table_columns({"a": 1, "b": "xyz"}) == {"a": [1], "b": ["xyz"]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (5, "must be a DataFrame, a dict of columns or a list of dicts. Received: int"),
        ([{"a": 1}, {"b": 1}], "the same columns. Received: row 1 and row 0, which differ in a, b"),
        (
            {"a": [1], "b": [1, 2]},
            r"as many values in each, at least one. Received: lengths \[1, 2]",
        ),
        ({"a": []}, r"at least one. Received: lengths \[0]"),
        ([], "must be at least one row. Received: none"),
        ({"a": [1], "b": "x"}, "columns of cells or one row. Received: a single cell for b: 'x'"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "Received: a name twice"),
    ],
)
def test_tables_without_rows_or_with_uneven_ones_are_refused(table, message):
    with pytest.raises(InputError, match=message):
        table_columns(table)


NAMES = ("a", "b")
CELLS = {"a": [1, None], "b": ["x", "y"]}


@pytest.mark.parametrize(
    "rows",
    [
        [[1, "x"], [None, "y"]],
        ((1, "x"), [None, "y"]),
        np.array([[1, "x"], [None, "y"]], object),
        [np.array([1, "x"], object), (None, "y")],
    ],
)
def test_rows_without_names_have_a_cell_for_each_column(rows):
    columns = table_columns(rows, NAMES)
    assert {name: list(cells) for name, cells in columns.items()} == CELLS


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, "x"], [2]], r"list of 2 cells \(a, b\), or a dict. Received: 1 cells in row 1"),
        ([1, 2], "Received: 1 in row 0"),
        (["xy"], "Received: 'xy' in row 0"),
        (np.zeros((3, 4)), "Received: 4 cells in row 0"),
        (np.zeros(2), r"Received: np.float64\(0.0\) in row 0"),
        ([{"a": 1}, [1, 2]], "all be dicts, .* Received: a dict in row 0 and no dict in row 1"),
        ([[1, 2], [1, 2], {"a": 1}], "Received: no dict in row 0 and a dict in row 2"),
        ("xy", "a list of dicts. Received: str"),
        ([], "There must be at least one row. Received: none"),
        (np.zeros((0, 2)), "at least one. Received: lengths"),
    ],
)
def test_rows_without_names_that_do_not_fit_are_refused(rows, message):
    with pytest.raises(InputError, match=message):
        table_columns(rows, NAMES)
