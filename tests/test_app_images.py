"""Images as data: folders with splits, CSV files of paths, sizes and colors."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image
from test_app_resume import Notes

from app.config import make_config
from app.config.chosen_defaults import choose_defaults
from app.config.reading_config import ReadingConfig
from app.data.image_files import choose_shape
from app.data.reading_progress import observed_reading
from app.data.sources import load_dataset
from app.data.splits import split_dataset
from app.errors import ConfigError, DataError
from app.runs.train import load_run_data
from serving.images import fit_and_pad

COLORS = {"green": (40, 160, 60), "red": (200, 40, 50)}


def draw(path, color, size=(20, 20)):
    """Write an image of one color."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


@pytest.fixture
def folder(tmp_path):
    """Five images of each of two colors in a subfolder for each."""
    for name, color in COLORS.items():
        for number in range(5):
            draw(tmp_path / "colors" / name / f"{number}.png", color)
    return tmp_path / "colors"


def read(source, **reading):
    return load_dataset(str(source), ReadingConfig(**reading), has_digits=False)


def test_images_keep_their_color(folder):
    dataset = read(folder)
    assert dataset.inputs.shape == (10, 20, 20, 3)
    assert (dataset.inputs[:][0] == COLORS["green"]).all()
    assert (dataset.inputs[:][9] == COLORS["red"]).all()


def test_images_are_gray_if_all_files_are(folder):
    for path in folder.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert read(folder).inputs.shape == (10, 20, 20, 1)
    draw(folder / "red" / "0.png", COLORS["red"])
    assert read(folder).inputs.shape == (10, 20, 20, 3)


def test_gray_scans_that_are_stored_in_color_are_gray(folder):
    random, notes = np.random.default_rng(0), Notes()
    for path in folder.rglob("*.png"):
        levels = random.integers(0, 256, (60, 40), np.uint8)
        Image.fromarray(levels).convert("RGB").save(path.with_suffix(".jpg"), quality=60)
        path.unlink()
    with observed_reading(notes):
        dataset = read(folder)
    assert dataset.inputs.shape[-1] == 1
    assert "All images are gray, though some are stored in color" in notes.lines[0]
    config = choose_defaults(make_config("features"), 10, dataset.sample_shape)
    assert not config.training.augmentation.flip  # nobody reads writing in a mirror
    draw(folder / "red" / "9.png", (200, 180, 190))
    assert read(folder).inputs.shape[-1] == 3


@pytest.mark.parametrize(
    ("size", "side"),
    [((5, 3), 16), ((18, 18), 20), ((40, 30), 32), ((70, 70), 64), ((500, 300), 96)],
)
def test_the_size_follows_from_the_files(tmp_path, size, side):
    for name, color in COLORS.items():
        draw(tmp_path / name / "1.png", color, size)
    assert read(tmp_path).inputs.shape == (2, side, side, 3)


def test_the_size_can_be_set(folder):
    assert read(folder, image_size=(24,)).inputs.shape == (10, 24, 24, 3)
    assert read(folder, image_size=(24, 40)).inputs.shape == (10, 24, 40, 3)
    assert load_dataset("digits8x8", ReadingConfig(image_size=(9,)), has_digits=False).inputs.shape
    with pytest.raises(DataError, match="image_size applies to images only. Received: iris"):
        load_dataset("iris", ReadingConfig(image_size=(9,)))
    with pytest.raises(ConfigError, match="of 1 to 1,024 pixels. Received: image_size=2000"):
        make_config("features", {"image_size": "2000"})


def test_subfolders_of_splits_are_the_splits(folder, tmp_path):
    for split, numbers in (("train", (0, 1, 2)), ("val", (3,)), ("test", (4,))):
        for name in COLORS:
            for number in numbers:
                target = tmp_path / "splits" / split / name / f"{number}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / name / f"{number}.png", target)
    splits = split_dataset(read(tmp_path / "splits"), seed=0)
    assert splits.train.tolist() == [0, 1, 2, 3, 4, 5]
    assert splits.validation.tolist() == [6, 7]
    assert splits.test.tolist() == [8, 9]
    shutil.rmtree(tmp_path / "splits" / "val")
    splits = split_dataset(read(tmp_path / "splits"), seed=0, validation=0.34)
    assert splits.test.tolist() == [6, 7]
    assert sorted([*splits.train, *splits.validation]) == [0, 1, 2, 3, 4, 5]


