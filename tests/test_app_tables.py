"""CSV files: what is read, what is refused, and that memory stays bounded."""

import contextlib

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bundles.export_run import export_run
from app.config import make_config
from app.config.chosen_defaults import choose_defaults
from app.config.families import FAMILIES
from app.config.reading_config import ReadingConfig
from app.data.arrays import DiskArray
from app.data.sources import load_dataset
from app.data.splits import split_dataset
from app.data.summary import report_data
from app.errors import ConfigError, DataError
from app.runs import train
from app.runs.train import checked_model, load_run_data
from app.training.model_sizes import fit_to_data
from app.training.preprocessing import adapt
from export import ExportOptions
from serving import Predictor

FLOWERS = """size,color,weight,kind
1.5,red,10,rose
2.5,,20,tulip
NA,white,30,rose
4,red,40,lily
"""


def read(tmp_path, text, target="kind", task="multiclass", categorical=()):
    path = tmp_path / "table.csv"
    path.write_text(text)
    names = tuple(target.split(",")) if target else ()
    reading = ReadingConfig(target=names, categorical=categorical)
    return load_dataset(str(path), reading, task)


def test_numeric_columns_text_columns_and_the_target_are_distinguished(tmp_path):
    dataset = read(tmp_path, FLOWERS)
    assert dataset.columns == ("size", "weight")
    assert dataset.string_columns == ("color",)
    assert dataset.labels == ("lily", "rose", "tulip")
    assert dataset.targets.tolist() == [1, 2, 1, 0]
    np.testing.assert_array_equal(
        dataset.inputs[:], np.array([[1.5, 10], [2.5, 20], [np.nan, 30], [4, 40]], "float32")
    )
    texts = dataset.model_inputs(np.arange(4))["texts"]
    assert texts.tolist() == [["red"], [""], ["white"], ["red"]]


