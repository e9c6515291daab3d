"""Runs that begin with the weights of another model, and models that they cannot begin with."""

import json
import shutil
import tomllib

import keras
import numpy as np
import pytest
from sklearn.datasets import load_iris
from test_app_resume import Notes, StopAt, interrupt

from app.bundles.export_run import export_run
from app.config import make_config
from app.data.reading_progress import observed_reading
from app.errors import ConfigError, DataError
from app.runs import read_run, train
from app.runs.run_folder import CONFIG
from app.system.signals import Interrupted
from app.training.starting_weights import start_with
from export import ExportOptions
from serving.bundle import KERAS_MODEL

# A step at this rate changes nothing.
STILL = {"epochs": 1, "figures": False, "optimizer.learning_rate": 1e-30}
SHAPE = {"variant": "mlp", "hidden": [16], "normalization": "none", "figures": False, "epochs": 1}
PARTS = ("train", "test")
ROWS = {"head": "linear", "target": "y", "hidden": [8], "members": 1, "epochs": 1, "figures": False}


def _begin(folder):
    return train(make_config("digits", SHAPE), folder)


@pytest.fixture(scope="module")
def digits(once):
    """A run of a net of another shape than the default one."""
    return once("start-digits", _begin)


def rows_of(count, spread=1.0, texts=("a", "b", "c"), missing=()):
    random = np.random.default_rng(0)
    numbers = random.normal(size=count) * spread
    lines = ["x,text,y"]
    for number, value in enumerate(numbers):
        shown = "" if number in missing else f"{value:.4f}"
        lines.append(f"{shown},{texts[number % len(texts)]},{3 * value + number % len(texts):.4f}")
    return "\n".join(lines) + "\n"


def _begin_rows(folder):
    table = folder / "table.csv"
    table.write_text(rows_of(200, missing=(5, 6, 7)))
    return train(make_config("features", ROWS, data=table), folder)


@pytest.fixture(scope="module")
def regression(once):
    """A run on a table with texts and missing values; its table is beside the runs."""
    return once("start-rows", _begin_rows)


def write_houses(path, size="{} m²", use="{} kWh"):
    """Write a table of numbers with units."""
    random = np.random.default_rng(0)
    lines = [f"{size},{use}".format(*pair) for pair in random.integers(10, 99, (60, 2)) / 10]
    path.write_text("size,use\n" + "\n".join(lines) + "\n")
    return path


def _begin_houses(folder):
    settings = {**ROWS, "target": "use"}
    return train(make_config("features", settings, data=write_houses(folder / "t.csv")), folder)


@pytest.fixture(scope="module")
def houses(once):
    """A run on a table whose column and target have a unit."""
    return once("start-houses", _begin_houses)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            {"size": "{} sqft"},
            r"^size must be in m² or without a unit, as .*model\.keras has learned it\. "
            r"Received: size in sqft\.$",
        ),
        ({"use": "{} MWh"}, r"^use must be in kWh or without .*keras .*Received: use in MWh\.$"),
    ],
)
def test_a_run_does_not_begin_with_a_model_of_other_units(cells, message, houses, tmp_path):
    table = write_houses(tmp_path / "other.csv", **cells)
    settings = {**STILL, "start_from": houses.folder, "target": "use"}
    with pytest.raises(ConfigError, match=message):
        train(make_config("features", settings, data=table), tmp_path / "none")


def test_a_bundle_knows_its_units_too(houses, tmp_path):
    export_run(houses.folder, tmp_path, "houses", ExportOptions(int8="never"))
    assert "for a value: use in kWh." in (tmp_path / "houses" / "1" / "README.md").read_text()
    for cells, name in (({"size": "{} sqft"}, "size"), ({"use": "{} MWh"}, "use")):
        settings = {**STILL, "start_from": tmp_path / "houses", "target": "use"}
        table = write_houses(tmp_path / "other.csv", **cells)
        with pytest.raises(ConfigError, match=f"^{name} must be in .*Received: {name} in "):
            train(make_config("features", settings, data=table), tmp_path / "none")


def test_plain_numbers_and_other_cases_are_in_the_units_of_the_model(houses, tmp_path):
    table = write_houses(tmp_path / "plain.csv", "{}", "{} KWH")
    config = make_config(
        "features", {**STILL, "start_from": houses.folder, "target": "use"}, data=table
    )
    run = train(config, tmp_path)
    assert (houses.data["units"], run.data["units"]) == (
        {"size": "m²", "use": "kWh"},
        {"use": "KWH"},
    )
    config = make_config(
        "features",
        {**STILL, "start_from": run.folder, "target": "use"},
        data=write_houses(tmp_path / "u.csv"),
    )
    with pytest.raises(ConfigError, match="size must be without a unit, .*Received: size in m²"):
        train(config, tmp_path / "none")