def test_without_a_test_split_the_test_images_are_those_of_training(folder, tmp_path):
    for name in COLORS:
        shutil.copytree(folder / name, tmp_path / "splits" / "train" / name)
        shutil.copytree(folder / name, tmp_path / "splits" / "validation" / name)
    splits = split_dataset(read(tmp_path / "splits"), seed=0)
    assert splits.validation.tolist() == list(range(10, 20))
    assert len(splits.test) == 2
    assert sorted([*splits.train, *splits.test]) == list(range(10))


def test_train_and_test_may_be_classes(tmp_path):
    for name in ("train", "test"):
        draw(tmp_path / name / "1.png", COLORS["red"])
    assert read(tmp_path).labels == ("test", "train")


def test_a_class_without_training_images_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "splits" / "train")
    draw(tmp_path / "splits" / "test" / "blue" / "1.png", (0, 0, 255))
    draw(tmp_path / "splits" / "test" / "red" / "1.png", COLORS["red"])
    with pytest.raises(DataError, match="Each class must have training images. Received: .*blue"):
        read(tmp_path / "splits")
    (tmp_path / "splits" / "more").mkdir()
    with pytest.raises(DataError, match="must have no other subfolders. Received: .*more"):
        read(tmp_path / "splits")


def table(folder, text):
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_a_csv_of_paths_holds_classes_labels_or_values(folder):
    path = table(
        folder,
        "file,kind,warm,bright,weight\n"
        "green/0.png,leaf,no,yes,1.5\n"
        "red/0.png,rose,yes,no,2.5\n"
        "red/1.png,rose,yes,yes,3.5\n",
    )
    classes = read(path, image_column="file", target=("kind",))
    assert classes.labels == ("leaf", "rose")
    assert classes.targets.tolist() == [0, 1, 1]
    assert (classes.inputs[:][1] == COLORS["red"]).all()
    reading = ReadingConfig(image_column="file", target=("warm", "bright"))
    labels = load_dataset(str(path), reading, "multilabel", has_digits=False)
    assert labels.targets.tolist() == [[0, 1], [1, 0], [1, 1]]
    settings = {"image_column": "file", "target": "weight", "head": "linear"}
    values = load_run_data(make_config("features", settings, data=path))
    assert values.targets.tolist() == [[1.5], [2.5], [3.5]]
    assert values.kind == "images"
    assert values.target_units == {}
    path.write_text(path.read_text().replace(".5\n", ".5 kg\n"))
    values = load_run_data(make_config("features", settings, data=path))
    assert (values.targets.tolist(), values.target_units) == (
        [[1.5], [2.5], [3.5]],
        {"weight": "kg"},
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",leaf", "Each line must name an image. Received: an empty 'file' in line 3"),
        ("red/1.png,", "Each sample must have a target. Received: kind=''.* in line 3"),
        ("red/9.png,leaf", "Every image of .* must be readable. Received: 1 .*9.png"),
    ],
)
def test_a_wrong_line_of_a_csv_of_paths_is_named(folder, line, message):
    path = table(folder, f"file,kind\ngreen/0.png,rose\n{line}\nred/0.png,leaf\n")
    with pytest.raises(DataError, match=message):
        read(path, image_column="file", target=("kind",))


def test_the_image_column_must_exist_and_needs_a_csv(folder):
    path = table(folder, "file,kind\ngreen/0.png,leaf\n")
    with pytest.raises(DataError, match="must have the column 'path'"):
        read(path, image_column="path", target=("kind",))
    with pytest.raises(DataError, match="A target cannot be the image column. Received: 'kind'"):
        read(path, image_column="kind", target=("kind",))
    with pytest.raises(DataError, match="image_column applies to tables only"):
        read(folder, image_column="file")


