"""The predictor: its predictions, its errors, and loading."""

import contextlib
import copy
import io
import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pandas
import pytest
from checksums import write_checksums
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_dtypes, array_shapes, arrays
from PIL import Image

from serving import InputError, ManifestError, Predictor, ServingError
from serving.bundle import read_checksums, version_numbers
from serving.checking import check_inputs
from serving.golden import read_golden
from serving.manifest import TensorSpec
from serving.packed import pack
from serving.server.tf_serving import read_call
from serving.session import open_session
from serving.versions import find_version


@pytest.fixture(scope="module")
def predictor(bundle):
    return Predictor.load(bundle)


@pytest.fixture(scope="module")
def row_predictor(row_bundle):
    return Predictor.load(row_bundle)


@pytest.fixture
def own_bundle(bundle, tmp_path):
    """A copy of the model's folder that a test may change."""
    return shutil.copytree(bundle.parent, tmp_path / "digits")


@pytest.mark.parametrize(("old", "new"), [("color", "texts"), ("size", "inputs")])
def test_a_column_may_have_the_name_of_an_input(old, new, raw_bundle, tmp_path):
    folder = shutil.copytree(raw_bundle[0], tmp_path / "raw" / "1")
    renamed = (folder / "manifest.json").read_text().replace(f'"{old}"', f'"{new}"')
    (folder / "manifest.json").write_text(renamed)
    model = onnx.load(folder / "model.onnx")
    for entry in model.metadata_props:
        entry.value = entry.value.replace(f'"{old}"', f'"{new}"')
    onnx.save(model, folder / "model.onnx")
    write_checksums(folder)
    predictor = Predictor.load(folder)
    columns = {"size": [1.5, None], "color": ["red", "blue"], "weight": [0.1, 2]}
    expected = Predictor.load(raw_bundle[0]).predict(columns).probabilities
    columns[new] = columns.pop(old)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for table in (columns, rows, columns | {"other": [1, 2]}):
        np.testing.assert_array_equal(predictor.predict(table).probabilities, expected)
    arrays = read_call(predictor.manifest, json.dumps({"instances": rows}).encode()).arrays
    np.testing.assert_array_equal(predictor.predict(arrays).probabilities, expected)


def test_a_prediction_has_probabilities_features_and_labels(predictor, images):
    prediction = predictor.predict(images)
    assert prediction.probabilities.shape == (12, 10)
    assert prediction.features.shape == (12, 32)
    assert prediction.labels == [str(i) for i in prediction.probabilities.argmax(axis=1)]
    assert prediction.outputs.keys() == {"probabilities", "features"}
    assert "labels=['" in repr(prediction)


def test_it_predicts_what_keras_predicted_when_the_bundle_was_made(predictor, bundle):
    """The golden outputs come from Keras."""
    specs = predictor.manifest
    inputs = read_golden(bundle, "input", specs.inputs)
    expected = read_golden(bundle, "output", specs.outputs)
    outputs = predictor.predict(inputs["image"]).outputs
    assert outputs.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(outputs[name], array, rtol=1e-4, atol=1e-5)


def test_labels_are_the_names_of_the_classes(row_predictor):
    setosa = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
    prediction = row_predictor.predict(setosa)
    assert prediction.labels == ["setosa"]
    assert prediction.features is None


def test_one_batch_gives_the_same_outputs_as_many_calls(predictor, images):
    together = predictor.predict(images).probabilities
    apart = [predictor.predict(image[np.newaxis]).probabilities[0] for image in images]
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_the_memory_layout_does_not_matter(predictor, images):
    expected = predictor.predict(images).probabilities
    for same in (np.asfortranarray(images), np.repeat(images, 2, axis=0)[::2], images[:]):
        np.testing.assert_allclose(predictor.predict(same).probabilities, expected, atol=1e-6)