def test_digits_that_people_do_not_write_are_texts(tmp_path):
    for odd in ("1_000", "٣"):
        assert read(tmp_path, f"x,kind\n1,a\n{odd},b\n").string_columns == ("x",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1e-30, 2e-30), "more than 1e-07. Received: tiny, .* Multiply them by a power of ten"),
        ((0.05, 0.05 + 4e-8), "the rounding of float32. Received: tiny, .* Subtract their mean"),
        ((1.7e9, 1.7e9 + 128), "the rounding of float32. Received: tiny, .* Subtract their mean"),
        ((1.7e9, 1.7e9 + 59), "the rounding of float32. Received: tiny, .* Subtract their mean"),
    ],
)
def test_numbers_that_vary_by_less_than_float32_keeps_are_refused(values, message, tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{values[i % 2]:.20g},7,{'ab'[i % 2]}" for i in range(40)]
    path.write_text("\n".join(["tiny,constant,kind", *rows]) + "\n")
    with pytest.raises(DataError, match=message):
        train(make_config("softmax", {"target": "kind"}, data=str(path)), tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("config.toml"))


@pytest.mark.parametrize(("values", "always"), [((7, 7), "7"), ((1.7e9, 1.7e9 + 59), r"1\.7e\+09")])
def test_a_target_that_does_not_vary_is_refused(values, always, tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{i},{values[i % 2]:.20g}" for i in range(40)]
    path.write_text("\n".join(["x,y", *rows]) + "\n")
    config = make_config("features", {"target": "y", "head": "linear"}, data=str(path))
    with pytest.raises(DataError, match=f"must vary. Received: y, which is always {always} in the"):
        train(config, tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("config.toml"))


def test_regression_with_too_few_samples_to_measure_on_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("x,y\n1,2\n2,4\n3,5\n")
    config = make_config("features", {"target": "y", "head": "linear"}, data=str(path))
    with pytest.raises(
        DataError,
        match="each get 2 samples or more. Received: .* with 3 samples, of which 20%",
    ):
        train(config, tmp_path / "runs")


def test_regression_targets_read_as_classes_get_a_hint_to_the_linear_head(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("x,y\n" + "".join(f"{i},{i + 0.5}\n" for i in range(30)))
    config = make_config("features", {"target": "y"}, data=str(path))
    with pytest.raises(DataError, match=r"of the class '0.5', .* use head=linear\."):
        train(config, tmp_path / "runs")


def test_categorical_numbers_become_text(tmp_path):
    dataset = read(tmp_path, FLOWERS, categorical=("weight",))
    assert dataset.string_columns == ("color", "weight")
    assert dataset.columns == ("size",)


def test_numeric_classes_are_sorted_numerically(tmp_path):
    dataset = read(tmp_path, "x,kind\n1,10\n2,9\n3,10\n")
    assert dataset.labels == ("9", "10")


def test_several_columns_are_labels_or_values(tmp_path):
    text = "x,a,b\n1,0,yes\n2,1,no\n"
    labels = read(tmp_path, text, "b,a", "multilabel")
    assert (labels.task, labels.labels) == ("multilabel", ("b", "a"))
    np.testing.assert_array_equal(labels.targets, [[1, 0], [0, 1]])
    floats = read(tmp_path, "x,a,b\n1,0.0,1.0\n2,1.0,0\n", "b,a", "multilabel")
    np.testing.assert_array_equal(floats.targets, labels.targets)
    values = read(tmp_path, "x,a,b\n1,0.5,3\n2,1,4\n", "a,b", "regression")
    assert values.task == "regression"
    np.testing.assert_array_equal(values.targets, [[0.5, 3], [1, 4]])


def test_a_single_column_of_labels_is_read_as_two_classes(tmp_path):
    dataset = read(tmp_path, "x,kind\n1,no\n2,yes\n", task="multilabel")
    assert (dataset.task, dataset.labels) == ("multiclass", ("no", "yes"))


def test_vocabularies_and_indicators_come_from_the_training_split(tmp_path):
    rows = [f"{i if i % 7 else ''},{'abc'[i % 3]},{i % 2}" for i in range(90)]
    dataset = read(tmp_path, "x,word,kind\n" + "\n".join([*rows, "1,rare,0"]) + "\n")
    splits = split_dataset(dataset, seed=0)
    seen = set(dataset.model_inputs(splits.train)["texts"].ravel())
    family = FAMILIES["features"]
    rows_config = fit_to_data(family, family.model, dataset, splits).rows
    assert rows_config.nullable_columns == rows_config.indicators == (0,)
    assert set(rows_config.vocabularies[0]) == seen


def test_the_parts_of_a_date_share_one_indicator_and_rare_texts_are_in_no_vocabulary(tmp_path):
    rows = [f"{f'2024-01-{i % 28 + 1}' if i % 7 else ''},w{i % 1200},{i % 2}" for i in range(2400)]
    dataset = read(tmp_path, "when,word,kind\n" + "\n".join(rows))
    splits = split_dataset(dataset, seed=0)
    family = FAMILIES["features"]
    rows_config = fit_to_data(family, family.model, dataset, splits).rows
    assert len(rows_config.nullable_columns) == len(dataset.columns) > 5
    assert rows_config.indicators == (0,)
    assert len(rows_config.vocabularies[0]) <= 1000
    assert all(word[0] == "w" for word in rows_config.vocabularies[0])
    counts = report_data(dataset, splits)
    assert counts["missing"] == {dataset.columns[0]: 343}
    assert counts["notes"] == list(dataset.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name each column once. Received: an empty file"),
        ("x,x,kind\n1,2,a\n", "each column once. Received: 'x' twice"),
        ("x,,,kind\n1,2,3,a\n", "several columns without a name"),
        ("x,kind\n", "must have lines below its header"),
        ("x,sort\n1,a\n", "must have the column 'kind'. Received: 'x', 'sort'"),
        ("x,kinds\n1,a\n", "Did you mean 'kinds'"),
        ("kind\na\nb\n", "must have columns besides the target"),
        ("x,kind\n1,a\n2\n", "must have 2 cells.*Received: 1 in line 3"),
        ("x,kind\n1,a\n2,b,c\n", "must have 2 cells.*Received: 3 in line 3"),
        ("x,kind\n1,a\n2,\n", "must have a target. Received: kind='', a missing value, in line 3"),
        ("x,kind\n1,a\ninf,b\n", "Numbers must be from .*x='inf' in line 3"),
        ("x,kind\n1,a\n1e39,b\n", "from -1e18 to 1e18.*x='1e39'"),
        ("x,kind\n,a\n,b\n", "whose values differ. Received: x without a value"),
        ("x,kind\n1,a\n2,a\n", "must have two or more classes. Received: only a"),
        ('x,kind\n1,"a\n', "cannot be read as CSV: "),
        (
            "x,kind\n1,\xff\n".encode("latin1"),
            "must be in UTF-8. Received: byte 0xff in line 2. Save it as UTF-8.",
        ),
    ],
)
def test_an_unusable_table_is_refused_and_the_line_is_named(text, message, tmp_path):
    path = tmp_path / "wrong.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        load_dataset(str(path), ReadingConfig(target=("kind",)))


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        (
            "regression",
            "x,kind\n1,2\n2,red\n",
            "must be numbers or texts. Received: 'red' in line 3",
        ),
        ("regression", "x,kind\nred,b\n", "must be a number, .*Received: kind='b' in line 2"),
        (
            "multilabel",
            "x,kind,b\n1,2,0\n3,1,0\n",
            "target must be 0 or 1. Received: kind='2' in line 2",
        ),
    ],
)
def test_a_target_of_another_kind_is_refused(task, text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text, "kind,b" if task == "multilabel" else "kind", task)


