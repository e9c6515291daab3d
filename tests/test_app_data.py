"""Sources, splits and pipelines."""

import contextlib
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from app.data.datasets import Dataset
from app.data.pipelines import TrainingPipeline, evaluation_pipeline, seed_everything
from app.data.sources import absolute_source, load_dataset
from app.data.splits import split_dataset
from app.errors import DataError


@pytest.fixture
def mnist_arrays():
    random = np.random.default_rng(0)
    return {
        "x_train": random.integers(0, 256, (200, 28, 28), np.uint8),
        "y_train": np.arange(200, dtype=np.uint8) % 10,
        "x_test": random.integers(0, 256, (20, 28, 28), np.uint8),
        "y_test": np.arange(20, dtype=np.uint8) % 10,
    }


@pytest.mark.parametrize(
    ("source", "shape", "classes"),
    [
        ("digits8x8", (1797, 28, 28), 10),
        ("iris", (150, 4), 3),
        ("wine", (178, 13), 3),
        ("breast_cancer", (569, 30), 2),
    ],
)
def test_a_named_source_has_labeled_samples(source, shape, classes):
    dataset = load_dataset(source)
    assert dataset.inputs.shape == shape
    assert len(dataset.labels) == classes
    assert set(dataset.targets) == set(range(classes))
    assert len(dataset.columns) == (shape[1] if dataset.kind == "rows" else 0)


def test_digits_keep_their_ink_when_enlarged():
    import sklearn.datasets

    small = sklearn.datasets.load_digits().images
    large = load_dataset("digits8x8").inputs
    np.testing.assert_allclose(
        large.mean(axis=(1, 2)) / 255, small.mean(axis=(1, 2)) / 16, atol=0.03
    )


def test_an_npz_keeps_its_own_test_split(mnist_arrays, tmp_path):
    np.savez(tmp_path / "own.npz", **mnist_arrays)
    dataset = load_dataset(str(tmp_path / "own.npz"))
    splits = split_dataset(dataset, seed=0)
    np.testing.assert_array_equal(dataset.inputs[splits.test], mnist_arrays["x_test"])
    np.testing.assert_array_equal(dataset.targets[splits.test], mnist_arrays["y_test"])
    assert len(splits.train) + len(splits.validation) == 200


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_an_npz_keeps_its_own_validation_split(name, mnist_arrays, tmp_path):
    own = {f"x_{name}": mnist_arrays["x_test"][::-1], f"y_{name}": mnist_arrays["y_test"][::-1]}
    np.savez(tmp_path / "own.npz", **own, **mnist_arrays)
    dataset = load_dataset(str(tmp_path / "own.npz"))
    splits = split_dataset(dataset, seed=0)
    assert len(splits.train) == 200
    for split, arrays in ((splits.validation, (*own.values(),)), (splits.test, None)):
        images, targets = arrays or (mnist_arrays["x_test"], mnist_arrays["y_test"])
        np.testing.assert_array_equal(dataset.inputs[split], images)
        np.testing.assert_array_equal(dataset.targets[split], targets)


def test_an_npz_without_test_arrays_is_split(mnist_arrays, tmp_path):
    own = {name: array for name, array in mnist_arrays.items() if "train" in name}
    np.savez(tmp_path / "own.npz", **own)
    splits = split_dataset(load_dataset(str(tmp_path / "own.npz")), seed=0)
    assert (len(splits.test), len(splits.validation)) == (40, 16)
    validation = {"x_val": mnist_arrays["x_test"], "y_val": mnist_arrays["y_test"]}
    np.savez(tmp_path / "own.npz", **own, **validation)
    splits = split_dataset(load_dataset(str(tmp_path / "own.npz")), seed=0)
    assert (len(splits.test), splits.validation.tolist()) == (40, [*range(200, 220)])


NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


def texts_of(name):
    return {f"y_{split}": name(np.arange(count)) for split, count in (("train", 200), ("test", 20))}