def test_a_predictor_can_be_shared_by_threads(predictor, images):
    expected = predictor.predict(images).probabilities
    outputs = {}

    def work(number):
        outputs[number] = [predictor.predict(images).probabilities for _ in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outputs) == 8
    for batch in outputs.values():
        np.testing.assert_array_equal(batch, [expected] * 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.tolist(), "image must be a numpy array of uint8. Received: list. Convert"),
        (lambda _: None, "image must be a numpy array of uint8. Received: NoneType"),
        (lambda _: "digit.png", "image must be a numpy array of uint8. Received: str"),
        (lambda x: x.astype("float32"), "of uint8. Received: float32. Scale it to 0..255, and"),
        (lambda x: x.astype(bool), "Received: bool"),
        (lambda x: x.astype(object), "Received: object"),
        (lambda x: x[0], r"shape \(batch, 28, 28\). Received: shape=\(28, 28\). Add the batch"),
        (lambda x: x[..., np.newaxis], r"Received: shape=\(12, 28, 28, 1\)"),
        (lambda x: x[:, :27], r"Received: shape=\(12, 27, 28\)"),
        (lambda _: np.uint8(3) + np.zeros((), "uint8"), r"Received: (shape=\(\)|uint8)"),
        (lambda x: x[:0], r"at least one sample. Received: shape=\(0, 28, 28\)"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(change, message, predictor, images):
    with pytest.raises(InputError, match=message) as caught:
        predictor.predict(change(images))
    assert isinstance(caught.value, ServingError)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [(1,), (1, "image"), (None, "a\nb"), ((1, 2),)])
def test_unknown_input_names_are_refused(names, predictor, images):
    with pytest.raises(InputError, match=r"Inputs must be image. Received: [^\n]*\Z"):
        predictor.predict(dict.fromkeys(names, images))


def test_a_masked_array_is_refused(predictor, images):
    masked = np.ma.masked_array(images, mask=True)
    for inputs in (masked, list(masked), {"image": masked}):
        with pytest.raises(InputError, match="without a mask. Received: .*filled"):
            predictor.predict(inputs)


def test_a_text_that_utf8_cannot_encode_is_refused():
    spec = TensorSpec("texts", "string", ("batch", 1))
    for dtype in (object, None):
        texts = np.array([["é"], ["a\ud800"]], dtype)
        with pytest.raises(InputError, match=r"without lone surrogates. Received: 'a\\ud800'"):
            check_inputs({"texts": texts}, [spec])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_with_their_index(value, row_predictor):
    rows = np.ones((5, 4), np.float32)
    rows[3, 2] = rows[4, 0] = value
    with pytest.raises(InputError, match=rf"inputs must be finite. .*{value} at \(3, 2\), and 1"):
        row_predictor.predict(rows)


def test_large_finite_numbers_are_accepted(row_predictor):
    rows = np.full((2, 4), 3e38, np.float32)
    assert len(row_predictor.predict(rows).labels) == 2


def test_too_many_columns_are_refused(row_predictor):
    with pytest.raises(InputError, match=r"shape \(batch, 4\). Received: shape=\(1, 5\)"):
        row_predictor.predict(np.ones((1, 5), np.float32))


def test_another_byte_order_is_refused(row_predictor):
    with pytest.raises(InputError, match="Received: >f4"):
        row_predictor.predict(np.ones((1, 4), ">f4"))


def test_an_equal_dtype_that_is_another_object_is_accepted(row_predictor):
    dtype = np.dtype(np.float32, metadata={"unit": "cm"})
    assert dtype is not np.dtype(np.float32)
    row_predictor.predict(np.ones((1, 4), dtype))


@given(
    array_dtypes(max_size=2) | st.sampled_from(["uint8", "float32", "int64"]),
    array_shapes(min_dims=0, max_dims=4, max_side=4),
)
def test_any_array_is_predicted_or_refused_with_one_line(row_bundle_predictor, dtype, shape):
    fits = np.dtype(dtype) == np.float32 and shape[1:] == (4,) and shape[0] > 0
    with contextlib.nullcontext() if fits else pytest.raises(InputError, match=r"\A[^\n]*\Z"):
        row_bundle_predictor.predict(np.zeros(shape, dtype))


@pytest.fixture(scope="session")
def row_bundle_predictor(row_bundle):
    return Predictor.load(row_bundle)


@given(arrays(np.float32, (3, 4), elements=st.floats(width=32)))
def test_any_row_gets_probabilities_or_is_refused(row_bundle_predictor, rows):
    if np.isfinite(rows).all():
        probabilities = row_bundle_predictor.predict(rows).probabilities
        assert probabilities.shape == (3, 3)
    else:
        with pytest.raises(InputError, match="must be finite"):
            row_bundle_predictor.predict(rows)


def test_the_folder_of_a_model_selects_its_latest_version(own_bundle):
    shutil.copytree(own_bundle / "1", own_bundle / "2")
    shutil.copytree(own_bundle / "1", own_bundle / "10")
    (own_bundle / "notes").mkdir()
    (own_bundle / "011").mkdir()
    assert version_numbers(own_bundle) == [1, 2, 10]
    assert find_version(own_bundle) == own_bundle / "10"
    assert find_version(own_bundle / "2") == own_bundle / "2"