@pytest.mark.parametrize("column", ["x", "word"])
def test_a_column_without_a_value_in_training_is_refused(column, tmp_path):
    cells = [f"{n},a,{n % 2}" for n in range(40)]
    dataset = read(tmp_path, "x,word,kind\n" + "\n".join(cells))
    splits = split_dataset(dataset, seed=0)
    for row in splits.train:
        x, word, kind = cells[row].split(",")
        cells[row] = f"{'' if column == 'x' else x},{'' if column == 'word' else word},{kind}"
    dataset = read(tmp_path, "x,word,kind\n" + "\n".join(cells))
    family = FAMILIES["features"]
    with pytest.raises(DataError, match=f"value in the training split. Received: '{column}'"):
        fit_to_data(family, family.model, dataset, splits)


def test_a_missing_value_in_the_test_split_alone_is_filled(tmp_path):
    cells = [f"{n % 7},{n % 3},{n % 2}" for n in range(60)]
    splits = split_dataset(read(tmp_path, "x,y,kind\n" + "\n".join(cells)), seed=0)
    row = splits.test[0]
    cells[row] = f",1,{row % 2}"
    path = tmp_path / "table.csv"
    path.write_text("x,y,kind\n" + "\n".join(cells))
    config = make_config("softmax", {"target": "kind", "epochs": 1}, data=str(path))
    run = train(config, tmp_path, figures=False)
    assert np.isfinite(run.metrics["test"]["cross_entropy"])
    options = ExportOptions(int8="never")
    manifest = Predictor.load(export_run(run.folder, tmp_path / "dist", options=options)).manifest
    assert manifest.nullable_columns == ("x",)


def test_several_target_columns_cannot_be_classes(tmp_path):
    with pytest.raises(DataError, match="need head=sigmoid or head=linear.*target=a,b"):
        read(tmp_path, "x,a,b\n1,2,3\n", "a,b")