@pytest.mark.parametrize("encode", [lambda texts: texts, np.strings.encode])
def test_texts_of_an_npz_are_names_of_classes(encode, mnist_arrays, tmp_path):
    own = {k: encode(NAMES[v]) if k[0] == "y" else v for k, v in mnist_arrays.items()}
    np.savez(tmp_path / "own.npz", **own)
    dataset = load_dataset(str(tmp_path / "own.npz"))
    targets = np.concatenate([mnist_arrays["y_train"], mnist_arrays["y_test"]])
    assert dataset.labels == tuple(sorted(NAMES.tolist()))
    assert [dataset.labels[n] for n in dataset.targets] == NAMES[targets].tolist()
    np.savez(tmp_path / "own.npz", **own, class_names=NAMES)  # in this order
    dataset = load_dataset(str(tmp_path / "own.npz"))
    assert dataset.labels == tuple(NAMES.tolist())
    np.testing.assert_array_equal(dataset.targets, targets)


@pytest.mark.parametrize("encode", [lambda texts: texts, np.strings.encode])
def test_an_npz_may_name_the_classes_of_its_numbers(encode, mnist_arrays, tmp_path):
    np.savez(tmp_path / "own.npz", **mnist_arrays, class_names=encode(NAMES))
    dataset = load_dataset(str(tmp_path / "own.npz"))
    assert dataset.labels == tuple(NAMES.tolist())
    np.testing.assert_array_equal(dataset.targets[:200], mnist_arrays["y_train"])


@pytest.mark.parametrize("position", range(100, 1000, 60))
def test_a_damaged_npz_is_read_or_refused(position, mnist_arrays, tmp_path):
    path = tmp_path / "own.npz"
    np.savez_compressed(path, **{k: v[:30] for k, v in mnist_arrays.items()})
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert load_dataset(str(path)).kind == "images"


