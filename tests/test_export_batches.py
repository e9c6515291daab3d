"""Models whose batch must stay whole: proven, verified, predicted and served as such."""

import shutil

import keras
import numpy as np
import pytest
from keras import layers, ops
from live import start

from app.batch import Job, predict_here, run_job
from app.errors import BatchError
from export import ExportError, ExportOptions, export_bundle
from export.batches import with_observed_batch
from export.inference import trace_inference
from export.samples import with_edge_cases
from serving import Predictor, verify_bundle
from serving.errors import InputError
from serving.server import Settings
from serving.versions import find_version


def similarities():
    """Like CLIP: each image beside each text; and a mean over the batch, without any axis."""
    image, text = keras.Input((4,), name="image"), keras.Input((5,), name="text")
    logits = ops.matmul(layers.Dense(3)(image), ops.transpose(layers.Dense(3)(text)))
    return keras.Model([image, text], {"logits": logits, "mean": ops.mean(logits)})


def centered():
    """Rows that depend on the other rows."""
    x = keras.Input((4,), name="x")
    y = layers.Dense(3)(x)
    return keras.Model(x, {"centered": y - ops.mean(y, axis=0)})


def guided():
    """A number of the first sample counts for all, as in diffusion models."""
    x, scale = keras.Input((4,), name="x"), keras.Input((), name="scale")
    return keras.Model([x, scale], layers.Dense(3)(x) * scale[0])


class Counted(keras.Model):
    """A call that needs the number of samples."""

    def __init__(self):
        super().__init__()
        self.out = layers.Dense(3)

    def call(self, x):
        return ops.stack([self.out(x[n : n + 1])[0] * n for n in range(x.shape[0])])


def counted():
    model = Counted()
    model(np.zeros((3, 4), "float32"))
    return model