def write_images(path, files, labels, schema=None):
    """Write a parquet file that holds images, as data sets of Hugging Face do and as bare bytes."""
    rows = [
        {"image": {"bytes": content, "path": file.name}, "photo": content, "kind": label}
        for file, label in zip(files, labels, strict=True)
        for content in [file.read_bytes()]
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=3)
    return path


@pytest.fixture
def several(tmp_path):
    """Images of which each needs another decoding, and the CSV file that names them."""
    folder, random = tmp_path / "several", np.random.default_rng(0)
    folder.mkdir()
    pixels = random.integers(0, 256, (24, 16, 3), np.uint8)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(folder / "turned.jpg", exif=turned)
    alpha = np.dstack([pixels, pixels[..., 0]])
    Image.fromarray(alpha).save(folder / "alpha.png")
    Image.fromarray(pixels).convert("CMYK").save(folder / "cmyk.jpg")
    deep = random.integers(0, 2**16, (16, 16)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(pixels).save(folder / "plain.png")
    Image.fromarray(pixels).convert("P").save(folder / "palette.gif")
    files = sorted(folder.iterdir())
    names = [f"{file.name},{'ab'[number % 2]}\n" for number, file in enumerate(files)]
    return files, table(folder, f"file,kind\n{''.join(names)}")


@pytest.mark.parametrize("has_room", [True, False])
def test_images_that_parquet_holds_are_decoded_like_files(has_room, several, tmp_path, monkeypatch):
    if not has_room:  # they are decoded again whenever they are read
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    files, listed = several
    path = write_images(tmp_path / "photos.parquet", files, "ababab")
    expected = read(listed, image_column="file", target=("kind",))
    assert expected.inputs.shape == (6, 24, 24, 3)
    for column in ("image", "photo"):
        found = read(path, image_column=column, target=("kind",))
        np.testing.assert_array_equal(found.inputs[:], expected.inputs[:])
        np.testing.assert_array_equal(found.targets, expected.targets)
        assert found.labels == ("a", "b")
        assert found.files[:2] == ["photos.parquet:0", "photos.parquet:1"]


def hub_schema(*names):
    """Return the schema of a data set of Hugging Face with images and named classes."""
    features = {"image": {"_type": "Image"}, "kind": {"_type": "ClassLabel", "names": names}}
    return pa.schema(
        {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "kind": pa.int64()},
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def test_classes_of_parquet_have_the_names_that_the_hub_gives_them(several, tmp_path):
    schema = hub_schema("cat", "dog", "owl")
    path = write_images(tmp_path / "hub.parquet", several[0], [2, 0, 1, 2, 0, 1], schema)
    found = read(path, image_column="image", target=("kind",))
    assert [found.labels[number] for number in found.targets] == ["owl", "cat", "dog"] * 2
    unlabeled = write_images(tmp_path / "test.parquet", several[0], [2, 0, 1, -1, 0, 1], schema)
    with pytest.raises(DataError, match="kind=-1, which stands for no class, in row 3 of"):
        read(unlabeled, image_column="image", target=("kind",))


def test_a_file_for_testing_without_classes_is_to_be_taken_away(several, tmp_path):
    kind = {"_type": "ClassLabel", "names": ["cat", "dog"]}
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema(
        {"image": image, "kind": pa.int64()},
        metadata={"huggingface": json.dumps({"info": {"features": {"kind": kind}}})},
    )
    folder = tmp_path / "hub"
    folder.mkdir()
    write_images(folder / "train-0.parquet", several[0][:4], [0, 1, 0, 1], schema)
    write_images(folder / "test-0.parquet", several[0][4:], [-1, -1], schema)
    message = (
        "kind=-1, which stands for no class, in row 0 of .*. No row of test-0.parquet has one: take"
        " the file away, so that test images are split off from the others."
    )
    with pytest.raises(DataError, match=message):
        read(folder, image_column="image", target=("kind",))
    write_images(folder / "test-0.parquet", several[0][4:], [1, -1], schema)
    with pytest.raises(DataError, match="in row 1 of .*test-0.parquet.$"):
        read(folder, image_column="image", target=("kind",))
    (folder / "test-0.parquet").unlink()
    assert read(folder, image_column="image", target=("kind",)).targets.tolist() == [0, 1, 0, 1]


def test_images_that_parquet_names_by_their_paths_are_read_beside_it(several, tmp_path):
    files, listed = several
    expected = read(listed, image_column="file", target=("kind",))
    rows = [
        {"image": {"bytes": None, "path": f"several/{file.name}"}, "kind": "ab"[number % 2]}
        for number, file in enumerate(files)
    ]
    rows[1]["image"] = {"bytes": files[1].read_bytes(), "path": "elsewhere.png"}
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    path = tmp_path / "photos.parquet"
    pq.write_table(pa.Table.from_pylist(rows, pa.schema({"image": image, "kind": "str"})), path)
    found = read(path, image_column="image", target=("kind",))
    np.testing.assert_array_equal(found.inputs[:], expected.inputs[:])
    assert found.files[:2] == [f"several/{files[0].name}", "photos.parquet:1"]


@pytest.mark.parametrize("wrong", [3, -2])
def test_a_class_that_the_parquet_file_does_not_name_is_refused(wrong, several, tmp_path):
    labels = [2, 0, 1, wrong, 0, 1]
    path = write_images(
        tmp_path / "hub.parquet", several[0], labels, hub_schema("cat", "dog", "owl")
    )
    message = rf"that the file names, 0 to 2. Received: kind={wrong} in row 3 of .*hub.parquet\."
    with pytest.raises(DataError, match=message):
        read(path, image_column="image", target=("kind",))


def test_parquet_files_that_name_their_classes_in_another_order_are_joined_by_name(
    several, tmp_path
):
    files, folder = several[0], tmp_path / "shards"
    folder.mkdir()
    orders = {"train-0": ("cat", "dog", "owl"), "train-1": ("owl", "cat", "dog")}
    for name, order in orders.items():
        write_images(folder / f"{name}.parquet", files[:3], [0, 1, 2], hub_schema(*order))
    found = read(folder, image_column="image", target=("kind",), image_size=(24,))
    expected = ["cat", "dog", "owl", "owl", "cat", "dog"]
    assert [found.labels[number] for number in found.targets] == expected


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            hub_schema("cat", "dog", "emu"),
            "of 3 classes with owl in .* and of 3 classes with emu in",
        ),
        (hub_schema("cat", "dog"), "of 3 classes with owl in .* and of 2 classes in .*train-1"),
        (
            hub_schema("cat", "dog", "owl").remove_metadata(),
            "of 3 classes in .* and without names of classes in .*train-1",
        ),
    ],
)
def test_parquet_files_with_other_classes_are_told_apart(schema, message, several, tmp_path):
    files, folder = several[0], tmp_path / "shards"
    folder.mkdir()
    write_images(folder / "train-0.parquet", files[:2], [0, 1], hub_schema("cat", "dog", "owl"))
    write_images(folder / "train-1.parquet", files[2:4], [0, 1], schema)
    with pytest.raises(DataError, match=f"same columns and classes. Received: 'kind' .*{message}"):
        read(folder, image_column="image", target=("kind",))