def test_values_are_measured_in_the_unit_that_was_learned(houses, tmp_path, run):
    scores = []
    bundle = export_run(houses.folder, tmp_path, "houses", ExportOptions(int8="never"))
    for model, cell in ((houses.folder, "{} kWh"), (bundle, "{}"), (bundle, "{} KWH")):
        table = write_houses(tmp_path / "new.csv", use=cell)
        status, output, error = run("evaluate", model, "--data", table, "--json")
        assert status == 0, error
        scores.append(json.loads(output)["scores"]["mae"])
    assert scores[0] == scores[1] == scores[2]
    table = write_houses(tmp_path / "new.csv", use="{} MWh")
    status, _, error = run("evaluate", bundle, "--data", table)
    assert status == 2
    assert error.splitlines()[-1] == (
        "hornbill: The target must be in kWh or without a unit, as the model has learned use. "
        f"Received: use in MWh in {table}."
    )


def weights_of(run):
    return run.load_model().get_weights()


def same(ours, theirs):
    return all(np.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def test_a_run_begins_with_the_weights_of_another_and_its_config_repeats_that(digits, tmp_path):
    notes = Notes()
    with observed_reading(notes):
        run = train(make_config("digits", {**STILL, "start_from": digits.folder}), tmp_path)
    assert same(weights_of(run), weights_of(digits))
    assert notes.lines[0].startswith("Training begins with the weights and the normalization of /")
    written = tomllib.loads((run.folder / CONFIG).read_text())
    assert written["start_from"] == str(digits.folder / KERAS_MODEL)
    assert (written["variant"], written["hidden"]) == ("mlp", [16])  # those of the other run
    assert run.metrics == digits.metrics


def test_a_keras_file_alone_needs_the_settings_of_its_architecture(digits, tmp_path):
    path = shutil.copy(digits.folder / KERAS_MODEL, tmp_path / "net.keras")
    run = train(make_config("digits", {**STILL, **SHAPE, "start_from": path, **STILL}), tmp_path)
    assert same(weights_of(run), weights_of(digits))
    message = (
        r"start_from must be a model of the same architecture. Received: .*net.keras, whose first "
        r"other layer is \w+ \(.*\) instead of \w+ \(.*\)\."
    )
    with pytest.raises(ConfigError, match=message) as caught:
        train(make_config("digits", {**STILL, "start_from": path}), tmp_path / "none")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "none").exists()


def test_the_first_other_layer_is_named_with_both_shapes(digits, tmp_path):
    config = make_config("digits", {**STILL, "start_from": digits.folder, "hidden": [24]})
    with pytest.raises(
        ConfigError,
        match=r"whose first other layer is \w+ \(256, 16\) instead of \w+ \(256, 24\)\.$",
    ):
        train(config, tmp_path)


def test_another_activation_is_another_architecture(regression, tmp_path):
    settings = {**STILL, "start_from": regression.folder, "target": "y"}
    table = regression.config.data
    config = make_config("features", {**settings, "activation": "tanh"}, data=table)
    with pytest.raises(ConfigError, match="same architecture. Received: .*Their activations, lay"):
        train(config, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    config = make_config("features", {**settings, "dropout": 0.3, "l2": 0.1}, data=table)
    assert train(config, tmp_path).is_finished


def test_a_function_begins_with_the_weights_of_its_own_net_alone(tmp_path):
    def build():
        start = keras.Input((4,))
        x = keras.layers.Dense(8, "relu", name="hidden")(start)
        return keras.Model(start, keras.layers.Dense(3, "softmax")(x))

    net = build()
    net.save(path := tmp_path / "plain.keras")
    settings = {"epochs": 1, "optimizer.learning_rate": 1e-9, "start_from": str(path)}
    run = train(settings, tmp_path, figures=False, model=build, data="iris")
    rows = load_iris().data.astype("float32")
    found = run.load_model().predict(rows, verbose=0)["probabilities"]
    np.testing.assert_allclose(found, net.predict(rows, verbose=0), atol=1e-5)


def test_another_number_of_classes_says_what_to_use_instead(digits, tmp_path):
    random = np.random.default_rng(0)
    images = {
        f"x_{part}": random.integers(0, 255, (60, 28, 28), np.uint8) for part in ("train", "test")
    }
    classes = {f"y_{part}": np.arange(60) % 3 for part in ("train", "test")}
    np.savez(tmp_path / "three.npz", **images, **classes)
    config = make_config(
        "digits", {**STILL, "start_from": digits.folder}, data=tmp_path / "three.npz"
    )
    message = "as many outputs as the data has, 3. Received: .*, with 10. .*with --on-features, or"
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path)