def test_an_array_that_is_renamed_to_npz_is_refused(tmp_path):
    with (tmp_path / "own.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="cannot be read as an .npz of plain arrays"):
        load_dataset(str(tmp_path / "own.npz"))


def test_images_of_another_size_are_resized_to_28x28(mnist_arrays, tmp_path):
    arrays = {k: v[:, :20, :16] if k[0] == "x" else v for k, v in mnist_arrays.items()}
    np.savez(tmp_path / "small.npz", **arrays)
    assert load_dataset(str(tmp_path / "small.npz")).inputs.shape == (220, 28, 28)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_test": None}, "must hold the arrays .*y_test is missing"),
        ({"x_train": np.zeros((200, 28, 28), "float32")}, "x_train .* must be uint8.*float32"),
        ({"x_train": np.zeros((200, 784), "uint8")}, r"x_train .* must be uint8.*\(200, 784\)"),
        ({"y_train": np.zeros(199, "uint8")}, r"y_train .* shape \(200,\).*\(199,\)"),
        ({"y_train": np.zeros(200, "float32")}, "y_train .* whole numbers.*float32"),
        ({"y_train": np.full(200, -1)}, "labels .* from 0 to 999. Received: -1"),
        ({"x_test": np.zeros((20, 8, 8), "uint8")}, "images of one size"),
        ({"x_test": np.zeros((0, 28, 28), "uint8")}, "x_test .* at least one image"),
        (
            {"y_train": np.array([0] * 199 + [1]), "y_test": np.arange(20) % 2},
            "sample of each class.*220 samples of 2 classes, 11 of .* of which 10%",
        ),
        ({"x_val": np.zeros((5, 28, 28), "uint8")}, "must hold the arrays .*y_val is missing"),
        (
            {f"{a}_{n}": np.zeros(5, "uint8") for a in "xy" for n in ("val", "valid")},
            "one validation split. Received: x_val and x_valid",
        ),
        ({"y_train": np.array([{}] * 200)}, "cannot be read as an .npz of plain arrays"),
        ({"y_test": np.array(["1"] * 20)}, "both be whole numbers, or both texts. Received: .*<U1"),
        (
            {"class_names": np.arange(10)},
            r"class_names .* must be texts \(classes,\). Received: int",
        ),
        ({"class_names": NAMES[:9]}, "name for each class, from 0 on. Received: 9 .* label 9"),
        ({"class_names": NAMES[[0, *range(9)]]}, "different names. Received: 'zero' twice"),
        ({"class_names": np.array([*NAMES, ""])}, "different names. Received: an empty one"),
        ({"class_names": np.array([*NAMES, "ten"])}, "must have samples. Received: none of 'ten'"),
        (texts_of(lambda n: NAMES[0 * n]), "texts of 2 to 1,000 classes. Received: 1 different"),
        (texts_of(lambda n: NAMES[:2][n % 2]) | {"class_names": NAMES[1:]}, "without 'zero'"),
        (texts_of(lambda n: np.array(["", "a"])[n % 2]), "classes. Received: an empty text"),
        (texts_of(lambda n: np.array([b"\xff", b"a"])[n % 2]), r"must be UTF-8. Received: b'.xff'"),
    ],
)
def test_an_npz_without_the_expected_arrays_is_refused(change, message, mnist_arrays, tmp_path):
    arrays = {k: v for k, v in {**mnist_arrays, **change}.items() if v is not None}
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(DataError, match=message):
        split_dataset(load_dataset(str(tmp_path / "wrong.npz")), seed=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.npz", b"PK\x03\x04 cut", "an .npz of plain arrays: the file is damaged or cut off"),
        ("empty.npz", b"", "cannot be read as an .npz of plain arrays"),
        ("text.npz", b"hello", "cannot be read as an .npz of plain arrays"),
        ("words.data", b"a b c\n", "cannot be read as a table of numbers: "),
        ("narrow.data", b"1 0 1\n", "256 pixels and 10 labels.*Received: 3 columns"),
        ("empty.data", b"", "cannot be read as a table of numbers: an empty file"),
        ("blank.data", b" \n\n", "cannot be read as a table of numbers: an empty file"),
        ("two.data", b"0 " * 256 + b"1 1 0 0 0 0 0 0 0 0\n", "one label 1. Received: line 1"),
        ("gray.data", b"7 " * 256 + b"1 0 0 0 0 0 0 0 0 0\n", "pixels 0 or 1.*line 1"),
        (
            "rows.txt",
            b"a,b\n1,2\n",
            "one of digits8x8, .* ends in .csv, .tsv, .parquet, .npz or .data",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_dataset(str(tmp_path / name))


def test_an_unknown_source_is_refused_with_a_suggestion():
    with pytest.raises(DataError, match="Received: 'irish'. Did you mean 'iris'"):
        load_dataset("irish")


@pytest.mark.parametrize("source", ["", "+", "iris+"])
def test_a_source_without_a_name_is_refused(source):
    with pytest.raises(DataError, match="must have a name. Received: "):
        load_dataset(source)


@pytest.mark.parametrize("source", ["x" * 300, "+".join(["part-0000000001.csv"] * 40)])
def test_names_too_long_for_a_file_are_refused(source):
    with pytest.raises(DataError, match="does not exist|Received: 'xxx"):
        load_dataset(source)


def test_names_that_are_not_utf8_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"Names must be UTF-8. Received: 'caf\\udce9.csv'"):
        load_dataset("caf\udce9.csv")


def test_joined_sources_in_a_folder_with_the_separator_are_refused(tmp_path, monkeypatch):
    (tmp_path / "c++").mkdir()
    monkeypatch.chdir(tmp_path / "c++")
    with pytest.raises(DataError, match="must be in folders without '\\+'"):
        absolute_source("digits8x8+more.csv")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"does not exist .* Received: .*none\.npz"):
        load_dataset(str(tmp_path / "none.npz"))