def test_a_folder_of_parquet_files_has_the_splits_of_their_names(several, tmp_path):
    files, folder = several[0], tmp_path / "shards"
    folder.mkdir()
    for name, part in (("train-0", slice(2)), ("train-1", slice(2, 4)), ("test-0", slice(4, 6))):
        write_images(folder / f"{name}-of-2.parquet", files[part], "ab")
    reading = {"image_column": "image", "target": ("kind",), "image_size": (24,)}
    found, expected = (
        read(folder, **reading),
        read(several[1], **reading | {"image_column": "file"}),
    )
    np.testing.assert_array_equal(found.inputs[:], expected.inputs[:])
    assert (found.validation_start, found.test_start) == (None, 4)
    assert found.targets.tolist() == [0, 1] * 3
    assert found.files[2:5] == [
        "train-1-of-2.parquet:0",
        "train-1-of-2.parquet:1",
        "test-0-of-2.parquet:0",
    ]
    with pytest.raises(
        DataError, match="must hold images: --image-column COLUMN. Received: .*ards"
    ):
        read(folder, target=("kind",))
    files[3].write_bytes(b"no image")
    write_images(folder / "train-1-of-2.parquet", files[2:4], "ab")
    with pytest.raises(DataError, match=r"train-1-of-2\.parquet:1 cannot be read"):
        read(folder, **reading)
    write_images(folder / "train-1-of-2.parquet", files[2:4], ["a", None])
    with pytest.raises(DataError, match="a missing value, in row 1 of .*train-1-of-2.parquet"):
        read(folder, **reading)
    pq.write_table(pa.table({"photo": [b""], "kind": ["a"]}), folder / "train-1-of-2.parquet")
    with pytest.raises(
        DataError, match="same columns and classes. Received: 'image' in .*train-0.*, but not in"
    ):
        read(folder, **reading)
    write_images(folder / "more.parquet", files[:2], "ab")
    with pytest.raises(DataError, match="must begin with train, .*more.parquet in a folder of 4"):
        read(folder, **reading)


