"""Texts in the graph: every mode of TextVectorization answers as Keras does, token for token."""

import csv
import functools
import json
import re
import string

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from live import start

from app.batch.reading import read_rows
from app.bundles.keras_files import read_model
from export import ExportError, ExportOptions, ModelFacts, export_bundle
from export.inference import trace_inference
from export.onnx.convert import convert_to_onnx
from export.onnx.text_patterns import Pattern, read_pattern
from serving import Predictor, verify_bundle
from serving.errors import InputError
from serving.inputs import read_inputs
from serving.server import Settings
from serving.session import open_session

WITHOUT_INT8 = ExportOptions(int8="never")

WORDS = ["the", "cat", "Don't", "stop", "me", "now", "école", "ÄÖÜ", "a1", "[UNK]", "<br />", "x.y"]
CORPUS = ["The cat sat, the cat ate.", "don't stop me now", "école écolé Dont a1 b_2", "x y z xy"]
ALPHABET = st.sampled_from(
    string.punctuation + string.whitespace + "aAzZ09\x00\x1c\x85\xa0éİßǅ\u2003日"
) | st.characters(exclude_categories=["Cs"])
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(ALPHABET, max_size=8), max_size=9).flatmap(
    lambda words: st.sampled_from([" ", "", "\t ", "-", "\n"]).map(lambda sep: sep.join(words))
)


@keras.saving.register_keras_serializable()
def without_html(text):
    """Standardize as the guide on IMDB does."""
    text = tf.strings.regex_replace(tf.strings.lower(text), "<br />", " ")
    return tf.strings.regex_replace(text, r"[.,;:!?]+", " . ")


@keras.saving.register_keras_serializable()
def at_dashes(text):
    """Split at each dash, also into empty tokens."""
    return tf.strings.split(text, "-")


# Only one strips all punctuation, which takes 32 replacements.
MODES = {
    "stripped": {"ngrams": 2, "output_mode": "tf_idf"},
    "int": {"standardize": "lower"},
    "cut_bigrams": {"standardize": None, "ngrams": 2, "output_sequence_length": 5},
    "own_standardize": {"standardize": without_html, "split": at_dashes, "ngrams": (1, 3)},
    "count": {"standardize": None, "output_mode": "count"},
    "multi_hot": {"standardize": None, "output_mode": "multi_hot", "max_tokens": 30,
                  "pad_to_max_tokens": True},
    "unsplit": {"split": None, "standardize": None},
}  # fmt: skip


@functools.cache
def every_mode():
    """Return a function of texts that gives Keras' answers and those of the graph, by mode."""
    text = keras.Input((1,), dtype="string", name="text")
    answers = {}
    for mode, settings_ in MODES.items():
        layer = layers.TextVectorization(**settings_, name=f"{mode}_layer")
        layer.adapt(CORPUS)
        answers[mode] = layer(text)
    inference = trace_inference(keras.Model(text, answers))
    graph = convert_to_onnx(inference, {})
    assert next(each.version for each in graph.opset_import if not each.domain) == 20
    session = open_session(graph.SerializeToString())

    def run(texts):
        rows = np.array(texts, object)[:, None]
        names = [output.name for output in session.get_outputs()]
        received = dict(zip(names, session.run(names, {"text": rows}), strict=True))
        return inference.function(tf.constant(rows)), received

    return run


def require_same(texts):
    expected, received = every_mode()(texts)
    for mode in MODES:
        wanted = expected[mode].numpy()
        assert wanted.dtype == received[mode].dtype
        np.testing.assert_allclose(received[mode], wanted, rtol=1e-6, err_msg=f"{mode}: {texts}")