def test_mnist_and_semeion_are_read_completely(data_folder):
    mnist = load_dataset(str(data_folder / "mnist.npz"))
    assert (len(mnist.inputs), mnist.test_start, mnist.kind) == (70_000, 60_000, "images")
    semeion = load_dataset(str(data_folder / "semeion.data"))
    assert semeion.inputs.shape == (1593, 28, 28)
    assert np.bincount(semeion.targets).min() >= 155


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(12, 40), min_size=2, max_size=5))
def test_splits_never_overlap_and_hold_every_class(seed, sizes):
    targets = np.repeat(np.arange(len(sizes)), sizes)
    dataset = Dataset(
        source="own",
        inputs=np.zeros((len(targets), 2), "float32"),
        targets=targets,
        labels=tuple("abcde"[: len(sizes)]),
    )
    splits = split_dataset(dataset, seed)
    parts = [splits.train, splits.validation, splits.test]
    assert sorted(np.concatenate(parts)) == list(range(len(targets)))
    assert set(targets[splits.train]) == set(targets[splits.test]) == set(range(len(sizes)))
    again = split_dataset(dataset, seed)
    np.testing.assert_array_equal(splits.test, again.test)


def test_many_classes_of_few_samples_are_told_a_fraction_that_has_one_of_each():
    def of(each, classes=30):
        targets = np.repeat(np.arange(classes), each)
        inputs = np.zeros((len(targets), 2), "float32")
        labels = tuple(f"class {number}" for number in range(classes))
        return Dataset(source="own", inputs=inputs, targets=targets, labels=labels)

    message = r"of which 10% are to be split off. Set validation_split=0.25, which"
    with pytest.raises(DataError, match=message):
        split_dataset(of(5), 0)
    splits = split_dataset(of(5), 0, validation=0.25)
    assert len(splits.validation) == 30
    with pytest.raises(DataError, match=r"of which 20% .* Add samples, or leave rare classes out"):
        split_dataset(of(4), 0)


def test_a_training_pipeline_shuffles_each_epoch_differently_and_depends_on_the_seed():
    numbers = np.arange(100, 150)
    indices = np.arange(40)

    def epoch(number, seed):
        pipeline = TrainingPipeline([numbers, -numbers], indices, 16, seed)
        pipeline.epoch = number
        assert len(pipeline.batches) == 3
        batches = list(pipeline.batches.as_numpy_iterator())
        assert [len(x) for x, _ in batches] == [16, 16, 8]
        assert all((x == -y).all() for x, y in batches)
        return np.concatenate([x for x, _ in batches]).tolist()

    assert sorted(epoch(0, seed=1)) == numbers[:40].tolist()
    assert epoch(0, seed=1) == epoch(0, seed=1)
    assert epoch(0, seed=1) != epoch(1, seed=1)
    assert epoch(0, seed=1) != epoch(0, seed=2)


def test_a_training_pipeline_measures_how_long_its_reader_waits():
    class Slow:
        dtype, shape = np.dtype("int64"), (40,)

        def __getitem__(self, indices):
            time.sleep(0.05)
            return indices

    def waited(array):
        pipeline = TrainingPipeline([array], np.arange(40), 10, 0)
        list(pipeline.batches)
        return pipeline.wait.seconds

    assert 0.1 < waited(Slow()) < 1
    assert waited(np.arange(40)) < 0.1


def test_batches_are_read_ahead_of_a_deterministic_training():
    class Counted:
        dtype, shape = np.dtype("int64"), (40,)

        def __getitem__(self, indices):
            read.append(indices)
            return indices

    read = []
    seed_everything(0)
    batches = iter(TrainingPipeline([Counted()], np.arange(40), 10, 0).batches)
    next(batches)
    wait_until(lambda: len(read) > 1)
    assert len(list(batches)) == 3


def test_an_evaluation_pipeline_keeps_the_order():
    numbers, indices = np.arange(20), np.arange(5, 15)
    pipeline = evaluation_pipeline([numbers, numbers], indices, batch_size=4)
    batches = list(pipeline.as_numpy_iterator())
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), indices)


def test_the_checksum_changes_with_a_single_pixel():
    images = np.zeros((3, 28, 28), "uint8")
    changed = images.copy()
    changed[1, 2, 3] = 1
    one, other = (
        Dataset(source="own", inputs=x, targets=np.arange(3), labels=("a", "b", "c"))
        for x in (images, changed)
    )
    assert one.sha256() != other.sha256()