def test_a_missing_bundle_is_named(tmp_path):
    with pytest.raises(
        ManifestError,
        match=r"^A bundle must be an existing folder\. Received: [^:]*none, which does not exist\.",
    ):
        Predictor.load(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ManifestError,
        match=r"^A bundle must be a folder such .*Received: [^:]*file, which is another file\.$",
    ):
        Predictor.load(tmp_path / "file")
    with pytest.raises(ManifestError, match="must contain manifest.json, or versions"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_changed_byte_is_noticed_on_loading(name, own_bundle):
    path = own_bundle / "1" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=f"{name} must have the SHA-256 .*has changed"):
        Predictor.load(own_bundle)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "SHA256SUMS"])
def test_a_missing_file_is_refused(name, own_bundle):
    (own_bundle / "1" / name).unlink()
    with pytest.raises(ManifestError, match=f"{name} does not exist"):
        Predictor.load(own_bundle)


@pytest.mark.parametrize("text", ["", "abc", "g" * 10 + "  file\n", "0" * 64 + "  \n"])
def test_a_broken_list_of_checksums_is_refused(text, own_bundle):
    (own_bundle / "1" / "SHA256SUMS").write_text(text)
    with pytest.raises(ManifestError, match="SHA256SUMS"):
        Predictor.load(own_bundle)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no model", "must be a protobuf message"), (b"", "cannot be loaded by onnxruntime")],
)
def test_bytes_that_are_not_a_model_are_refused(content, message):
    with pytest.raises(ManifestError, match=message):
        open_session(content)


def test_the_manifest_of_another_graph_is_refused(own_bundle, row_bundle):
    import hashlib

    model = (row_bundle / "model.onnx").read_bytes()
    (own_bundle / "1" / "model.onnx").write_bytes(model)
    sums = read_checksums(own_bundle / "1") | {"model.onnx": hashlib.sha256(model).hexdigest()}
    (own_bundle / "1" / "SHA256SUMS").write_text("".join(f"{v}  {k}\n" for k, v in sums.items()))
    with pytest.raises(ManifestError, match="The inputs of model.onnx must be image"):
        Predictor.load(own_bundle)


def test_a_large_input_gives_the_same_outputs_as_its_parts(predictor, images):
    many = np.concatenate([images] * 60)
    prediction = predictor.predict(many)
    apart = [predictor.predict(many[start : start + 90]) for start in range(0, len(many), 90)]
    for place, array in enumerate(prediction.arrays):
        parts = np.concatenate([part.arrays[place] for part in apart])
        np.testing.assert_allclose(array, parts, atol=1e-6)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_invalid_numbers_of_threads_are_refused(threads, bundle):
    with pytest.raises(InputError, match=f"integer of at least 1, or None. Received: {threads!r}"):
        Predictor.load(bundle, threads=threads)


@pytest.mark.parametrize("int8", ["bogus", True, None, ["auto"]])
def test_an_unknown_int8_policy_is_refused(int8, bundle):
    with pytest.raises(InputError, match="int8 must be one of auto, always, never. Received: "):
        Predictor.load(bundle, int8=int8)


@pytest.mark.parametrize("path", [None, b"x", 3])
def test_a_bundle_that_is_not_a_path_is_refused(path):
    with pytest.raises(InputError, match=f"must be text or a Path. Received: {path!r}"):
        Predictor.load(path)


def test_a_predictor_is_closed_at_the_end_of_with(bundle, images):
    with Predictor.load(bundle) as predictor:
        predictor.predict(images)
    with pytest.raises(ServingError, match="must be open"):
        predictor.predict(images)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same_outputs(threads, bundle, images):
    many = np.concatenate([images] * 60)
    expected = Predictor.load(bundle, threads=1).predict(many)
    received = Predictor.load(bundle, threads=threads).predict(many)
    np.testing.assert_allclose(received.probabilities, expected.probabilities, atol=1e-6)