@pytest.mark.parametrize(
    "texts",
    [
        [""],
        ["", " \t\n\v\f\r "],
        ["The cat, the DOG; don't...", "x\ty\nz\x0bw\x0cq\rr", "!!!", "-a--b-", "İSTANBUL écolE"],
        ["a<br /><br />b.,!c", ".x", "..", "x;"],
        ["one two three four five six seven"],
    ],
)
def test_every_mode_of_text_vectorization_answers_as_keras(texts):
    require_same(texts)


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_any_text_gives_the_tokens_of_keras(texts):
    require_same(texts)


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(st.lists(TEXTS, min_size=25, max_size=25))
def test_ten_thousand_texts_give_the_tokens_of_keras(texts):
    require_same(texts)


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("<br />", Pattern(("<br />",))),
        (r"a\.b\n", Pattern(("a.b\n",))),
        ("[a-c_]", Pattern(("a", "b", "c", "_"))),
        (r"[\]\\\-^]+", Pattern(("]", "\\", "-", "^"), is_repeated=True)),
        ("[[:digit:]x]", Pattern((*"0123456789", "x"))),
        (r"\s+", Pattern(("\t", "\n", "\f", "\r", " "), is_repeated=True)),
        ("!+", Pattern(("!",), is_repeated=True)),
        (r"\+", Pattern(("+",))),
        ("é", Pattern(("é",))),
        *[(expression, None) for expression in (
            "[^a]", "a|b", "a*", "ab+", ".", "(a)", "^a", "a$", "", "[]", r"\w*", r"\b", r"\W",
            "a{2}",
            "[a]b]", "(?i)a", "[", "\\", "[[:no:]]", "[z-a]", "a?",
        )],
    ],
)  # fmt: skip
def test_a_pattern_is_a_literal_or_a_set_of_characters(expression, wanted):
    assert read_pattern(expression) == wanted


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            layers.TextVectorization(vocabulary=["a"], split="character", name="tokens"),
            "UnicodeDecode of layer 'tokens'.*split the texts outside",
        ),
        (
            layers.Hashing(8, name="bins"),
            "StringToHashBucketFast of layer 'bins'.*StringLookup",
        ),
        (
            layers.StringLookup(vocabulary=["a"], num_oov_indices=2, name="words"),
            "StringToHashBucketFast of layer 'words'.*StringLookup",
        ),
        (
            layers.TextVectorization(
                vocabulary=["a"],
                standardize=lambda text: tf.strings.regex_replace(text, "[^a-z]", ""),
                name="tokens",
            ),
            r"StaticRegexReplace of layer 'tokens'.*a literal or a set of characters",
        ),
    ],
)
def test_what_onnx_cannot_do_with_texts_is_refused_with_what_would_do(layer, message):
    text = keras.Input((1,), dtype="string", name="text")
    inference = trace_inference(keras.Model(text, layer(text)))
    with pytest.raises(ExportError, match=message):
        convert_to_onnx(inference, {})


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.Hashing(8, name="bins"), "StringToHashBucketFast of layer 'bins'.*StringLookup"),
        (layers.Identity(), "Give samples with --samples"),
    ],
)
def test_samples_are_asked_for_only_if_onnx_can_express_the_model(layer, message, tmp_path):
    text = keras.Input((1,), dtype="string", name="text")
    with pytest.raises(ExportError, match=message):
        export_bundle(keras.Model(text, layer(text)), tmp_path, "m")


@pytest.fixture(scope="module")
def texts_bundle(tmp_path_factory):
    """A classifier of texts, exported without samples. Tests must not change it."""
    layer = layers.TextVectorization(output_sequence_length=6, standardize="lower")
    layer.adapt(CORPUS)
    text = keras.Input((1,), dtype="string", name="text")
    tokens = layers.Embedding(layer.vocabulary_size(), 4, mask_zero=True)(layer(text))
    answer = layers.Dense(2, "softmax", name="probabilities")
    model = keras.Model(text, answer(layers.GlobalAveragePooling1D()(tokens)))
    folder = tmp_path_factory.mktemp("texts")
    facts = ModelFacts(labels=("bad", "good"))
    return model, export_bundle(model, folder, "reviews", facts, options=WITHOUT_INT8)


def test_a_model_of_texts_is_exported_without_samples_verified_and_loaded(texts_bundle):
    model, bundle = texts_bundle
    assert all(check.passed for check in verify_bundle(bundle.parent))
    predictor = Predictor.load(bundle)
    assert (predictor.manifest.opset, predictor.manifest.lowest_onnxruntime) == (20, "1.17")
    assert predictor.manifest.preprocessing[0].startswith("TextVectorization(")
    texts = np.array([["The cat"], ["don't stop me now, école"]])
    received = predictor.predict(texts).probabilities
    np.testing.assert_allclose(received, np.asarray(model(tf.constant(texts))), atol=1e-6)