def test_the_subfolders_of_parquet_files_can_be_the_splits(several, tmp_path):
    files, folder = several[0], tmp_path / "hub" / "data"
    for name, part in (("train", slice(2)), ("test", slice(2, 4))):
        (folder / name).mkdir(parents=True)
        write_images(folder / name / "a.parquet", files[part], "abab"[part])
    reading = {"image_column": "image", "target": ("kind",), "image_size": (24,)}
    found = read(folder, **reading)
    assert (found.validation_start, found.test_start) == (None, 2)
    assert found.files[1:3] == ["train/a.parquet:1", "test/a.parquet:0"]
    for settings in (reading, {}):
        with pytest.raises(DataError, match=r"hub.*\. Did you mean .*/hub/data\?"):
            read(folder.parent, **settings)
    shutil.rmtree(folder / "train")
    with pytest.raises(DataError, match="The names of parquet .*one with train"):
        read(folder, **reading)


def test_an_image_of_parquet_that_cannot_be_read_is_named_by_its_row(several, tmp_path):
    files = several[0]
    files[3].write_bytes(b"no image")
    path = write_images(tmp_path / "photos.parquet", files, "ababab")
    with pytest.raises(DataError, match=r"1 unreadable: .*photos\.parquet:3 .*unreadable=skip"):
        read(path, image_column="image", target=("kind",))
    found = read(path, image_column="image", target=("kind",), unreadable="skip")
    assert found.files == [f"photos.parquet:{row}" for row in (0, 1, 2, 4, 5)]
    pq.write_table(pa.table({"photo": [b"", None], "kind": ["a", "b"]}), path)
    with pytest.raises(DataError, match="2 unreadable: .*; none in 'photo' of row 1 of"):
        read(path, image_column="photo", target=("kind",))


def test_an_image_that_a_table_lacks_is_left_out_on_request(several, tmp_path):
    files, listed = several
    content = files[0].read_bytes()
    path = tmp_path / "photos.parquet"
    pq.write_table(pa.table({"photo": [content, None, content], "kind": ["a", "a", "b"]}), path)
    with pytest.raises(DataError, match=r"none in 'photo' of row 1 of .* --set unreadable=skip"):
        read(path, image_column="photo", target=("kind",))
    found = read(path, image_column="photo", target=("kind",), unreadable="skip")
    assert found.files == ["photos.parquet:0", "photos.parquet:2"]
    assert "Each row must hold an image. Received: none in 'photo' of row 1" in found.skipped[0]
    listed.write_text(f"file,kind\n{files[0].name},a\n,a\n{files[1].name},b\n")
    found = read(listed, image_column="file", target=("kind",), unreadable="skip")
    assert (len(found.inputs), len(found.skipped)) == (2, 1)
    assert "an empty 'file' in line 3 of" in found.skipped[0]