def test_gray_images_do_not_begin_with_a_model_of_images_in_color(shapes, tmp_path):
    random = np.random.default_rng(0)
    gray = {f"x_{part}": random.integers(0, 255, (30, 32, 32), np.uint8) for part in PARTS}
    np.savez(tmp_path / "gray.npz", **gray, **{f"y_{part}": np.arange(30) % 3 for part in PARTS})
    config = make_config("features", {"start_from": shapes.folder}, data=tmp_path / "gray.npz")
    message = (
        "a model of gray images, as the data is. Received: .*model.keras, which takes images in "
        "color. To learn on its features, .*: --set backbone=/"
    )
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "runs", figures=False)


def test_images_in_color_do_not_begin_with_a_model_of_gray_ones(tmp_path):
    color, gray = (
        keras.Sequential([keras.Input((8, 8, channels)), keras.layers.Flatten()])
        for channels in (3, 1)
    )
    gray.save(tmp_path / "gray.keras")
    with pytest.raises(ConfigError, match="takes gray images. Give one of images in color."):
        start_with(color, str(tmp_path / "gray.keras"))


def test_statistics_and_vocabularies_stay_and_the_range_of_values_widens(regression, tmp_path):
    table = tmp_path / "wider.csv"
    table.write_text(rows_of(150, spread=10.0, texts=("c", "a", "unseen")))
    config = make_config(
        "features", {**STILL, "start_from": regression.folder, "target": "y"}, data=table
    )
    run = train(config, tmp_path)
    ours, theirs = run.load_model(), regression.load_model()
    for name in ("robust_scale", "values", "known_texts"):
        first, second = (model.get_layer(name) for model in (ours, theirs))
        assert same(first.get_weights(), second.get_weights())
    vocabularies = [m.get_layer("known_texts").get_vocabulary() for m in (ours, theirs)]
    assert vocabularies[0] == vocabularies[1]
    lowest, highest = ours.get_layer("clipped_values").get_weights()
    low, high = theirs.get_layer("clipped_values").get_weights()
    assert lowest < low - 5
    assert highest > high + 5


def test_missing_values_that_the_model_does_not_know_are_refused(tmp_path, regression):
    table = tmp_path / "table.csv"
    table.write_text(rows_of(200))
    whole = train(make_config("features", ROWS, data=table), tmp_path)
    table.write_text(rows_of(200, missing=(3, 4)))
    config = make_config("features", {"start_from": whole.folder, "target": "y"}, data=table)
    with pytest.raises(DataError, match="Only columns that had missing values .*Received: 'x' of"):
        train(config, tmp_path)
    table.write_text(rows_of(200).replace("text", "other"))
    with pytest.raises(
        ConfigError, match="must have the columns of .* Received: no 'text' but 'other'"
    ):
        train(config, tmp_path)


def test_other_names_of_classes_are_told(digits, tmp_path):
    folder = shutil.copytree(digits.folder, tmp_path / "letters")
    data = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps({**data, "labels": list("abcdefghij")}))
    notes = Notes()
    with observed_reading(notes), pytest.raises(Interrupted):
        train(
            make_config("digits", {**STILL, "start_from": folder}), tmp_path, [StopAt(0, interrupt)]
        )
    assert (
        notes.lines[1]
        == "Its outputs were a, b, c, d, e; from now on they are 0, 1, 2, 3, 4, in this order."
    )


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("{}/none.keras", "start_from must be a file that exists. Received: .*none.keras"),
        ("{}/broken.keras", "start_from must be a run, .* that Keras can load. Received: .*broken"),
        ("{}/empty", "start_from must be a model that was trained before. Received: .*empty"),
        (3, "start_from must be a path. Received: start_from=3."),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(tmp_path, start, message):
    (tmp_path / "broken.keras").write_text("no zip")
    (tmp_path / "empty").mkdir()
    path = start.format(tmp_path) if isinstance(start, str) else start
    with pytest.raises(ConfigError, match=message) as caught:
        train(make_config("digits", {**STILL, "start_from": path}), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_family_is_refused(digits):
    with pytest.raises(ConfigError, match="of the same family, softmax. Received: .*family digits"):
        make_config("softmax", {"start_from": digits.folder})


def test_the_command_takes_family_and_settings_from_the_run(digits, run, tmp_path):
    settings = ("--set", "epochs=1", "--no-figures", "--output", tmp_path)
    status, output, errors = run("train", "--start-from", digits.folder, *settings)
    assert status == 0
    assert "Training begins with the weights" in output + errors
    (folder,) = (tmp_path / "digits").iterdir()
    begun = read_run(folder)
    assert begun.config.model == digits.config.model
    assert begun.config.training.epochs == 1
    status, _, errors = run("train", "digits", "--start-from", tmp_path / "none")
    assert (status, errors.count("\n")) == (2, 1)
    assert "--start-from must be a run, a bundle or a .keras file. Received: " in errors