def recurrent():
    """A model that takes an empty text only beside one with words."""
    layer = layers.TextVectorization(vocabulary=["a", "b"])
    text = keras.Input((), dtype="string", name="text")
    return keras.Model(text, layers.GRU(2)(layers.Embedding(4, 3, mask_zero=True)(layer(text))))


@pytest.mark.parametrize("samples", [None, {"text": np.array(["a", "", "b a", " "], object)}])
def test_texts_that_keras_takes_only_beside_others_are_left_out_of_the_proof(
    samples, tmp_path, caplog
):
    bundle = export_bundle(recurrent(), tmp_path, "m", samples=samples, options=WITHOUT_INT8)
    proof = Predictor.load(bundle).manifest.proof
    assert re.search(r", without \d+ that Keras takes only beside others$", proof.source)
    assert proof.samples == (62 if samples is None else 2)
    assert not caplog.messages  # nor does a library log what is no error


def test_a_model_of_texts_gets_an_int8_model(tmp_path):
    layer = layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=3)
    text = keras.Input((), dtype="string", name="text")
    vectors = layers.Flatten()(layers.Embedding(4, 8)(layer(text)))
    model = keras.Model(text, layers.Dense(2, "softmax")(vectors))
    options = ExportOptions(int8="always")
    bundle = export_bundle(model, tmp_path, "m", ModelFacts(labels=("x", "y")), options=options)
    assert Predictor.load(bundle, int8="always").precision == "int8"


def test_a_file_of_weighted_words_is_read_though_it_holds_their_weights_twice(tmp_path):
    layer = layers.TextVectorization(output_mode="tf_idf")
    layer.adapt(CORPUS)
    text = keras.Input((), dtype="string", name="text")
    model = keras.Model(text, layers.Dense(2)(layer(text)))
    model.save(tmp_path / "words.keras")
    texts = tf.constant([*CORPUS, "unseen"])
    np.testing.assert_array_equal(read_model(tmp_path / "words.keras")(texts), model(texts))


def test_texts_in_files_are_predicted(texts_bundle, run, tmp_path):
    _, bundle = texts_bundle
    (tmp_path / "reviews.txt").write_text("The cat sat\ndon't stop\n", "utf-8")
    (tmp_path / "reviews.csv").write_text('id,text\n1,"the cat, sat"\n2,stop\n', "utf-8")
    for name, lines in (("reviews.txt", (1, 2)), ("reviews.csv", (2, 3))):
        status, output, error = run("predict", bundle, tmp_path / name, "--json")
        assert status == 0, error
        answers = [json.loads(line) for line in output.splitlines()]
        assert [each["file"] for each in answers] == [f"{tmp_path / name}:{n}" for n in lines]
        assert all(set(each["probabilities"]) == {"bad", "good"} for each in answers)


def test_a_job_predicts_texts_in_files(texts_bundle, run, tmp_path):
    model, bundle = texts_bundle
    texts = [f"the cat {number}" for number in range(5000)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    rows = [f'{number},"{text}"' for number, text in enumerate(texts)]
    (tmp_path / "b.csv").write_text("\n".join(["id,text", *rows]))
    (tmp_path / "c.txt").write_bytes(b"stop\n" * 20_000 + b"\xff\n")
    output = tmp_path / "out.csv"
    status, _, error = run("predict", bundle, *sorted(tmp_path.iterdir()), "--output", output)
    assert (status, error) == (1, "")
    expected = [f"{value:.4f}" for value in np.asarray(model(tf.constant(texts)))[:, 1]]
    found = list(csv.DictReader(output.read_text().splitlines()))
    for name in ("a.txt", "b.csv"):
        lines = [line for line in found if line["file"] == str(tmp_path / name)]
        assert [line["row"] for line in lines] == [str(number) for number in range(5000)]
        assert [f"{float(line['good']):.4f}" for line in lines] == expected
    (failed,) = map(json.loads, (tmp_path / "out.errors.jsonl").read_text().splitlines())
    assert re.search(r"c.txt cannot be read.* The rows of .* from row \d+ on", failed["reason"])
    status, _, error = run("predict", bundle, tmp_path / "a.txt", "--key", "id", "-o", "x.csv")
    assert (status, "--key needs files with columns" in error) == (2, True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id\n1\n", "a.csv must have the columns text. Received: no 'text'."),
        ("a.txt", "", "a.txt must have at least one text. Received: an empty file."),
    ],
)
def test_files_without_texts_are_refused(texts_bundle, run, tmp_path, name, content, message):
    _, bundle = texts_bundle
    (tmp_path / name).write_text(content)
    status, output, error = run("predict", bundle, tmp_path / name)
    assert (status, output) == (2, "")
    assert message in error