def test_a_large_input_is_run_in_bounded_memory(bundle, tmp_path):
    many = np.lib.format.open_memmap(tmp_path / "many.npy", "w+", np.uint8, (100_000, 28, 28))
    many[:] = 3
    del many
    code = """
import re, sys
from pathlib import Path
import numpy as np
from serving import Predictor
def peak():  # of this process alone, where getrusage begins with its parent's
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
predictor = Predictor.load(sys.argv[1])
images = np.load(sys.argv[2], mmap_mode="r")
predictor.predict(images[:2000])
before = peak()
outputs = predictor.predict(images)
print(peak() - before)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code, str(bundle), str(tmp_path / "many.npy")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    # Besides the pages of the file (78 MB), the outputs (17 MB) exist twice for a moment.
    assert int(finished.stdout) < 130_000


def test_a_number_that_is_not_finite_is_located_in_a_large_input(row_predictor):
    rows = np.ones((3000, 4), np.float32)
    rows[2001, 3] = np.nan
    with pytest.raises(InputError, match=r"inputs must be finite. Received: nan at \(2001, 3\)"):
        row_predictor.predict(rows)


def test_a_list_of_samples_is_a_batch(predictor, images):
    expected = predictor.predict(images).probabilities
    np.testing.assert_array_equal(predictor.predict(list(images)).probabilities, expected)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([np.zeros((28, 28), "uint8"), np.zeros((27, 28), "uint8")], r"\(27, 28\) and \(28, 28\)"),
        ([], "samples of one shape. Received: none"),
        ([np.zeros((28, 28), "float32")], "of uint8. Received: float32"),
    ],
)
def test_a_list_that_is_not_a_batch_is_refused(samples, message, predictor):
    with pytest.raises(InputError, match=message):
        predictor.predict(samples)


def as_png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_images_are_read_from_whatever_holds_them(predictor, images, tmp_path):
    digit = images[0]
    path = tmp_path / "digit.png"
    path.write_bytes(as_png(digit))
    written = io.BytesIO()
    Image.fromarray(digit).save(written, "PNG")  # and not rewound
    with path.open("rb") as file, zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "digit.png")
        sources = [
            *(path, str(path), path.read_bytes(), bytearray(as_png(digit))),
            *(memoryview(as_png(digit)), file, written, archive.open("digit.png")),
            *(Image.fromarray(digit), digit, digit[..., np.newaxis], np.asfortranarray(digit)),
            np.repeat(digit[..., np.newaxis], 3, axis=2),
            np.dstack([digit] * 3 + [np.full_like(digit, 255)]),
            digit.astype(np.uint16) * 257,
        ]
        found = predictor.predict_images(sources).probabilities
    expected = predictor.predict(digit[np.newaxis]).probabilities
    np.testing.assert_allclose(found, np.repeat(expected, len(sources), axis=0), atol=1e-6)
    (is_ink,) = predictor.predict_images([digit > 127]).labels
    assert is_ink == expected.argmax().astype(str)


def test_images_come_from_anything_that_gives_them_in_order(predictor, images):
    expected = predictor.predict(images).probabilities
    for batch in (images, tuple(images), map(as_png, images), (image for image in images)):
        np.testing.assert_array_equal(predictor.predict_images(batch).probabilities, expected)


def test_a_generator_of_images_is_read_in_parts(bundle, images):
    taken = []

    def generate():
        for number in range(300):
            taken.append(number)
            yield images[number % 12] if number != 200 else b"no image"

    with Predictor.load(bundle, threads=2) as predictor:
        with pytest.raises(InputError, match="8 bytes cannot be read as an image"):
            predictor.predict_images(generate())
        assert len(taken) == 256  # the rest has not been asked for
        many = (images[number % 12] for number in range(300))
        expected = predictor.predict(images).probabilities
        found = predictor.predict_images(many).probabilities
    np.testing.assert_allclose(found, np.concatenate([expected] * 25), atol=1e-6)


def test_images_for_a_model_of_rows_are_refused(row_predictor):
    with pytest.raises(InputError, match="a model of columns, texts or images. Received"):
        row_predictor.predict_images([b""])


@pytest.mark.parametrize("images", [[], (), iter([]), np.zeros((0, 28, 28), np.uint8)])
def test_an_empty_list_of_images_is_refused(images, predictor):
    with pytest.raises(InputError, match="at least one image. Received: none"):
        predictor.predict_images(images)


@pytest.mark.parametrize(
    "images",
    [
        *("three.png", b"png", bytearray(b"png"), None, 3, Path("three.png"), io.BytesIO(b"png")),
        *(Image.new("L", (28, 28)), np.zeros((28, 28), np.uint8), np.zeros((28, 28, 3), np.uint8)),
        *({"image": b"png"}, {b"png"}, pandas.DataFrame({"path": ["three.png"]})),
    ],
    ids=lambda images: type(images).__name__,
)
def test_images_that_are_not_in_a_list_are_refused(images, predictor):
    with pytest.raises(InputError, match=rf"in a list. Received: {type(images).__name__}\. Put a"):
        predictor.predict_images(images)


TO_255 = r"Received: an array of float32 \(28, 28\)\. Scale it to 0\.\.255, and convert it with"
NO_IMAGES = {
    "nothing": (None, r"must be a path, the bytes of a file, .*Received: NoneType\.\Z"),
    "floats": (np.zeros((28, 28), np.float32), TO_255),
    "integers": (np.zeros((28, 28), np.int64), r"an array of int64 \(28, 28\)\. Scale it to 0"),
    "deep color": (np.zeros((28, 28, 3), np.uint16), r"an array of uint16 .*Scale it to 0"),
    "channels first": (np.zeros((3, 28, 28), np.uint8), r"an array of uint8 \(3, 28, 28\)\.\Z"),
    "two channels": (np.zeros((28, 28, 2), np.uint8), r"uint8 \(28, 28, 2\)\.\Z"),
    "a row": (np.zeros(28, np.uint8), r"uint8 \(28,\)\.\Z"),
    "texts": (np.array([["a"]]), r"an array of <U1 \(1, 1\)\.\Z"),
    "no pixel": (np.zeros((0, 28), np.uint8), "at least one pixel. Received: an array of uint8"),
    "a mask": (np.ma.masked_array(np.zeros((28, 28), np.uint8)), "without a mask"),
    "broken bytes": (bytearray(b"png"), "3 bytes cannot be read as an image"),
    "text file": (io.StringIO("png"), "Received: a file object, which gives str. Open it in bin"),
    "empty file": (io.BytesIO(), "it is empty"),
}


@pytest.mark.parametrize(("image", "message"), NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_refused(image, message, predictor):
    with pytest.raises(InputError, match=message) as caught:
        predictor.predict_images([image])
    assert "\n" not in str(caught.value)


def test_a_file_object_that_cannot_be_read_is_named(predictor, tmp_path):
    file = (tmp_path / "digit.png").open("wb")
    with (
        file,
        pytest.raises(InputError, match=r"digit\.png cannot be read: UnsupportedOperation: read"),
    ):
        predictor.predict_images([file])
    with pytest.raises(InputError, match=r"digit\.png cannot be read: .*closed file"):
        predictor.predict_images([file])


def test_features_are_returned_alone(predictor, row_predictor, images):
    np.testing.assert_array_equal(predictor.features(images), predictor.predict(images).features)
    with pytest.raises(ServingError, match="an output called features. Received: softmax"):
        row_predictor.features(np.ones((1, 4), np.float32))


def test_a_closed_predictor_raises_an_error(bundle, images):
    predictor = Predictor.load(bundle)
    predictor.warm_up()
    predictor.close()
    for call in (predictor.predict, predictor.features):
        with pytest.raises(
            ServingError, match=r"must be open. Received: a closed one. Load it again"
        ):
            call(images)


def _predicted(predictor, images):
    return predictor.predict(images), predictor.precision


def test_a_pool_of_spawned_processes_takes_predictors_and_returns_predictions(
    bundle, images, monkeypatch
):
    monkeypatch.chdir(bundle.parent)
    predictor = Predictor.load("1", threads=1)
    monkeypatch.chdir("/")  # a pool may run elsewhere
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        prediction, precision = pool.submit(_predicted, predictor, images).result()
    expected = predictor.predict(images)
    np.testing.assert_array_equal(prediction.probabilities, expected.probabilities)
    assert (prediction.labels, prediction.manifest) == (expected.labels, expected.manifest)
    assert precision == predictor.precision


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_a_copy_is_of_the_same_version_and_is_closed_by_itself(make, own_bundle, images):
    predictor = Predictor.load(own_bundle)
    shutil.copytree(own_bundle / "1", own_bundle / "2")  # comes later, and fails to load
    with make(predictor) as other:
        expected = other.predict(images).probabilities
    np.testing.assert_array_equal(predictor.predict(images).probabilities, expected)


def test_a_copy_of_a_packed_file_outlives_the_process_that_unpacked_it(bundle, images, tmp_path):
    file = pack(bundle, tmp_path / "digits.hornbill")
    code = (
        "import pickle, sys; from serving import Predictor; "
        "sys.stdout.buffer.write(pickle.dumps(Predictor.load(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(file)]
    made = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[1]
    )
    assert pickle.loads(made.stdout).predict(images).probabilities.shape == (12, 10)


def test_a_copy_whose_bundle_is_gone_says_so(own_bundle):
    content = pickle.dumps(Predictor.load(own_bundle))
    shutil.rmtree(own_bundle)
    with pytest.raises(
        ManifestError, match="existing folder. Received: .*digits/1, which does not"
    ):
        pickle.loads(content)


def test_a_closed_predictor_cannot_be_copied(bundle):
    predictor = Predictor.load(bundle)
    predictor.close()
    for make in (copy.copy, pickle.dumps):
        with pytest.raises(ServingError, match="must be open. Received: a closed one"):
            make(predictor)