def test_only_a_csv_file_needs_and_accepts_a_target(tmp_path):
    with pytest.raises(
        DataError, match="--target COLUMN. .*has the columns size, color, weight, kind"
    ):
        read(tmp_path, FLOWERS, target=None)
    with pytest.raises(DataError, match="target applies to tables only.*Received: target=x"):
        load_dataset("iris", ReadingConfig(target=("x",)))


@given(st.text(max_size=120))
def test_any_text_is_read_as_a_table_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "any.csv"
    path.write_text("x,kind\n" + text, "utf-8", errors="replace")
    with contextlib.suppress(DataError):
        dataset = load_dataset(str(path), ReadingConfig(target=("kind",)))
        assert len(dataset.inputs) == len(dataset.targets)


def test_a_table_is_streamed_to_disk(tmp_path):
    assert isinstance(read(tmp_path, FLOWERS).inputs, DiskArray)


@given(st.lists(st.integers(0, 9), max_size=30), st.lists(st.integers(1, 5), min_size=1))
def test_an_array_on_disk_reads_like_one_in_memory(indices, sizes):
    disk = DiskArray((3,), np.float32)
    parts = [np.random.default_rng(n).normal(size=(n, 3)).astype("float32") for n in (10, *sizes)]
    for part in parts:
        disk.append(part)
    memory = np.concatenate(parts)
    assert (len(disk), disk.ndim, disk.dtype) == (len(memory), 2, memory.dtype)
    np.testing.assert_array_equal(disk[np.array(indices, int)], memory[np.array(indices, int)])
    np.testing.assert_array_equal(disk[2:7], memory[2:7])


def test_an_array_on_disk_may_be_empty():
    assert DiskArray((3,), np.float32)[:].shape == (0, 3)
    no_columns = DiskArray((0,), np.float32)
    no_columns.append(np.zeros((5, 0), "float32"))
    assert no_columns[np.array([1, 3])].shape == (2, 0)