def floats(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A folder of bundles, and their models by name."""
    folder = tmp_path_factory.mktemp("dist")
    models = {"similarities": similarities(), "centered": centered(), "counted": counted()}
    models["guided"] = guided()
    for name, model in models.items():
        export_bundle(model, folder, name)
    return folder, models


@pytest.mark.parametrize(
    ("name", "shapes", "sizes"),
    [
        ("similarities", [("batch", "batch"), ()], {1, 2, 7, 64}),
        ("centered", [("batch", 3)], {1, 2, 7, 64}),
        ("counted", [(3, 3)], {3}),
        ("guided", [("batch", 3)], {1, 2, 7, 64}),
    ],
)
def test_each_batch_is_proven_by_itself_and_verified_as_a_whole(bundles, name, shapes, sizes):
    folder, _ = bundles
    with Predictor.load(folder / name) as predictor:
        manifest = predictor.manifest
    assert manifest.whole_batches
    assert [spec.shape for spec in manifest.outputs] == shapes
    assert {parity.batch_size for parity in manifest.proof.parity} == sizes
    checks = verify_bundle(folder / name)
    assert all(check.passed for check in checks)
    assert f"whole golden batches of {max(sizes)}" in checks[2].detail


def test_a_large_batch_is_predicted_in_one_call(bundles):
    folder, models = bundles
    image, text, x = floats(600, 4), floats(600, 5), floats(600, 4)
    with Predictor.load(folder / "similarities") as predictor:
        predictor.warm_up()
        found = predictor.predict({"image": image, "text": text}).outputs
    wanted = models["similarities"]([image, text])
    np.testing.assert_allclose(found["logits"], wanted["logits"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["mean"], wanted["mean"], atol=1e-5)
    with Predictor.load(folder / "centered") as predictor:
        found = predictor.predict(x).outputs["centered"]
    np.testing.assert_allclose(found, models["centered"](x)["centered"], atol=1e-5)


def test_a_batch_that_is_fixed_takes_no_other_number_of_samples(bundles):
    folder, models = bundles
    with Predictor.load(folder / "counted") as predictor:
        assert predictor.manifest.batch_size == 3
        predictor.warm_up()
        x = floats(3, 4)
        (found,) = predictor.predict(x).arrays
        np.testing.assert_allclose(found, models["counted"](x), atol=1e-6)
        with pytest.raises(InputError, match=r"x must have shape \(3, 4\). .* shape=\(2, 4\)"):
            predictor.predict(x[:2])
    card = (find_version(folder / "counted") / "README.md").read_text()
    assert "The batch is fixed: each call takes exactly 3 samples." in card
    assert "np.zeros((3, 4)" in card


def test_the_server_never_joins_requests_for_whole_batches(bundles):
    folder, _ = bundles
    client, stop = start(Settings(folder, log_requests=False))
    try:
        x = floats(3, 4).tolist()
        status, answer = client.post("/v1/models/centered:predict", {"instances": x})
        assert status == 200
        np.testing.assert_allclose(np.mean(answer["predictions"], axis=0), 0, atol=1e-6)
        both = {"image": x, "text": floats(3, 5).tolist()}
        status, answer = client.post("/v1/models/similarities:predict", {"inputs": both})
        assert status == 200
        assert np.shape(answer["outputs"]["logits"]) == (3, 3)
        rows = [{"image": i, "text": t} for i, t in zip(*both.values(), strict=True)]
        status, answer = client.post("/v1/models/similarities:predict", {"instances": rows})
        assert (status, answer["error"]) == (
            400,
            "instances need outputs with a row for each. Received: mean float32 []. "
            "Send inputs instead.",
        )
        status, answer = client.post("/v1/models/counted:predict", {"instances": x[:2]})
        assert status == 400
        assert "must have shape [3, 4]" in answer["error"]
        _, config = client.get("/v2/models/similarities/config")
        assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, [-1, 4])
    finally:
        stop()
    text = (folder / "similarities" / "config.pbtxt").read_text()
    assert "max_batch_size: 0" in text
    assert "dynamic_batching" not in text


def test_a_batch_job_refuses_whole_batches(bundles, tmp_path):
    folder, _ = bundles
    np.save(tmp_path / "x.npy", floats(6, 4))
    job = Job(folder / "centered", str(tmp_path / "x.npy"), tmp_path / "out")
    with pytest.raises(BatchError, match="depends on all samples of a call"):
        run_job(job, predict_here, print)


@pytest.mark.parametrize("is_sequential", [False, True])
def test_a_batch_that_keras_only_noted_may_have_any_size(is_sequential, tmp_path):
    x = keras.Input((4,), batch_size=8, name="pixels")
    out = layers.Dense(3)
    model = keras.Sequential([x, out]) if is_sequential else keras.Model(x, out(x))
    with Predictor.load(export_bundle(model, tmp_path, "noted")) as predictor:
        assert [spec.shape for spec in predictor.manifest.inputs] == [("batch", 4)]
        assert predictor.manifest.inputs[0].name == "pixels"
        assert not predictor.manifest.whole_batches
    shutil.rmtree(tmp_path / "noted")


def test_int8_needs_samples_one_by_one(tmp_path):
    with pytest.raises(ExportError, match="int8 needs a model that takes samples one by one"):
        export_bundle(centered(), tmp_path, "m", options=ExportOptions(int8="always"))
    assert not (tmp_path / "m").exists()


def test_inputs_of_different_batches_are_refused(tmp_path):
    first, second = keras.Input((4,), name="first", batch_size=2), keras.Input((4,), name="second")
    model = keras.Model([first, second], ops.reshape(first, (2, 4)) + second)
    with pytest.raises(ExportError, match="All inputs must begin with the batch"):
        export_bundle(model, tmp_path, "m")


def first_of(scale, place=0):
    """Return a model that multiplies by a number of one sample, which all samples given share."""
    x = keras.Input((4,), name="x")
    given = keras.Input(scale.shape[1:], dtype=scale.dtype, name="s")
    number = ops.cast(given, "float32")[place]
    number = number[0] if scale.ndim > 1 else number
    return keras.Model([x, given], layers.Dense(3)(x) * number + number)


def own_of(scale):
    """Return a model that multiplies each sample by its own number."""
    x = keras.Input((4,), name="x")
    given = keras.Input(scale.shape[1:], dtype=scale.dtype, name="s")
    numbers = ops.cast(given, "float32")
    numbers = numbers[:, 0] if scale.ndim > 1 else numbers
    return keras.Model([x, given], layers.Dense(3)(x) * numbers[:, None])


@pytest.mark.parametrize(
    ("scale", "place"),
    [
        (np.full(16, 3, "float32"), 0),
        (np.full(16, -1, "float32"), 0),
        (np.full(16, 3, "float32"), -1),
        (np.full(16, 3, "int32"), 0),
        (np.stack([np.full(16, 3), np.arange(16)], axis=1).astype("float32"), 0),
        (np.full(1, 3, "float32"), 0),
    ],
    ids=["constant", "negative", "last", "integer", "column", "single"],
)
def test_a_number_for_all_samples_is_found_where_it_is_the_same_in_those_given(scale, place):
    inference = trace_inference(first_of(scale, place))
    samples = with_edge_cases({"x": floats(len(scale), 4), "s": scale}, "given")
    assert with_observed_batch(inference, samples.inputs).whole_batches
    by_row = trace_inference(own_of(scale))
    assert not with_observed_batch(by_row, samples.inputs).whole_batches


def test_edge_cases_that_keras_refuses_are_left_out(tmp_path):
    x = keras.Input((2,), dtype="int32", name="x")
    model = keras.Model(x, {"quotient": x[:, 0] // x[:, 1]})
    samples = np.array([[7, 2], [-7, 2], [7, -3], [-9, -4], [9, 4]], "int32")
    bundle = export_bundle(model, tmp_path, "quotients", samples=samples)
    with Predictor.load(bundle) as predictor:
        np.testing.assert_array_equal(predictor.predict(samples).arrays[0], [3, -4, -3, 2, 2])