def test_a_table_of_images_points_to_the_image_column(several, tmp_path):
    path = write_images(tmp_path / "photos.parquet", several[0], "ababab")
    with pytest.raises(
        DataError, match="'image', which .* its images with --image-column image, or"
    ):
        read(path, target=("kind",))


def test_images_of_different_sizes_cannot_be_joined(folder, tmp_path):
    draw(tmp_path / "large" / "red" / "1.png", COLORS["red"], (70, 70))
    draw(tmp_path / "large" / "green" / "1.png", COLORS["green"], (70, 70))
    with pytest.raises(DataError, match="must have images of one size.*Set image_size"):
        read(f"{folder}+{tmp_path / 'large'}")
    joined = read(f"{folder}+{tmp_path / 'large'}", image_size=(16,))
    assert joined.inputs.shape == (12, 16, 16, 3)


def test_gray_images_are_joined_with_those_in_color(folder, tmp_path):
    for name in ("red", "green"):
        (tmp_path / "gray" / name).mkdir(parents=True)
        Image.new("L", (20, 20), 70).save(tmp_path / "gray" / name / "1.png")
    sources = f"{folder}+{tmp_path / 'gray'}", f"{tmp_path / 'gray'}+{folder}"
    for joined, place in zip(sources, (-1, 0), strict=True):
        images = read(joined, image_size=(16,)).inputs
        assert images.shape == (12, 16, 16, 3)
        assert (images[:][place] == 70).all()


def test_targets_in_a_column_are_those_of_an_array(tmp_path):
    images, targets = np.zeros((12, 8, 8, 3), np.uint8), np.arange(12) % 2
    column = targets[:, np.newaxis]
    np.savez(tmp_path / "own.npz", x_train=images, y_train=column, x_test=images, y_test=column)
    np.testing.assert_array_equal(read(tmp_path / "own.npz").targets, [*targets, *targets])


def test_a_table_of_paths_alone_points_to_the_image_column(folder):
    path = table(folder, "file,kind\n" + "".join(f"{n}.png,{'ab'[n % 2]}\n" for n in range(30)))
    with pytest.raises(DataError, match="to learn from. Received: file, .*; --image-column file"):
        read(path, target=("kind",))


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_arrays_get_another_size_as_files_do(channels, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 20, 60, *channels), np.uint8)
    targets = np.arange(12) % 2
    np.savez(tmp_path / "a.npz", x_train=images, x_test=images, y_train=targets, y_test=targets)
    found = read(tmp_path / "a.npz", image_size=(32,)).inputs
    expected = fit_and_pad(images[0].squeeze(), (32, 32)).reshape(32, 32, -1)
    np.testing.assert_array_equal(found[0], expected)


def test_arrays_of_gray_images_with_an_axis_of_channels_may_be_digits(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28, 1), np.uint8)
    targets = np.arange(12) % 2
    np.savez(tmp_path / "a.npz", x_train=images, x_test=images, y_train=targets, y_test=targets)
    np.testing.assert_array_equal(load_dataset(str(tmp_path / "a.npz")).inputs[:12], images[..., 0])


def test_images_in_the_color_space_lab_are_in_color(tmp_path):
    bands = [Image.new("L", (9, 9), level) for level in (100, 200, 50)]
    Image.merge("LAB", bands).save(tmp_path / "lab.tif")
    assert choose_shape([tmp_path / "lab.tif"])[2] == 3


def test_arrays_in_color_are_features_but_no_digits(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    arrays = {"x_train": images, "x_test": images, "y_train": np.arange(12) % 2}
    np.savez(tmp_path / "own.npz", **arrays, y_test=arrays["y_train"])
    dataset = read(tmp_path / "own.npz")
    np.testing.assert_array_equal(dataset.inputs[:12], images)
    with pytest.raises(DataError, match="'digits' takes gray images. Received: .* 3 channels"):
        load_dataset(str(tmp_path / "own.npz"))
