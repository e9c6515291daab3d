"""What the server offers to try a model with: golden samples as a client would send them."""

import base64
import datetime
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import BUNDLES
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serving import Predictor
from serving.columns import read_column
from serving.date_text import FORMS, PARTS, date_parts, parse_date, write_date
from serving.golden import DRAWN, read_golden
from serving.manifest import ColumnRange, FrequentTexts, TrainingCells
from serving.server.samples import describe_samples

DATES = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2099, 12, 31))


@pytest.fixture(scope="module")
def raw():
    return BUNDLES / "dist" / "raw" / "1"


def offered(version, **changed):
    manifest = Predictor.load(version).manifest
    golden = read_golden(version, "input", manifest.inputs)
    for name, value in changed.items():
        object.__setattr__(manifest, name, value)
    return json.loads(describe_samples(manifest, golden))


def test_images_are_those_of_the_golden_samples(bundle):
    images = offered(bundle)["images"]
    golden = read_golden(bundle, "input", Predictor.load(bundle).manifest.inputs)["image"]
    pixels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(image)))) for image in images]
    assert len(pixels) == 8
    for image in pixels:
        assert (golden[:22] == image).all(axis=(1, 2)).any()


def test_rows_are_cells_that_give_the_golden_inputs(raw):
    found = offered(raw)
    predictor = Predictor.load(raw)
    expected = read_golden(raw, "output", predictor.manifest.outputs)["probabilities"]
    received = predictor.predict_rows(found["rows"]).probabilities
    for row in received:
        assert np.abs(expected[:22] - row).max(axis=1).min() < 1e-6
    assert {cell for row in found["rows"] for cell in row.values() if cell == ""}  # missing
    size, color, _ = found["columns"]
    assert size["range"][0] < size["range"][1]
    assert color["texts"] == ["blue", "red"]
    assert found["measured_on"] == "the 144 samples of the training split"


def test_a_column_with_a_unit_names_it_and_its_cells_are_read_back(raw):
    manifest = Predictor.load(raw).manifest
    size, *others = manifest.row_format.columns
    table = replace(
        manifest.row_format, columns=(replace(size, unit="cm", decimal=",", thousands="."), *others)
    )
    found = offered(raw, row_format=table)
    assert [column["unit"] for column in found["columns"]] == ["cm", "", ""]
    assert [column["thousands"] for column in found["columns"]] == [".", "", ""]
    cells = [row["size"] for row in found["rows"]]
    assert [row["size"].replace(".", ",") for row in offered(raw)["rows"]] == cells
    assert not read_column(table.columns[0], cells)[1]


def test_a_bundle_of_an_earlier_version_gives_the_ranges_of_its_samples(raw):
    found = offered(raw, training_cells=None)
    size, color, _ = found["columns"]
    assert size["range"][0] < size["range"][1]
    assert color["texts"] == ["blue", "red"]
    assert found["measured_on"] == "the samples that are shown"


def test_a_bundle_that_has_them_gives_the_ranges_of_training(raw):
    ranges = (ColumnRange("size", -3, 3),)
    cells = TrainingCells("120 rows", ranges, (FrequentTexts("color", ("red",)),))
    found = offered(raw, training_cells=cells)
    assert [column["range"] for column in found["columns"]] == [[-3, 3], None, None]
    assert [column["texts"] for column in found["columns"]] == [[], ["red"], []]
    assert found["measured_on"] == "120 rows"


@pytest.mark.parametrize("left_out", ["", ", without 3 whose outputs depend on rounding"])
def test_samples_that_were_drawn_are_not_offered(left_out, bundle):
    proof = replace(Predictor.load(bundle).manifest.proof, source=DRAWN + left_out)
    assert offered(bundle, proof=proof)["images"] == []


def test_a_drawing_has_the_ink_and_paper_of_the_data(bundle):
    manifest = Predictor.load(bundle).manifest
    (image,) = read_golden(bundle, "input", manifest.inputs).values()

    def ink(images, **changed):
        described = describe_samples(replace(manifest, **changed), {"image": images})
        return json.loads(described)["ink"]

    assert ink(255 - image) == "dark"  # a digit net finds ink of either kind
    assert ink(image, family="keras") == "bright"
    assert ink(255 - image, family="keras") == "dark"
    assert ink(np.full_like(image, 128), family="keras") == ""  # no paper
    assert ink(image, family="keras", task="multilabel") == ""
    drawn = replace(manifest.proof, source=DRAWN)
    assert ink(image, family="keras", proof=drawn) == ""


def test_a_manifest_keeps_the_cells_of_training(exported_raw_bundle):
    version, table = exported_raw_bundle
    cells = Predictor.load(version).manifest.training_cells
    lines = [line.split(",") for line in Path(table).read_text().splitlines()[1:]]
    assert cells.measured_on.endswith("samples of the training split")
    size, weight = cells.ranges
    for column, place in ((size, 0), (weight, 2)):
        numbers = {float(line[place]) for line in lines if line[place]}
        assert {column.low, column.high} <= numbers
    (color,) = cells.texts
    assert sorted(color.texts) == ["blue", "red"]


@given(DATES, st.sampled_from(FORMS), st.sets(st.sampled_from(PARTS), min_size=1))
def test_a_date_that_is_written_has_its_parts(date, form, names):
    parts = [part for part in PARTS if part in names]
    if form == "H:M":
        parts = [part for part in parts if part.startswith("hour")] or ["hour"]
    moment = (date.year, date.month, date.day, date.hour + date.minute / 60)
    places = [PARTS.index(part) for part in parts]
    values = date_parts([moment])[0, places].astype(np.float32).tolist()
    written = parse_date(write_date(parts, values, form), form)
    np.testing.assert_allclose(date_parts([written])[0, places], values, atol=2e-3)


def test_what_is_no_date_is_an_empty_cell_and_years_are_bounded():
    for year in (float("nan"), float("inf")):
        assert write_date(("year", "month"), (year, 5), "Y-m-d") == ""
    assert write_date(("year",), (-1e9,), "Y-m-d") == "0001-01-01"
    assert write_date(("year",), (1e9,), "Y-m-d") == "9999-01-01"
