"""Raw rows: a table is trained on, and its rows get the same predictions on every road."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from live import start

from app.batch import Job, run_job
from app.batch.pools import predict_here
from app.errors import DataError
from serving import InputError, Predictor
from serving.inputs import read_inputs
from serving.server.settings import Settings

COUNT = 120


def table():
    """Return a table as a spreadsheet in Europe exports it: all cells are texts."""
    random = np.random.default_rng(0)
    price = random.normal(size=COUNT)
    days = pd.Timestamp("2023-01-01") + pd.to_timedelta(random.integers(0, 700, COUNT), "D")
    kind = np.where(price + random.normal(size=COUNT) > 0, "none", "sold")
    return pd.DataFrame(
        {
            "customerID": [f"C-{n:05}" for n in range(COUNT)],
            "price": [f"{1000 * value:,.2f} €".translate({44: ".", 46: ","}) for value in price],
            "when": days.strftime("%d.%m.%Y 10:30"),
            "open": random.choice(["Yes", "no", "TRUE", ""], COUNT),
            "color": random.choice(["red", "blue", "NA", "green"], COUNT),
            "weight": [
                f"{value:.1f} kg".replace(".", ",") for value in random.normal(70, 9, COUNT)
            ],
            "kind": kind,
        }
    )


@pytest.fixture(scope="module")
def trained(once):
    """The run, the bundle, the table and the CSV file of a model of raw rows."""

    def make(folder):
        from app.bundles.export_run import export_run
        from app.config import make_config
        from app.runs import train
        from export import ExportOptions

        path = folder / "table.csv"
        table().to_csv(path, sep=";", index=False)
        settings = {"target": "kind", "missing": ["?", "NA"], "epochs": 2, "hidden": [8]}
        run = train(make_config("features", settings, data=path), folder / "runs", figures=False)
        options = ExportOptions(int8="never")
        return run, export_run(run.folder, folder / "dist", "deals", options), path

    return once("raw-rows", make)


@pytest.fixture(scope="module")
def expected(trained):
    """The probabilities of the arrays that the model was trained on."""
    from app.runs.train import load_run_data

    run, bundle, _ = trained
    arrays = load_run_data(run.config).model_inputs(slice(None))
    with Predictor.load(bundle) as predictor:
        return predictor.predict(arrays).probabilities


def typed(frame):
    """Return the rows of the table with types, in another order of columns, and without target."""
    numbers = frame["price"].str.removesuffix(" €").str.replace(".", "").str.replace(",", ".")
    weights = frame["weight"].str.removesuffix(" kg").str.replace(",", ".")
    truths = {"Yes": True, "no": False, "TRUE": True, "": None}
    return pd.DataFrame(
        {
            "color": [None if color == "NA" else color for color in frame["color"]],
            "open": [truths[word] for word in frame["open"]],
            "when": pd.to_datetime(frame["when"], dayfirst=True),
            "extra": 1,
            "price": numbers.astype(float),
            "weight": weights.astype(float),
        }
    )


def test_the_report_names_the_columns_that_are_left_out(trained):
    run, _, _ = trained
    assert run.data["left_out"] == [{"column": "customerID", "reason": "unique in each row"}]
    page = (run.folder / "report.html").read_text()
    assert "Left out: <b>customerID</b>, unique in each row." in page


def test_the_manifest_says_how_each_column_is_read(trained):
    run, bundle, _ = trained
    written = json.loads((bundle / "manifest.json").read_text())["row_format"]
    kinds = {column["name"]: column["kind"] for column in written["columns"]}
    texts = {"when": "date", "open": "boolean", "color": "text"}
    assert kinds == {"price": "number", **texts, "weight": "number"}
    assert [column["unit"] for column in written["columns"]] == ["", "", "", "", "kg"]
    assert "unit behind them: weight in kg." in (bundle / "README.md").read_text()
    assert "Units: weight in kg." in (run.folder / "report.html").read_text()
    assert written["missing"] == ["?", "na"]
    manifest = Predictor.load(bundle).manifest
    assert {"price", "when.year", "when.weekday", "open"} <= set(manifest.columns)
    assert not any(name.startswith("when.hour") for name in manifest.columns)
    assert manifest.labels == ("none", "sold")


def test_files_and_tables_with_types_get_the_same_predictions(trained, expected, tmp_path):
    _, bundle, path = trained
    notes = []
    with Predictor.load(bundle) as predictor:
        inputs, _ = read_inputs([path], predictor.manifest, notes.append)
        np.testing.assert_array_equal(predictor.predict(inputs).probabilities, expected)
        rows = typed(table())
        for form in (rows, pa.Table.from_pandas(rows), rows.to_dict("records")):
            np.testing.assert_array_equal(predictor.predict_rows(form).probabilities, expected)
        csv = table().to_dict("list")
        np.testing.assert_array_equal(predictor.predict_rows(csv).probabilities, expected)
    (note,) = notes
    assert note.endswith("has other columns too, which are ignored: customerID, kind.")


def test_the_command_and_a_batch_job_give_the_same_predictions(trained, expected, run, tmp_path):
    _, bundle, path = trained
    status, output, error = run("predict", bundle, path, "--json")
    assert status == 0, error
    assert "other columns too, which are ignored: customerID, kind." in error
    found = [list(json.loads(line)["probabilities"].values()) for line in output.splitlines()]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    pq.write_table(pa.Table.from_pandas(typed(table())), tmp_path / "rows.parquet")
    job = Job(bundle, str(tmp_path / "*.parquet"), tmp_path / "out")
    assert run_job(job, predict_here, lambda *_: None).failed == 0
    (part,) = (tmp_path / "out").glob("part-*.jsonl")
    rows = map(json.loads, part.read_text().splitlines())
    found = [list(row["probabilities"].values()) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_server_takes_rows_as_objects_and_as_columns(trained, expected):
    _, bundle, _ = trained
    texts = table().to_dict("records")
    values = json.loads(typed(table()).to_json(orient="records", date_format="iso"))
    for row, text in zip(values, texts, strict=True):
        row["when"] = text["when"]  # JSON has no dates
    names = ("price", "when", "open", "color", "weight")
    by_column = {name: [row[name] for row in values] for name in names}
    client, stop = start(Settings(bundle.parent.parent, log_requests=False))
    try:
        path = "/v1/models/deals:predict"
        for body in ({"instances": texts}, {"instances": values}, {"inputs": by_column}):
            status, answer = client.post(path, body)
            assert status == 200, answer
            rows = answer.get("predictions") or answer["outputs"]["probabilities"]
            found = [row["probabilities"] if isinstance(row, dict) else row for row in rows]
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        status, answer = client.post(path, {"instances": [{"price": 1, "open": True}]})
        assert status == 400
        assert answer["error"].endswith("Received: no 'when', 'color', 'weight'.")
        status, answer = client.post(path, {"instances": [{**values[0], "weight": "70,5 lb"}]})
        assert status == 400
        assert answer["error"].endswith("unit kg or none. Received: weight='70,5 lb' in row 0.")
        status, answer = client.post(path, {"instances": [{**values[0], "price": True}]})
        assert status == 400
        assert answer["error"].endswith("Received: price=True in row 0.")
        wrong = {**values[0], "price": "abc"}
        status, answer = client.post(path, {"instances": [values[0], wrong]})
        assert status == 400
        assert answer["error"].endswith("Received: price='abc' in row 1.")
        status, answer = client.post(path, {"instances": [values[0], {**wrong, "prise": 1}]})
        assert status == 400
        assert answer["error"].endswith("Received: row 1 and row 0, which differ in prise.")
        status, answer = client.post(path, {"instances": [[1.0, 2.0]]})
        assert status == 400
        assert answer["error"].endswith(
            "as objects with the columns price, when, open, color, weight."
        )
        parameters = client.get("/v2/models/deals")[1]["parameters"]
        assert [column["name"] for column in parameters["columns"]] == list(names)
        assert parameters["columns"][1] == {"name": "when", "kind": "date"}
        assert parameters["columns"][4] == {"name": "weight", "kind": "number", "unit": "kg"}
        assert len(parameters["labels"]) == 2
    finally:
        stop()


def test_one_row_is_a_dict_of_its_cells(trained, expected):
    _, bundle, _ = trained
    with Predictor.load(bundle) as predictor:
        found = predictor.predict_rows(table().to_dict("records")[0]).probabilities
    np.testing.assert_allclose(found, expected[:1], rtol=1e-6)


def test_predict_takes_rows_too(trained, expected):
    _, bundle, _ = trained
    rows = table().to_dict("records")
    with Predictor.load(bundle) as predictor:
        names = [column.name for column in predictor.manifest.row_format.columns]
        cells = [[row[name] for name in names] for row in rows]
        for same in (table(), rows, {name: table()[name] for name in names}, cells):
            found = predictor.predict(same).probabilities
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        found = predictor.predict(rows[0]).probabilities
        np.testing.assert_allclose(found, expected[:1], rtol=1e-6)
        for wrong in (["1,5", "x"], np.zeros((1, 3), np.float32)):
            with pytest.raises(InputError, match="A row must be a list of 5 cells .price, when, "):
                predictor.predict(wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"price": "12 apples"}, "like 1.234,5. Received: price='12 apples' in line 3 of"),
        ({"when": "2023-01-02"}, "of the form d.m.Y. Received: when='2023-01-02' in line 3 of"),
        ({"open": "maybe"}, "Received: open='maybe' in line 3 of"),
        ({"price": ""}, "price='' in line 3 of .* had no missing values in this column"),
        (
            {"weight": "7,5 lb"},
            "like 1234,5, with the unit kg or none. Received: weight='7,5 lb' in line 3 of",
        ),
        ({"price": None, "when": None}, "Received: no 'price', 'when'"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(change, message, trained, tmp_path):
    _, bundle, _ = trained
    rows = table()[:3].astype(object)
    for name, value in change.items():
        rows.loc[1, name] = value
    absent = [name for name, value in change.items() if value is None]
    rows.drop(columns=absent).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(InputError, match=re.escape(message).replace(r"\.\*", ".*")):
        read_inputs([tmp_path / "rows.csv"], Predictor.load(bundle).manifest)


def test_a_data_frame_is_trained_on_and_kept_with_the_run(tmp_path):
    from app.config import make_config
    from app.runs import resume, train

    settings = {"target": "kind", "missing": ["?", "NA"], "epochs": 1}
    run = train(make_config("softmax", settings, data=typed_with_target()), tmp_path, figures=False)
    assert run.config.data == str(run.folder / "DataFrame.csv")
    assert run.data["samples"]["test"] == COUNT // 5
    assert resume(run.folder).metrics == run.metrics


def typed_with_target():
    return typed(table()).assign(kind=table()["kind"])


@pytest.mark.parametrize(("text", "where"), [("a", "row 3 of"), ("a\nb", "in")])
def test_an_error_about_a_data_frame_names_its_row_and_no_file(text, where, tmp_path):
    from app.config import make_config
    from app.runs import train

    frame = pd.DataFrame(
        {"age": [*range(20)], "word": [text, *"bcd" * 6, "b"], "kind": [*"ab" * 10]}
    )
    frame["age"] = frame["age"].astype(object)
    frame.loc[3, "age"] = 1e300
    with pytest.raises(DataError, match=rf"Received: age=.* {where} the DataFrame") as raised:
        train(make_config("softmax", {"target": "kind"}, data=frame), tmp_path)
    assert "DataFrame.csv" not in str(raised.value)


def test_complex_numbers_are_refused_in_a_data_frame(tmp_path):
    from app.config import make_config
    from app.runs import train

    frame = pd.DataFrame({"x": [1j] * 20, "kind": [*"ab" * 10]})
    with pytest.raises(DataError, match="must hold numbers, texts, .* Received: x=1j"):
        train(make_config("softmax", {"target": "kind"}, data=frame), tmp_path)