def test_a_column_that_is_constant_only_in_training_is_not_scaled_up(tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{i % 7},3,{'ab'[i % 2]}" for i in range(60)]
    path.write_text("\n".join(["x,flag,kind", *rows]) + "\n")
    config = make_config("softmax", {"target": "kind", "keep": "flag"}, data=str(path))
    dataset = load_run_data(config)
    splits = split_dataset(dataset, config.seed)
    model = checked_model(config, dataset, splits)
    adapt(model, dataset, splits.train)
    standard = keras.Model(model.input, model.get_layer("normalize").output)
    given = np.array([[3, 3], [3, 4]], "float32")
    np.testing.assert_allclose(standard.predict(given, verbose=0)[:, 1], [0, 1], atol=1e-6)


def test_a_column_of_small_numbers_is_scaled_by_its_quartiles(tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{(400 + i) * 1e-9:.20g},{'ab'[i % 2]}" for i in range(300)]
    path.write_text("\n".join(["wavelength,kind", *rows]) + "\n")
    settings = {"target": "kind", "hidden": [2], "scaling": "robust"}
    config = make_config("features", settings, data=str(path))
    dataset = load_run_data(config)
    splits = split_dataset(dataset, config.seed)
    model = checked_model(config, dataset, splits)
    adapt(model, dataset, splits.train)
    scaled = keras.Model(model.input, model.get_layer("robust_scale").output)
    values = scaled.predict(dataset.inputs[:], verbose=0)
    np.testing.assert_allclose(np.ptp(values), 2, rtol=0.2)


def test_a_class_without_a_sample_in_training_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{i},{'common' if i > 2 else 'rare'}" for i in range(200)]
    path.write_text("\n".join(["x,kind", *rows]) + "\n")
    settings = {"target": "kind", "validation_split": 0.8}
    with pytest.raises(DataError, match="one sample of each class. Received: .*class 'rare'"):
        train(make_config("softmax", settings, data=str(path)), tmp_path / "runs")


def test_a_target_with_too_many_texts_gets_a_hint_to_the_linear_head(tmp_path):
    rows = "".join(f"{i},{i}.5\n" for i in range(1002))
    with pytest.raises(DataError, match="in 'kind' of .*To predict numbers: --set head=linear"):
        read(tmp_path, f"x,kind\n{rows}")
    names = "".join(f"{i},k{i}\n" for i in range(1002))
    with pytest.raises(DataError, match=r"more in 'kind' of .*table.csv\.$"):
        read(tmp_path, f"x,kind\n{names}")


def test_a_target_of_numbers_with_decimal_commas_gets_the_same_hint(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("x;price\n" + "".join(f"{i};{i}.012,5\n" for i in range(1, 40)))
    config = make_config("features", {"target": "price"}, data=str(path))
    with pytest.raises(DataError, match="instead of classes, use head=linear"):
        train(config, tmp_path / "runs")


@pytest.mark.parametrize(
    ("samples", "epochs", "batch_size", "hidden"),
    [(200, 32, 32, (64, 64)), (6_000, 64, 128, (128, 128)), (40_000, 20, 256, (128, 128))],
)
def test_epochs_batches_and_width_follow_from_the_number_of_rows(
    samples, epochs, batch_size, hidden
):
    config = choose_defaults(make_config("features"), samples, (15,))
    training = config.training
    assert (training.epochs, training.batch_size) == (epochs, batch_size)
    assert config.model.hidden == hidden
    assert training.restore_best_weights
    assert training.patience
    assert {"epochs", "hidden", "members", "scaling"} <= config.chosen


@pytest.mark.parametrize(
    ("head", "samples", "rate", "weight_decay", "dropout"),
    [
        ("softmax", 500, 0.001, 0.5, 0.3),
        ("softmax", 30_000, 0.002, 0.5, 0.2),
        ("linear", 500, 0.005, 0.1, 0.1),
        ("linear", 5_000, 0.005, 0.3, 0.1),
    ],
)
def test_regularization_follows_from_the_targets(head, samples, rate, weight_decay, dropout):
    config = choose_defaults(make_config("features", {"head": head}), samples, (15,))
    optimizer = config.training.optimizer
    assert (optimizer.learning_rate, optimizer.weight_decay) == (rate, weight_decay)
    assert config.model.dropout == dropout
    assert config.model.clip_values == (head == "linear")


def test_wide_tables_have_fewer_members_and_no_embeddings():
    few, many, most = (
        choose_defaults(make_config("features"), 1000, (columns,)).model
        for columns in (64, 200, 300)
    )
    assert [net.members for net in (few, many, most)] == [8, 4, 1]
    assert (many.numeric_embedding, most.numeric_embedding) == ("piecewise", "none")


def test_settings_of_the_user_are_kept():
    given = {"scaling": "standard", "members": 1, "epochs": 3, "hidden": [5]}
    config = choose_defaults(make_config("features", given), 1000, (15,))
    assert (config.model.scaling, config.model.members, config.model.hidden) == (
        "standard",
        1,
        (5,),
    )
    assert config.training.epochs == 3
    assert not config.chosen & set(given)


def test_a_linear_model_stays_linear():
    config = choose_defaults(make_config("features", {"hidden": []}), 1000, (15,))
    assert "epochs" in config.chosen
    assert (config.model.members, config.model.wide) == (1, False)
    assert (config.model.scaling, config.model.numeric_embedding) == ("standard", "none")


def test_softmax_keeps_its_own_settings():
    config = make_config("softmax")
    assert choose_defaults(config, 1000, (15,)) == config


@pytest.mark.parametrize("key", ["scaling", "numeric_embedding"])
def test_settings_of_rows_are_refused_for_images(key):
    value = {"scaling": "robust", "numeric_embedding": "periodic"}[key]
    with pytest.raises(ConfigError, match=f"{key} applies to rows only. Received: shapes"):
        choose_defaults(make_config("features", {key: value}, data="shapes"), 100, (8, 8, 3))