def test_the_server_takes_texts_as_bytes(texts_bundle):
    model, bundle = texts_bundle
    client, stop = start(Settings(bundle.parent.parent, log_requests=False))
    try:
        tensor = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": ["the cat", "sat"]}
        status, answer = client.post("/v2/models/reviews/infer", {"inputs": [tensor]})
        assert status == 200
        expected = np.asarray(model(tf.constant([["the cat"], ["sat"]])))
        np.testing.assert_allclose(answer["outputs"][0]["data"], expected.ravel(), atol=1e-6)
        tensor["data"] = ["the cat", 1]
        status, answer = client.post("/v2/models/reviews/infer", {"inputs": [tensor]})
        assert (status, "data of text must hold BYTES" in answer["error"]) == (400, True)
    finally:
        stop()


def feature_space():
    kinds = {
        "city": "string_categorical",
        "rooms": "integer_categorical",
        "age": "float_discretized",
        "area": "float_normalized",
        "share": "float_rescaled",
        "price": "float",
    }
    space = keras.utils.FeatureSpace(
        kinds, "concat", crosses=[("city", "rooms"), ("rooms", "age")], crossing_dim=8
    )
    rows = {
        "city": ["Bonn", "Köln", "Bonn", "Ulm"],
        "rooms": [1, 2, 5, 2],
        **{name: [1.0, 2.5, 3.0, 9.0] for name in ("age", "area", "share", "price")},
    }
    space.adapt(tf.data.Dataset.from_tensor_slices(rows))
    return keras.Model(space.get_inputs(), space.get_encoded_features())


def test_a_feature_space_with_every_kind_and_crosses_is_exported_and_reads_csv(tmp_path):
    model = feature_space()
    bundle = export_bundle(model, tmp_path, "flats", options=WITHOUT_INT8)
    assert all(check.passed for check in verify_bundle(bundle.parent))
    predictor = Predictor.load(bundle)
    path = tmp_path / "flats.csv"
    path.write_text("city,rooms,age,area,share,price\nUlm,2,1.5,3,4,5\nRom,77,-1,0,0,0\n")
    inputs, _ = read_inputs([path], predictor.manifest)
    leaves = [tf.constant(inputs[tensor.name]) for tensor in model.inputs]
    tensors = keras.tree.pack_sequence_as(model.input, leaves)
    received = predictor.predict(inputs).arrays[0]
    np.testing.assert_allclose(received, np.asarray(model(tensors)), atol=1e-5)
    for text, message in (("2.5", "rooms must be of int32. Received: '2.5' in line 2"),
                          ("", "rooms must be of int32. Received: '' in line 2")):  # fmt: skip
        path.write_text(f"city,rooms,age,area,share,price\nUlm,{text},1.5,3,4,5\n")
        with pytest.raises(InputError, match=re.escape(message)):
            read_inputs([path], predictor.manifest)
    with path.open("a") as file:
        file.write("Rom,2,1e39,0,0,0\nUlm,2,1.5,3,4,5\n")
    (rows,) = read_rows([str(path)], predictor.manifest, "city", 1)  # as a batch job does
    assert [json.loads(f"{{{row_id}}}")["row"] for row_id in rows.ids] == [2]
    assert rows.inputs["price"].ravel().tolist() == [5]
    assert [json.loads(f"{{{row_id}}}")["key"] for row_id, _ in rows.failed] == ["Ulm", "Rom"]
    first, second = (reason for _, reason in rows.failed)
    assert message in first
    assert f"age must be of float32. Received: '1e39' in line 3 of {path}." in second


def test_hashes_of_unknown_values_are_refused_by_the_layer():
    first, other = (keras.Input((1,), dtype="string", name=name) for name in ("a", "b"))
    crossed = layers.HashedCrossing(8, name="cross")([first, other])
    model = keras.Model([first, other], crossed)
    with pytest.raises(ExportError, match="SparseCross of layer 'cross'.*ONNX cannot hash"):
        convert_to_onnx(trace_inference(model), {})
